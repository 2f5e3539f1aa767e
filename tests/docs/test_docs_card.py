"""What docs/card.md says of the command and of the JSON is so."""

from __future__ import annotations

import re
from pathlib import Path

from tests.evals import evaluations as made
from typer.testing import CliRunner

from banty.cli.app import app
from banty.evals.dependability import FORMAT, Price, TaskFacts, dependability_card, read_results

PAGE = (Path(__file__).parents[2] / "docs" / "card.md").read_text()


def keys_of(heading: str) -> set[str]:
    """The keys in the first column of the table after a heading."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE.split(heading)[1].split("\n\n")[1 if heading == "Of a user:" else 2], re.M)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def test_every_key_of_the_json_is_on_the_page_and_no_other(tmp_path: Path) -> None:
    results = read_results([made.write(tmp_path / "a", made.episodes([[1, 0], [1, 1]]))])
    card = dependability_card(results, TaskFacts(), prices=[Price("there", 1.0, 2.0)])
    assert f"The format is `{FORMAT}`." in PAGE
    assert keys_of("## The JSON") == set(card)
    assert keys_of("Of a user:") == set(card["users"][0])
    for name in ("noise", "episodes"):
        for key in card["users"][0][name]:
            assert f"`{key}`" in PAGE or key in ("num_tasks", "num_repeated", "wanted_effect"), key


def test_every_option_it_names_is_one() -> None:
    shown = CliRunner().invoke(app, ["card", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    options = set(re.findall(r"(--[a-z][a-z-]+)", PAGE))
    assert options == {"--out", "--price", "--audit", "--json"}
    assert not [option for option in options if option not in shown]
