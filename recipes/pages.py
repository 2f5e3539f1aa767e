"""Tables inside a page of results: its words are written by hand, what stands between markers is put there anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """The page with what stands after each `<!-- table: NAME -->` up to `<!-- end -->` replaced."""
    for name, text in tables.items():
        begin, end = f"<!-- table: {name} -->", "<!-- end -->"
        if begin not in page:
            raise SystemExit(f"the page has no place {begin}")
        before, after = page.split(begin, 1)
        page = f"{before}{begin}\n{text}\n{end}{after.split(end, 1)[1]}"
    return page
