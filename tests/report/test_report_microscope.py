"""The microscope's page: what it shows is the look's, and nothing planted in a rollout can act."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from tests import rollouts_by_hand as by_hand
from tests.microscope.test_microscope_look import group
from tests.report.test_report_page import PLANTED, SCRIPT, check_harmless

from banty.credit import CreditSpec
from banty.errors import InputError
from banty.microscope import Lens, look
from banty.records import CallFault, CallResult, Message, Outcome, Rollout, ToolCall
from banty.report import write_look
from banty.rubrics import TurnLabel

SPECS = (CreditSpec(estimator="hybrid"), CreditSpec())


def page_of(folder: Path, rollout: Rollout, rollouts: list[Rollout], lens: Lens) -> str:
    return write_look(look(rollout, rollouts, lens), folder / "page.html").read_text()


def test_a_script_planted_in_a_tool_result_stays_text(tmp_path: Path) -> None:
    call = CallResult(PLANTED, {PLANTED: PLANTED}, f"a result: {PLANTED}", "read", "tool")
    fault = CallFault("malformed", PLANTED, raw=PLANTED)
    message = Message("assistant", PLANTED, (ToolCall(PLANTED, {}),), (fault,), reasoning=PLANTED)
    members = [
        dataclasses.replace(
            one,
            rollout_id=f"{PLANTED}{one.trial}",
            group_id=PLANTED,
            policy=PLANTED,
            opening=(Message("system", PLANTED), Message("user", PLANTED * 40)),
            outcome=Outcome(bool(one.outcome.success), None, {PLANTED: 0.0}, PLANTED),
            turns=tuple(
                dataclasses.replace(turn, message=message, calls=(call,), observation=(Message("user", PLANTED),))
                for turn in one.turns
            ),
        )
        for one in group()
    ]
    asked = by_hand.turn(3, actor=PLANTED, trainable=False)
    members[0] = dataclasses.replace(members[0], turns=(*members[0].turns, asked))
    labels = [TurnLabel(PLANTED, 0.0, 1.0, PLANTED)] * 3
    lens = Lens(SPECS, labels=labels, decode=lambda one: PLANTED, trainer={0: [-0.5]}, notes=[PLANTED])
    page = page_of(tmp_path, members[0], members, lens)
    found = check_harmless(page)
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert f"a result: \"'{SCRIPT}␛[31m\ufffd\ufffd" in found.text
    assert {tag for tag, _ in found.tags} & {"form", "button", "textarea"} == set()


def test_every_turn_has_its_credit_reasons_and_tokens(tmp_path: Path) -> None:
    members = group()
    labels = [TurnLabel(tier, 0.0, 1.0, "because") for tier in ("gold", "read", "message")]
    lens = Lens(SPECS, labels=labels, decode=lambda one: f"word{one}\n", trainer={1: [-0.1, -0.25]})
    seen = look(members[0], members, lens)
    page = page_of(tmp_path, members[0], members, lens)
    found = check_harmless(page)
    for turn in seen.turns:
        assert turn.label is not None
        assert turn.label.tier in found.text
        assert f'id="turn-{turn.turn.index}"' in page
        for credit in turn.credits:
            assert f"= {credit.reason}" in found.text
    hints = [str(given.get("title")) for tag, given in found.tags if tag == "span" and given.get("title")]
    assert "id 1\ntrained\nsampler -0.1000 (p 0.905)\ntrainer -0.1000\ndrift 0" in hints
    assert "id 2\ntrained\nsampler -0.2000 (p 0.819)\ntrainer -0.2500\ndrift −5.0e-02" in hints
    assert "id 9\nmask 0" in hints
    assert "word2⏎" in found.text


def test_colours_are_the_advantages_and_the_largest_is_full(tmp_path: Path) -> None:
    members = group()
    seen = look(members[0], members, Lens(SPECS))
    page = page_of(tmp_path, members[0], members, Lens(SPECS))
    for estimate in seen.estimates:
        values = [value for row in estimate.group for value in row]
        largest = max(values, key=abs)
        assert f"{largest:+.2f}".replace("-", "−") in page
    cells = re.findall(r'<td class="cell (\w+)">(?:<a[^>]*>)?([+−\d.]+)', page)
    assert len(cells) == sum(len(row) for one in seen.estimates for row in one.group)
    for tone, figure in cells:
        assert tone[0] == {"+": "p", "−": "n", "0": "z"}[figure[0]]
    assert {"p4", "n4"} & {tone for tone, _ in cells}
    strips = re.findall(r'<div class="strip (x-\w+ y-\w+)">', page)
    assert len(strips) == 3


def test_ids_are_shown_where_nobody_knows_the_text(tmp_path: Path) -> None:
    members = group()
    text = check_harmless(page_of(tmp_path, members[0], members, Lens(SPECS))).text
    assert "sampled, one by one" in text
    assert "2 tokens seen before it" in text


def test_a_rollout_without_credit_is_still_a_page(tmp_path: Path) -> None:
    errored = by_hand.rollout([by_hand.turn(0)], trial=9, cause="simulator")
    found = check_harmless(page_of(tmp_path, errored, [*group(), errored], Lens(SPECS)))
    assert "No advantage: it is not scored: errored (simulator)" in found.text
    assert "Colour by" not in found.text
    with pytest.raises(InputError, match="is a folder"):
        write_look(look(errored, [errored], Lens(SPECS)), tmp_path)
