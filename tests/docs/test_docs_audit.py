"""What docs/audit.md says is what the audit does."""

from __future__ import annotations

import re
from pathlib import Path

from tests.evals.audited import strangers, tasks
from typer.testing import CliRunner

from banty.cli.app import app
from banty.evals.audit import audit

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()


def test_the_table_names_every_measure_in_its_order() -> None:
    result = audit(tasks("a", strangers(3)), tasks("b", strangers(2, 10)))
    rows = re.findall(r"^\| (\w+) \|", PAGE, re.M)
    assert rows[0] == "measure"
    assert rows[1:] == [one.measure for one in result.findings]


def test_the_json_is_as_it_says() -> None:
    result = audit(tasks("a", strangers(3)), tasks("b", strangers(2, 10))).to_json()
    said = set(re.findall(r'"(\w+)"', PAGE.partition("`audit.json`: ")[2].partition("`. `level`")[0]))
    assert said == {*result, *result["overlaps"][0]}


def test_every_option_it_names_is_one() -> None:
    shown = CliRunner().invoke(app, ["audit", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    options = set(re.findall(r"[` ](--?[a-z-]+)[ `]", PAGE))
    assert {"--out", "-o"} <= options
    assert not [option for option in options if option not in shown]
