"""The text that the tokenizer of the nano models is trained on, beside the airline's own conversations.

    python recipes/nano/corpus.py

Writes `sql.txt`, `python.txt`, `mail.txt` and `documents.txt` into `recipes/nano/corpus/`: conversations of three desks
and plain prose, all drawn from the pools in `corpus.toml` with a fixed seed, so that a second run writes the same
bytes. The text is for counting pieces only: it has the form of such work, and means nothing.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEED = 2048
SIZE = 85_000  # characters a file, up to the end of its last conversation
FOLDER = Path(__file__).parent / "corpus"
POOLS: dict[str, dict[str, Any]] = tomllib.loads(FOLDER.with_suffix(".toml").read_text(encoding="utf-8"))
YEARS = range(2018, 2025)
PROMPT_SHARE = 0.1  # of the conversations start with the system turn
PLAIN_SHARE = 0.6  # of the conversations go without markers, else the markers would be half of the text

_SLOT = re.compile(r"\$([A-Za-z]+\d?)")
_AN = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])(?!us[eiu]|uni|eu|one)")
_CALL = re.compile(r"<tool_call>\n(.*)\n</tool_call>")
_MARKERS = re.compile(r"<\|im_start\|>\w+\n|<\|im_end\|>|</?tool_response>\n?")


def inflect(word: str, ending: str) -> str:
    """The word with `s`, `ed` or `ing`, by the regular rules."""
    if ending == "ing":
        return f"{word[:-1] if word.endswith('e') else word}ing"
    stem = f"{word[:-1]}i" if word.endswith("y") and word[-2] not in "aeo" else word
    if ending == "ed":
        return f"{stem}d" if stem.endswith("e") else f"{stem}ed"
    return f"{stem}es" if stem != word or word.endswith(("s", "x", "ch", "sh")) else f"{word}s"


class Writer:
    """Fills templates: `$noun` is drawn anew each time, `$noun1` once a text, `$Noun` capitalised, `$nouns` inflected.

    What one conversation fixes (`given`) goes first, then numbers, times and invented names, then the pools.
    """

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.given: dict[str, str] = {}
        self.pools: dict[str, list[str]] = {name: words.split() for name, words in POOLS["words"].items()}
        for name, phrases in POOLS["phrases"].items():
            self.pools[name] = " ".join(phrases.split()).split(" | ")
        below = self.rng.randrange
        self.makers: dict[str, Callable[[], str]] = {
            "digit": lambda: str(below(1, 10)),
            "count": lambda: str(below(12, 10 ** self.rng.choice((2, 3, 4)))),
            "dec": lambda: f"{below(1, 99000) / 1000:.{self.rng.choice((1, 2, 3, 3))}f}",
            "pct": lambda: self.rng.choice((str(below(1, 100)), f"{below(1, 1000) / 10:.1f}")),
            "year": lambda: str(self.rng.choice(YEARS)),
            "time": lambda: f"{below(8, 20):02}:{self.rng.choice(('00', '15', '30', '45'))}",
            "date": lambda: f"{self.rng.choice(YEARS)}-{below(1, 13):02}-{below(1, 29):02}",
            "company": lambda: f"{self._syllables()} {self.draw('suffix')}",
        }

    def fill(self, template: str) -> str:
        bound: dict[str, str] = {}

        def value(match: re.Match[str]) -> str:
            slot = match.group(1)
            if slot not in bound or not slot[-1].isdigit():
                bound[slot] = self.draw(slot.rstrip("0123456789"))
            return bound[slot]

        return _AN.sub(r"\1n ", _SLOT.sub(value, template))

    def draw(self, slot: str) -> str:
        """The text of a slot: `draw("noun")` is one noun."""
        if slot in self.given:
            return self.given[slot]
        name = slot[0].lower() + slot[1:]
        if name in self.makers:
            text = self.makers[name]()
        elif name in self.pools:
            text = self.fill(self.rng.choice(self.pools[name]))
        else:
            ending = next(end for end in ("s", "ed", "ing") if name.endswith(end) and name[: -len(end)] in self.pools)
            text = inflect(self.draw(name[: -len(ending)]), ending)
        return text if slot == name else text[0].upper() + text[1:]

    def lines(self, template: str, fewest: int, most: int, between: str = "\n") -> str:
        return between.join(self.fill(template) for _ in range(self.rng.randint(fewest, most)))

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def opening(self, desk: str, request: str) -> str:
        """The first turns: sometimes the policy and one line a tool, always the request."""
        policy, *tools = POOLS["prompts"][desk].split("\n> ")
        prompt = "\n".join([" ".join(policy.split()), *tools]).strip()
        return (turn("system", prompt) if self.chance(PROMPT_SHARE) else "") + turn("user", request)

    def _syllables(self) -> str:
        parts = ["".join(map(self.rng.choice, ("bcdfghklmnprstvz", "aeiou"))) for _ in range(self.rng.randint(2, 3))]
        return ("".join(parts) + self.rng.choice(("", "", "n", "x", "r", "l"))).capitalize()


def turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def said(tool: str, **arguments: object) -> str:
    """An agent's call."""
    body = json.dumps({"name": tool, "arguments": arguments}, ensure_ascii=False)
    return turn("assistant", f"<tool_call>\n{body}\n</tool_call>")


def call(tool: str, result: str, **arguments: object) -> str:
    """An agent's call and the turn that answers it."""
    return said(tool, **arguments) + turn("user", f"<tool_response>\n{result}\n</tool_response>")


def plain(conversation: str) -> str:
    """The conversation without its markers: of a call, the arguments as JSON."""

    def arguments(match: re.Match[str]) -> str:
        values = json.loads(match.group(1))["arguments"].values()
        return ", ".join(json.dumps(value, ensure_ascii=False) for value in values)

    return _MARKERS.sub("", _CALL.sub(arguments, conversation))


class Company:
    """Four tables of three metrics over four years, under names drawn anew for every company."""

    def __init__(self, w: Writer) -> None:
        self.w = w
        self.tables: dict[str, dict[str, str]] = {}  # of a table: plain words -> column
        for names, metrics in w.rng.sample(sorted(POOLS["topics"].items()), 4):
            pairs = [pair.split(": ") for pair in " ".join(metrics.split()).split("; ")]
            chosen = {plain: w.rng.choice(columns.split()) for plain, columns in w.rng.sample(pairs, 3)}
            self.tables[w.rng.choice(names.split())] = chosen
        prefix, first = "FY" if w.chance(0.3) else "", w.rng.choice(YEARS[:4])
        self.period = w.rng.choice(("fiscal_year", "period")) if prefix else "year"
        self.years = [f"{prefix}{first + k}" for k in range(5)]  # the last is not in the tables

    def label(self, year: str) -> str:
        return f"'{year}'" if year.startswith("FY") else year

    def info(self, table: str) -> str:
        shown = f"{table}: {', '.join([self.period, *self.tables[table].values()])}\n{self.w.draw('sqlabout')}"
        return call("get_table_info", f"{shown}\n{self.period}: {', '.join(self.years[:4])}", table=table)

    def query(self, columns: str, table: str, where: str, *rows: str) -> str:
        """The query and its rows; `where` goes on after the period column."""
        text = f"select {columns} from {table} where {self.period} {where}"
        return call("sql_query", "\n".join([columns.replace(", ", " | "), *rows]), query=text)

    def start(self, table: str, new: str) -> str:
        """How the agent finds its table: mostly by listing, at times after an error."""
        listing, column = ", ".join(self.tables), next(iter(self.tables[table].values()))
        where = f"where {self.period} = {self.label(new)}"
        if self.w.chance(0.25):
            names = [name for names in POOLS["topics"] for name in names.split() if name not in self.tables]
            guess = self.w.rng.choice(names)
            error = f"Error: unknown table {guess}. Tables: {listing}"
            return call("sql_query", error, query=f"select {column} from {guess} {where}") + self.info(table)
        looks = call("list_tables", listing) + self.info(table)
        if self.w.chance(0.8):
            return looks
        wrong = self.w.rng.choice([name for other in self.tables.values() for name in other.values() if name != column])
        mistakes = {
            f"select * from {table} {where}": "Error: name the columns instead of *.",
            f"select {column} from {table}": "Error: the query needs a where clause.",
            f"select {wrong} from {table} {where}": f"Error: unknown column {wrong} in {table}.",
            f"select {column} {table} {where}": f'Error: syntax error near "{table}".',
        }
        text, error = self.w.rng.choice(list(mistakes.items()))
        return looks + call("sql_query", error, query=text)


def worksheet(w: Writer) -> str:
    """Tables with their columns, and queries on them: what makes the names common enough to become pieces."""
    lines = []
    for names, metrics in w.rng.sample(sorted(POOLS["topics"].items()), 5):
        table = w.rng.choice(names.split())
        columns = [column for pair in metrics.split(";") for column in pair.split(": ")[1].split()]
        chosen = ", ".join(w.rng.sample(columns, w.rng.randint(2, 8)))
        query = f"select {chosen} from {table} where year {w.rng.choice(('=', '>=', '<'))} {w.draw('year')}"
        lines.append(query if w.chance(0.4) else f"table {table}: year, {chosen}")
    return "\n".join(lines) + "\n\n"


def sql_desk(w: Writer) -> str:
    """A question about one company: look around, query, compute, submit; or a worksheet."""
    if w.chance(0.6):
        return worksheet(w)
    firm = Company(w)
    (table, metrics), (other, others) = w.rng.sample(list(firm.tables.items()), 2)
    (plain, column), (second, column_b) = w.rng.sample(list(metrics.items()), 2)
    forms = ["lookup", "missing", "change", "growth", "ratio", "sum", "highest", "lowest"]
    if multi := w.chance(0.4):
        second, column_b = w.rng.choice(list(others.items()))
        forms = ["ratio", "difference"]
    form = w.rng.choice(forms)
    old, new = sorted(w.rng.sample(firm.years[:4], 2))
    if form == "missing":
        new = firm.years[4]
    a, b = (w.rng.randint(12, 8999) for _ in range(2))
    before, now = firm.label(old), firm.label(new)
    w.given = {"plain": plain, "second": second, "company": w.draw("company"), "old": old, "new": new}
    w.given["period"] = firm.period
    answer, steps = str(a), firm.query(column, table, f"= {now}", str(a))
    if form == "missing":
        answer, steps = "not available", firm.query(column, table, f"= {now}", "(no rows)")
    elif form in ("change", "growth"):
        answer = str(b - a) if form == "change" else f"{(b - a) / a:.3f}"
        rows = f"{old} | {a}", f"{new} | {b}"
        steps = firm.query(f"{firm.period}, {column}", table, f"in ({before}, {now})", *rows)
        steps += call("calculate", answer, expression=f"{b} - {a}" if form == "change" else f"({b} - {a}) / {a}")
    elif form in ("ratio", "difference"):
        answer, sign = (f"{a / b:.3f}", "/") if form == "ratio" else (str(a - b), "-")
        steps += firm.info(other) if multi else ""
        steps += firm.query(column_b, other if multi else table, f"= {now}", str(b))
        steps += call("calculate", answer, expression=f"{a} {sign} {b}")
    elif form == "sum":
        answer = str(a + b)
        steps = firm.query(f"sum({column})", table, f"between {before} and {now}", answer)
    elif form in ("highest", "lowest"):
        order = f"order by {column} {'desc' if form == 'highest' else 'asc'} limit 1"
        answer, steps = new.removeprefix("FY"), firm.query(firm.period, table, f">= {before} {order}", new)
    asked = w.draw("sqllookup" if form == "missing" else f"sql{form}")
    return w.opening("sql", asked) + firm.start(table, new) + steps + said("submit_answer", answer=answer)


def python_desk(w: Writer) -> str:
    """A question about papers: the root's session, then perhaps one of its leaves."""
    (question, fact, keyword), (_, other, _) = (w.draw("fact").split(" => ") for _ in range(2))
    snippet, at = w.lines("$paperline", 1, 2, " "), w.rng.randrange(100, 2000, 50)
    texts = [f"{snippet} {fact}", f"{other} {w.draw('paperline')}"]
    w.given = {"question": question, "fact": fact, "keyword": keyword, "snippet": snippet, "i": str(w.rng.randrange(9))}
    w.given |= {"at": str(at), "to": str(at + w.rng.choice((200, 300, 400)))}
    w.given |= {"texts": json.dumps(texts), "answers": json.dumps([fact, "none"])}
    session = POOLS["session"]

    def run(kind: str) -> str:
        code, shown = w.rng.choice(session[kind]).split(" => ")
        return call("python", w.fill(shown), code=w.fill(code))

    steps = "".join(map(run, ["looks"] * w.rng.choice((0, 1, 1, 2)) + ["gathers", "asks"]))
    steps += said("python", code=w.fill(w.rng.choice(session["finals"])))
    text, answer = w.rng.choice(list(zip(texts, (fact, "none"), strict=True)))
    leaf = turn("user", f"{question}\n\n{text}") + turn("assistant", answer)
    return w.opening("python", question) + steps + (leaf if w.chance(0.6) else "")


def mail_desk(w: Writer) -> str:
    """A request about mails and dates: look, ask, act or hand off."""
    first, last, start, date = (w.draw(slot) for slot in ("first", "last", "time", "date"))
    name = f"{first}.{last}" if w.chance(0.6) else f"{first[0]}{last}"
    address = f"{name}@{w.draw('company').split()[0]}.{w.draw('maildomain')}".lower()
    title, topic, number = w.draw("eventtitle"), w.draw("subject"), w.fill("m$digit$digit$digit")
    w.given = {"person": first, "family": last, "start": start, "end": f"{int(start[:2]) + 1:02}{start[2:]}"}
    w.given |= {"date": date, "title": title, "topic": topic, "address": address}
    body = f"{w.fill('$greeting $first')},\n\n{w.lines('$mailline', 2, 4, ' ')}\n\n{w.draw('closing')},\n{first}"
    mail = w.fill(f"From: $person $family <$address>\nTo: $first $last\nSubject: $topic\nDate: $date\n\n{body}")
    hits = f"{number} | $person $family | $topic" + (
        "\nm$digit$digit$digit | $first $last | $subject" * w.rng.randrange(3)
    )
    found = call("search_mail", w.fill(hits), query=w.draw("mailquery")) + call("read_mail", mail, id=number)
    day = call("list_events", w.lines("$time $eventtitle", 1, 4) if w.chance(0.8) else "no events", date=date)
    known = f"{first} {last}: {address}" if w.chance(0.8) else f"Error: no contact named {last}."
    contact = call("find_contact", known, name=w.rng.choice((first, last, f"{first} {last}")))
    yes = call("ask_user", w.draw("mailanswer"), question=w.draw("mailquestion"))
    event: dict[str, object] = {"title": title, "date": date, "start": start, "end": w.given["end"]}
    event |= {"attendees": [address]} if w.chance(0.6) else {}
    create = call("create_event", w.draw("mailcreated"), **event)
    refused = call("hand_off", "A person takes over.", reason=w.draw("mailreason"))
    kinds = {  # of a request: what is done, and how it is answered
        "book": (contact + day + yes + create, "booked"),
        "add": (found + day + yes + create, "booked"),
        "read": (found, "told"),
        "agenda": (day, "free"),
        "contact": (contact, "found"),
        "refuse": (found + refused if w.chance(0.4) else refused, "passed"),
    }
    kind, (steps, close) = w.rng.choice(list(kinds.items()))
    thanks = turn("user", w.draw("goodbye")) if w.chance(0.3) else ""
    return w.opening("mail", w.draw(f"mail{kind}")) + steps + turn("assistant", w.draw(f"mail{close}")) + thanks


def document(w: Writer) -> str:
    """One piece of a report, policy, paper or note."""
    columns, cells = ("$year", "$Adj $noun", "$Measured", "$Month"), ("$count", "$dec", "$pct %")
    rows = ["| $Noun | " + " | ".join(w.rng.sample(columns, 3)) + " |", "| --- | --- | --- | --- |"]
    rows += ["| $Noun | " + " | ".join(w.rng.choices(cells, k=3)) + " |" for _ in range(w.rng.randint(2, 5))]
    paragraph = w.lines("$sentence", 3, 7, " ")
    parts = (
        f"# $heading\n\n{paragraph}\n\n{w.lines('$sentence', 2, 6, ' ')}",
        f"{paragraph}\n\nTable $digit: $Nouns by $noun, $year\n" + "\n".join(rows),
        f"## $digit. $heading\n\n{w.lines('$rule', 4, 8, ' ')}",
        f"Abstract. {w.lines('$paperline', 4, 7, ' ')}",
        f"Note of $date, $place\n\n{paragraph}\n{w.lines('$bullet', 3, 6)}",
        f"$company: annual report for $year\n\n{paragraph}",
        f"{paragraph}\n\nReferences\n{w.lines('[$digit] $citation', 2, 3)}",
        paragraph,
    )
    return w.fill(f"{w.rng.choice(parts)}\n\n")


FILES: dict[str, Callable[[Writer], str]] = {
    "sql": sql_desk,
    "python": python_desk,
    "mail": mail_desk,
    "documents": document,
}


def build(name: str, size: int = SIZE) -> str:
    """The text of one file, of at least so many characters."""
    writer, parts, length = Writer(f"{SEED}:{name}"), list[str](), 0
    while length < size:
        writer.given = {}
        part = FILES[name](writer)
        parts.append(f"{plain(part)}\n" if "<|im_start|>" in part and writer.chance(PLAIN_SHARE) else part)
        length += len(parts[-1])
    return "".join(parts)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (FOLDER / f"{name}.txt").write_text(build(name), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
