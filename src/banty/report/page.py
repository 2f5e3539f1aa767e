"""The page: everything a folder says, through one template that escapes whatever it shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from banty.errors import InputError, StoreError
from banty.report import making, results, speed, training
from banty.report.episodes import chosen_episodes
from banty.report.headline import how_sampled, sentence
from banty.report.plots import scale_strip
from banty.report.source import Source, read_source
from banty.report.wording import MISSING, interval, number, seconds, visible
from banty.runs import write_text

if TYPE_CHECKING:
    from jinja2 import Template

FILE = "report.html"
BEGINNING = "<!doctype html><!-- banty report -->"


@dataclass(frozen=True)
class Tile:
    """A figure at the top of the page, and what it is."""

    what: str
    figure: str
    beside: str = ""


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the page of the run or evaluation in `folder` to `out`, or to its own `report.html`; where it is.

    A reader sees the old page or the new one. Raises InputError for a folder that is neither, and for an `out` that is
    a folder or holds anything but an earlier report; StoreError when the page cannot be written.
    """
    source = read_source(Path(folder))
    target = Path(out) if out is not None else source.path / FILE
    check_target(target)
    return write_text(target, _rendered(source))


def check_target(target: Path) -> None:
    """Raises InputError for what a page may not be written over, StoreError for what cannot be read."""
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file, such as {target / FILE}")
    if not target.exists():
        return
    try:
        beginning = target.read_bytes()[: len(BEGINNING.encode())] if target.is_file() else b""
    except OSError as error:
        raise StoreError(f"{target} cannot be replaced: {error.strerror or error}") from error
    if beginning != BEGINNING.encode():
        raise InputError(f"{target} is there and is no report; name another file")


def _rendered(source: Source) -> str:
    readings, unread = chosen_episodes(source)
    return template_of("page.html.jinja").render(
        beginning=BEGINNING,
        title=f"{source.name} on {source.env}" if source.env else source.name,
        kind=_KINDS.get(source.kind, "Run"),
        place=source.path.resolve().name,
        started=str(source.manifest.get("started") or "").replace("T", " ").replace("+00:00", " UTC"),
        headline=sentence(source),
        tiles=_tiles(source),
        notes=[*source.notes, *unread],
        cards=results.cards_of(source),
        success=results.success_rows(source),
        passes=results.pass_sheet(source),
        missing_passes=results.missing_passes(source),
        components=results.component_sheet(source),
        habits=results.habit_rows(source),
        scale=scale_strip(),
        charts=training.charts_of(source),
        curve_words=training.curve_words(source),
        trouble_words=training.trouble_words(source),
        metrics=training.metric_sheet(source),
        readings=readings,
        costs=making.cost_sheet(source),
        cost_words=making.cost_words(source),
        phases=training.phase_totals(source),
        speeds=speed.phase_sheet(source),
        lever=speed.lever_words(source),
        machine=making.machine_pairs(source),
        identity=making.identity_pairs(source),
        recipe=making.recipe_text(source),
        limits=making.limits_of(source),
    )


_KINDS = {"rl": "Reinforcement learning", "sft": "Fine-tuning", "eval": "Evaluation", "import": "Imported log"}


def _tiles(source: Source) -> list[Tile]:
    tiles = [
        Tile(
            f"{how_sampled(card)} success{'' if side == 'result' else ' ' + side}",
            number(card.success.estimate, 2),
            _ends(card.data["success"]),
        )
        for side, card in results.cards_of(source)
    ]
    if source.main.comparison is not None:
        found = source.main.comparison.to_json()
        estimate = found["difference"]["estimate"]
        figure = MISSING if estimate is None else f"{estimate:+.2f}".replace("-", "−")
        tiles.append(Tile(f"difference: {found['verdict']}", figure, _ends(found["difference"])))
    if source.rows:
        done = f"{source.steps_done}"
        if source.steps_planned and source.steps_planned != source.steps_done:
            done = f"{done} of {source.steps_planned}"
        took = source.total("time/step_s")
        tiles.append(Tile("updates" if source.kind == "sft" else "steps", done, seconds(took) if took else ""))
    return tiles


def _ends(data: Any) -> str:
    text = interval(data, 2)
    return text[text.index("[") :] if "[" in text else ""


@cache
def template_of(name: str) -> Template:
    """A template of this folder, which escapes whatever it is given."""
    import jinja2  # when a page is made, and not before: commands start without it

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # select_autoescape goes by the end of a name, and would leave *.html.jinja alone
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)
