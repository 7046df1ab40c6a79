"""``docs/data-card.md``: what the data are, for those who judge them. Written by hand but for two tables, which are made here: sources with their licences from the
city files, and how accurate the picture is, copied from ``docs/accuracy.md`` and ``docs/accuracy-emissions.md``.

``python -m commands.data_card`` writes the tables anew between their marks.
"""

from __future__ import annotations

import re
from pathlib import Path

from connectors import cities

DOCS = Path(__file__).parents[1] / "docs"
#: Tables that are copied: mark, file, first cell of the head.
COPIED = (("speed", "accuracy.md", "measure"), ("emissions", "accuracy-emissions.md", ""))
LAUNCH = ("helsinki", "espoo", "vantaa", "tampere", "turku", "oulu")


def table(page: str, first: str) -> str:
    """The first table of a page whose head begins with a cell.

    Raises:
        LookupError: there is none.

    >>> table("x\\n| a | b |\\n| --- | --- |\\n| 1 | 2 |\\n\\n| 3 |", "a")
    '| a | b |\\n| --- | --- |\\n| 1 | 2 |'
    """
    found = re.search(rf"^\| {re.escape(first)} ?\|.*(?:\n\|.*)+", page, re.MULTILINE)
    if found is None:
        raise LookupError(f"no table that begins with {first!r}")
    return found[0]


def sources() -> str:
    """A row a source of the cities of the launch: licence, the line to print, which cities and feeds."""
    rows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name in LAUNCH:
        city = cities.load(name)
        for feed in city.feeds:
            lines = (feed.attribution,) if feed.attribution else city.attribution
            key = feed.licence or city.licence, " · ".join(lines)
            rows.setdefault(key, {}).setdefault(city.title, []).append(feed.name)
        rows.setdefault((city.network.licence, city.network.attribution), {}).setdefault(city.title, []).append("streets")
    out = ["| licence | line to print | cities and feeds |", "| --- | --- | --- |"]
    for (licence, line), where in sorted(rows.items()):
        told = "; ".join(f"{c}: {', '.join(feeds)}" for c, feeds in where.items())
        out.append(f"| {licence} | {line} | {told} |")
    return "\n".join(out)


def filled(card: str) -> str:
    """The card with its tables made anew."""
    made = {mark: table((DOCS / file).read_text("utf-8"), first) for mark, file, first in COPIED} | {"sources": sources()}
    for mark, text in made.items():
        begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
        before, _, rest = card.partition(begin)
        card = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return card


if __name__ == "__main__":
    page = DOCS / "data-card.md"
    page.write_text(filled(page.read_text("utf-8")), encoding="utf-8")
