"""The page: nothing it shows can act, nothing is fetched, and its figures are the card's."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests import rollouts_by_hand as by_hand
from tests.report import folders

from banty.errors import InputError, StoreError
from banty.evals import compare_cards, read_card
from banty.records import CallFault, CallResult, Message, Outcome, ToolCall
from banty.report import write_report
from banty.report.wording import interval
from banty.runs.folder import write_json

SCRIPT = "<script>alert(1)</script>"
PLANTED = f"\"'{SCRIPT}\x1b[31m\x9b\u202e\ud800 http://example.com"


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def check_harmless(page: str) -> Elements:
    found = Elements(page)
    assert {tag for tag, _ in found.tags} & {"script", "iframe", "object", "embed", "link", "img", "base"} == set()
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "action", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    policies = [given["content"] for tag, given in found.tags if given.get("http-equiv") == "Content-Security-Policy"]
    assert [str(policy).split(";")[:3] for policy in policies] == [
        ["default-src 'none'", " style-src 'unsafe-inline'", " img-src data:"]
    ]
    style = page.split("<style>")[1].split("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", page)
    for picture in folders.pictures(page):
        assert picture.get("aria-label")
        assert picture.findtext("title")
    return found


def planted_run(folder: Path) -> Path:
    """A run in which everything that comes from outside is planted."""
    recipe = {**folders.RL, "env": {"name": PLANTED, "options": {PLANTED: PLANTED}, "split": "train"}}
    run = folders.new_run(folder, json.loads(json.dumps(recipe).replace("\\ud800", "")))
    folders.add_steps(run, 4)
    for when, success in (("before", False), ("after", True)):
        call = CallResult(PLANTED, {PLANTED: PLANTED}, f"a result: {PLANTED}", "read", "tool")
        fault = CallFault("malformed", PLANTED, raw=PLANTED)
        message = Message("assistant", PLANTED, (ToolCall(PLANTED, {}),), (fault,), reasoning=PLANTED)
        turns = [
            dataclasses.replace(
                by_hand.turn(index), message=message, calls=(call,), observation=(Message("user", PLANTED),)
            )
            for index in range(2)
        ]
        told = [
            dataclasses.replace(
                by_hand.rollout(turns, of=by_hand.task(0, env=PLANTED)),
                opening=(Message("system", PLANTED), Message("user", PLANTED * 40)),
                outcome=Outcome(success, None, {PLANTED: 0.0}, PLANTED),
                policy=PLANTED,
            )
        ]
        card = folders.card_of(told, f"{PLANTED} {when}")
        habit = {"lapse": PLANTED, "lapses": 1, "chances": 2, "estimate": 0.5, "low": 0.1, "high": 0.9}
        data = json.loads(json.dumps({**card.data, "habits": {PLANTED: habit}}).replace("\\ud800", ""))
        data["identity"]["env"] = PLANTED.replace("\ud800", "")
        folders.add_eval(run / f"eval-{when}", told, None)
        write_json(run / f"eval-{when}" / "card.json", data)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "command": [PLANTED], "platform": PLANTED}))
    return run


def test_what_is_planted_is_shown_and_does_nothing(tmp_path: Path) -> None:
    page = write_report(planted_run(tmp_path / "run")).read_text()
    found = check_harmless(page)
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert f"a result: \"'{SCRIPT}␛[31m\ufffd\ufffd" in found.text, "seen as it was written, controls as marks"


def test_a_whole_run(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    folders.add_both(run, "phrasings")
    written = write_report(run)
    assert written == run / "report.html"
    page = written.read_text()
    found = check_harmless(page)
    before, after = read_card(run / "eval-before"), read_card(run / "eval-after")
    for card in (before, after):
        for shown in (card.data["success"], *card.data["pass_hat"].values(), card.data["baselines"]["do-nothing"]):
            if shown is not card.data["pass_hat"]["1"]:
                assert interval(shown) in found.text.replace("\xa0", " ")
    comparison = compare_cards(before, after).to_json()
    assert f"difference {interval(comparison['difference'])}" in found.text
    assert comparison["verdict"] in found.text
    assert found.text.count("phrasings") >= 2
    assert "the mean over tasks" in found.text
    assert before.data["identity"]["tasks_sha256"] in found.text
    assert "This is one training seed." in found.text
    assert [one for one in run.iterdir() if one.name.endswith(".tmp")] == []
    for heading in ("Success", "Training", "Episodes", "Cost and speed", "How it was made"):
        assert f"<h2>{heading}</h2>" in page
    assert "<h2>Habits</h2>" not in page, "these cards have none"


def test_dots_are_where_the_card_says(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    card = read_card(run / "eval-after").data["success"]
    strip = next(one for one in folders.pictures(write_report(run).read_text()) if one.get("class") == "strip")
    mark = next(group for group in strip.iter("g") if group.get("class") == "after")
    circle, line = mark.find("circle"), mark.find("line")
    assert circle is not None
    assert line is not None
    places = [float(str(place).rstrip("%")) for place in (circle.get("cx"), line.get("x1"), line.get("x2"))]
    assert places == pytest.approx([2 + 96 * card[name] for name in ("estimate", "low", "high")], abs=0.01)


def test_habits_show_their_words_and_the_greatest_change_first(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    for when, rates in (("before", (0.5, 0.4)), ("after", (0.4, 0.0))):
        card = json.loads((run / f"eval-{when}" / "card.json").read_text())
        card["habits"] = {
            name: {"lapses": 1, "chances": 9, "estimate": rate, "low": 0.0, "high": 0.9}
            for name, rate in zip(("haste", "lookup"), rates, strict=True)
        }
        card["habits"]["lookup"]["lapse"] = "skips the look-up"
        write_json(run / f"eval-{when}" / "card.json", card)
    text = Elements(write_report(run).read_text()).text
    assert text.index("skips the look-up") < text.index("haste")
    assert "before 1 of 9, after 1 of 9" in text
    assert "0.400 [0.000, 0.900]" in text


def test_what_errors_took_away_is_said(tmp_path: Path) -> None:
    told = folders.rollouts([[1, None], [0, 1]])
    folder = folders.add_eval(tmp_path / "eval", told, folders.card_of(told, "nano"))
    text = Elements(write_report(folder).read_text()).text
    assert "pass^2 is not known: 1 of 2 tasks lack scored trials." in text
    assert "3 scored, 1 excluded (1 simulator)" in text


def test_an_evaluation_has_no_training_part(tmp_path: Path) -> None:
    told = folders.rollouts(folders.AFTER)
    folder = folders.add_eval(tmp_path / "eval", told, folders.card_of(told, "nano"))
    page = write_report(folder).read_text()
    check_harmless(page)
    assert "<h2>Training</h2>" not in page
    assert "training seed" not in page
    assert "<h3>Failed</h3>" in page
    assert "<h3>Solved</h3>" in page
    alone = tmp_path / "sent"
    alone.mkdir()
    (alone / "card.json").write_text((folder / "card.json").read_text())
    assert "<h2>Success</h2>" in write_report(alone).read_text(), "a card that was sent without its folder"


def test_runs_with_little_in_them(tmp_path: Path) -> None:
    empty = folders.new_run(tmp_path / "empty")
    check_harmless(write_report(empty).read_text())
    tuning = folders.new_run(tmp_path / "tuning", folders.SFT)
    folders.add_steps(tuning, 3, "sft")
    page = write_report(tuning).read_text()
    check_harmless(page)
    assert "<figcaption>Loss</figcaption>" in page
    assert "Success of training episodes" not in page
    assert "<h2>Success</h2>" not in page
    assert "<h2>Episodes</h2>" not in page


def test_what_is_damaged_is_left_out_and_said(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "rollout/succ\n[1]\n\xff\xfe\n{"no": 1}\n{"step": 5, "rollout/turns": "many"}\n')
    (run / "eval-before" / "card.json").write_text("{")
    (run / "engine.json").write_text("{")
    part = next((run / "eval-after" / "rollouts").glob("*/turns.parquet"))
    part.write_bytes(b"nothing")
    page = write_report(run).read_text()
    text = check_harmless(page).text
    assert "4 lines of metrics.jsonl are damaged and left out." in text
    assert "is not a result card" in text
    assert "engine.json is damaged" in text
    assert "Episodes cannot be shown" in text
    assert "no gain is shown" in text


@pytest.mark.parametrize("number", ["1" * 400, "1e308", "-1e308", "1e16"])
def test_numbers_no_run_has_are_left_out(tmp_path: Path, number: str) -> None:
    run = folders.whole_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f'{{"step": 4, "rollout/success": {number}, "time/step_s": {number}}}\n{{"step": {"9" * 12}}}\n')
        file.write("[" * 100_000 + "\n")
    (run / "engine.json").write_text("[" * 100_000)
    text = check_harmless(write_report(run).read_text()).text
    assert "2 lines of metrics.jsonl are damaged and left out." in text
    assert "engine.json is damaged" in text


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no report; name another file"):
        write_report(run, tmp_path / "pipe")


def test_a_card_with_holes_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    card = json.loads((run / "eval-after" / "card.json").read_text())
    kept = {name: card[name] for name in ("format", "identity", "success", "tasks")}
    write_json(run / "eval-after" / "card.json", {**kept, "habits": "none", "cost": None, "pass_at": {"2": 7}})
    check_harmless(write_report(run).read_text())


def test_where_it_is_written(tmp_path: Path) -> None:
    run = folders.whole_run(tmp_path / "run")
    other = tmp_path / "page.html"
    assert write_report(run, other) == other
    assert write_report(run, other) == other, "its own page is replaced"
    with pytest.raises(InputError, match="is a folder"):
        write_report(run, tmp_path)
    with pytest.raises(InputError, match="is no report"):
        write_report(run, run / "recipe.json")
    with pytest.raises(StoreError, match="could not write"):
        write_report(run, tmp_path / "nowhere" / "page.html")
    with pytest.raises(InputError, match="is not a run folder"):
        write_report(run / "eval-after" / "rollouts")
