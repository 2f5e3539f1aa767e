"""What docs/audit.md says is what the audit does."""

from __future__ import annotations

import re
from pathlib import Path

from tests.evals.audited import strangers, tasks
from typer.testing import CliRunner

from banty.cli.app import app
from banty.evals.audit import audit

COMMANDS = ("audit", "eval", "card")
PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()


def test_the_table_names_every_measure_in_its_order() -> None:
    result = audit(tasks("a", strangers(3)), tasks("b", strangers(2, 10)))
    rows = re.findall(r"^\| (\w+) \|", PAGE, re.M)
    assert rows[0] == "measure"
    assert rows[1:] == [one.measure for one in result.findings]


def test_the_json_is_as_it_says() -> None:
    result = audit(tasks("a", strangers(3)), tasks("b", strangers(2, 10))).to_json()
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE.partition("## The JSON")[2], re.M)
    said = {key: re.findall(r"`(\w+)`", told) for keys, told in rows for key in re.findall(r"`(\w+)`", keys)}
    assert set(said) == set(result)
    assert set(said["overlaps"]) == set(result["overlaps"][0])


def test_every_option_it_names_is_one() -> None:
    helps = (CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}) for name in COMMANDS)
    shown = "".join(each.output for each in helps)
    options = set(re.findall(r"[` ](--?[a-z-]+)[ `]", PAGE))
    assert {"--out", "-o"} <= options
    assert not [option for option in options if option not in shown]
