"""``docs/feeds.md`` tells every recorded file beside the repository, as the parsers read it now, and every line of it adds up."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import feeds
from connectors.cities import load
from streams.conform import conform

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "feeds.md").read_text("utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("| `")]
RECORDINGS = ROOT / "tests" / "recordings"


def numbers(line: str) -> list[int]:
    return [int(cell.strip().replace(",", "") or 0) for cell in line.split("|")[3:12]]


def test_every_line_adds_up_and_its_reasons_too() -> None:
    counted = [line for line in LINES if "not read:" not in line]
    assert len(counted) > 70
    for line in counted:
        told, accepted, duplicates, rejected, late, elsewhere, waiting, places, left_out = numbers(line)
        assert told == accepted + duplicates + rejected + late + elsewhere + waiting + places + left_out, line
        assert sum(int(r.split()[-1]) for r in line.split("|")[12].split(";") if r.strip()) == rejected + left_out, line


def test_every_recorded_file_has_its_line(shared: Path) -> None:
    folder = shared / "feeds"
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.parent != folder}
    assert {line.split("`")[1] for line in LINES} == files


@pytest.mark.parametrize("part", range(1, 4))
def test_a_line_is_what_the_parsers_make_of_its_file_now(part: int, shared: Path) -> None:
    """Three files of eight; the page itself is made of all: ``benchmarks/feeds.py``."""
    names = list(dict.fromkeys(line.split("`")[1] for line in LINES))[2 * part :: 8]
    for name in names:
        assert feeds.line(shared / "feeds" / name, shared / "feeds") in PAGE, (
            f"run: python -m benchmarks.feeds ../shared/feeds docs/feeds.md ({name})"
        )


@pytest.mark.parametrize("file", sorted(p for p in (RECORDINGS / "helsinki").iterdir()), ids=lambda p: p.name)
def test_nothing_of_our_own_recordings_is_dropped_either(file: Path) -> None:
    for name, counts in conform(load("helsinki"), [file]).feeds.items():
        feeds.check(f"{file.name}: {name}", counts)
