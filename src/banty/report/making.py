"""The sections about the run itself: what it cost, where it ran, how to make it again, what it does not say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from banty.evals import Card, user_of_card, user_words
from banty.report.results import Sheet, cards_of
from banty.report.source import Source
from banty.report.wording import MISSING, count, dollars, finite, number, seconds, table

Pairs = list[tuple[str, str]]


def cost_sheet(source: Source) -> Sheet:
    """Time, tokens and money of each part of the run."""
    rows = [_eval_cost(side, card) for side, card in cards_of(source)]
    for one in source.further:
        rows += [
            _eval_cost(f"{side}, {one.name}", card)
            for side, card in (("before", one.before), ("after", one.after))
            if card is not None
        ]
    if source.rows:
        spent, sampled = source.total("time/step_s"), source.total("tokens/sampled")
        tokens = sampled if sampled is not None else source.total("train/tokens")
        sampling = source.total("time/sample_s") if sampled is not None else source.total("time/train_s")
        prompt = count(source.total("tokens/prompt"))
        row = ("training", seconds(spent), count(tokens), prompt, _speed(tokens, sampling), MISSING)
        rows.insert(1 if source.main.before is not None else 0, row)
    return Sheet(("", "wall time", "tokens", "prompt tokens", "tokens/s", "price"), tuple(rows))


def cost_words(source: Source) -> str:
    """What the table's figures are."""
    said = ["An evaluation's wall time is that of its last sitting, where it was interrupted and resumed"]
    if source.kind == "sft":
        said.append("training counts the tokens it was trained on, over the time of its updates")
    elif source.rows:
        said.append("training counts sampled tokens, over the time it took to sample them")
    if table(source.recipe.get("policy")).get("type") == "habits":
        said.append("a habit policy's tokens are its decisions")
    return "; ".join(said) + "."


def machine_pairs(source: Source) -> Pairs:
    """Where it ran, and with what."""
    manifest, engine = source.manifest, source.engine
    policy = table(source.recipe.get("policy"))
    is_model = policy.get("type") == "model"
    pairs = [
        ("started", manifest.get("started")),
        ("CPU cores", manifest.get("num_cpus")),
        ("threads", engine.get("threads")),
        ("computes in", engine.get("dtype") or (policy.get("dtype") if is_model else None)),
        ("device", engine.get("device") or (policy.get("device") if is_model else None)),
        ("platform", manifest.get("platform")),
        ("Banty", " ".join(str(part) for part in (manifest.get("banty"), manifest.get("commit")) if part)),
        ("Python", manifest.get("python")),
        ("packages", ", ".join(f"{name} {at}" for name, at in table(manifest.get("packages")).items() if at)),
    ]
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]


def identity_pairs(source: Source) -> Pairs:
    """What was measured: tasks, grader, user, sampling."""
    pairs: Pairs = []
    command = source.manifest.get("command")
    if isinstance(command, list) and command:
        pairs.append(("command", "banty " + shlex.join(str(word) for word in command)))
    cards = [("", source.card), *((one.name, one.after or one.before) for one in source.further)]
    for name, card in cards:
        if card is not None:
            pairs += [(f"{name}: {what}" if name else what, value) for what, value in _identity(card)]
    for one in source.evaluations:
        if one.standing is not None and one.standing.audited:
            pairs.append((f"{one.name}: audit" if one.name else "audit", one.standing.reason))
    if source.data:
        tokens = f"{count(source.data.get('trained_tokens'))} trained tokens"
        pairs.append(("imitated", f"{count(source.data.get('num_samples'))} conversations, {tokens}"))
        pairs.append(("sha256 of what was imitated", str(source.data.get("sha256", MISSING))))
    return pairs


def recipe_text(source: Source) -> str:
    """The resolved recipe as JSON."""
    return json.dumps(source.recipe, indent=2, ensure_ascii=False)


def limits_of(source: Source) -> list[str]:
    """What the page does not show, said plainly."""
    said = []
    if cards_of(source):
        said.append(
            "Intervals are 95 % and clustered by task: they say how the result would vary over other tasks of the same "
            "kind and over draws of the sampler, for these very weights."
        )
    if source.is_import:
        said.append(
            "Nothing here was played again: verdicts, errors and effects are the log's own, as far as it says them, "
            "and what the import's options added."
        )
    elif not source.is_eval:
        said.append("This is one training seed. Nothing here says what another seed would have learned.")
    if any(one.comparison for one in source.evaluations):
        said.append(
            "The comparison is paired by task. Better and worse need an interval without zero, a small p-value and a "
            "difference no smaller than the minimum detectable effect; anything else is not resolved."
        )
    if cards_of(source):
        said.append(
            "Episodes that failed for reasons of the infrastructure are left out of every rate and counted beside it; "
            "figures under another grader, user or set of tasks cannot be compared with these."
        )
    if source.rows and source.kind == "rl":
        said.append(
            "Success while training is on training tasks, sampled by a policy that changes: it shows progress, and is "
            "no result."
        )
    said.append("The episodes shown were chosen by the rules stated beside them; a few episodes prove nothing.")
    return said


def _identity(card: Card) -> Pairs:
    identity = card.data["identity"]
    provenance, params = table(identity.get("provenance")), table(identity.get("params"))
    others = {name: value for name, value in provenance.items() if name != "grader" and not name.startswith("user")}
    temperature = finite(params.get("temperature"))
    tasks = f"{len(card.data['tasks'])} of {identity['env']} {identity['split']}, seed {identity['seed']}"
    return [
        ("tasks", f"{tasks}, {count(identity.get('num_trials'))} trials each"),
        ("sha256 of the tasks", str(identity["tasks_sha256"])),
        ("grader", str(provenance.get("grader", MISSING))),
        ("user", user_words(user_of_card(card.data))),
        *((name, str(value)) for name, value in others.items()),
        ("temperature", number(temperature, 2)),
        ("weights", str(table(identity.get("policy_details")).get("weights_sha256") or MISSING)),
    ]


def _eval_cost(side: str, card: Card) -> tuple[str, ...]:
    cost: Mapping[str, Any] = table(card.data.get("cost"))
    tokens, wall_s = cost.get("sampled_tokens"), finite(cost.get("wall_s"))
    name = "evaluation" if side == "result" else f"evaluation {side}"
    prompt, price = count(cost.get("prompt_tokens")), dollars(cost.get("usd"))
    return (name, seconds(wall_s), count(tokens), prompt, _speed(finite(tokens), wall_s), price)


def _speed(tokens: float | None, spent: float | None) -> str:
    return count(tokens / spent) if tokens is not None and spent else MISSING
