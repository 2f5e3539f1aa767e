"""`banty report`: a run or an evaluation as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from banty.cli.plain import visible
from banty.report import headline, write_report


def report(
    run: Annotated[str, typer.Argument(help="A run, finished or not, or an evaluation.")],
    out: Annotated[str, typer.Option(help="File to write; report.html in the run's folder if not given.")] = "",
) -> None:
    """Write a run as one self-contained page: the result, curves, habits, episodes to read, cost, how it was made.

    Examples:

        banty report runs/train-habits-001

        banty report runs/eval-airline-mini-001 --out evaluation.html
    """
    folder = Path(run)
    written = write_report(folder, Path(out) if out else None)
    print(visible(headline(folder)))
    print(visible(f"report: {written}"))
