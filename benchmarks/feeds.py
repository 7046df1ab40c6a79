"""Every recording beside the repository through its parser and the core: ``python -m benchmarks.feeds ../shared/feeds docs/feeds.md``.

One line a file: what it told, and what became of that. A file's line adds up: in = accepted + duplicates + rejected + late + elsewhere + waiting + places + left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from connectors.cities import Box, City, FeedSettings, Http, load
from models.errors import ConfigError
from streams.conform import FeedCounts, conform

#: Files that no feed sends in this form, by the beginning of their path, and what they are.
NOT_SENT = {
    "helsinki/hfp/door_events": "a table of door events, from HSL's archive",
    "helsinki/hfp/hfp-": "one HFP payload without its topic: an example of HSL's parser tests",
    "helsinki/siri/": "SIRI in HSL's own JSON, a service that has ended",
    "helsinki/tms/": "hourly report of one counting station",
    "national/digitraffic/tms_points_metadata": "list of points of the history service",
    "national/digitraffic/tms_rest_shape/lamraw": "single vehicles of a day, from the history service",
    "national/digitraffic/tms_rest_shape/sensors": "list of sensors; their numbers are in the parser",
    "national/digitraffic/tms_rest_shape/stations_23001": "one station's page; the feed asks for all stations at once",
    "national/digitraffic/traffic_message_area": "one area's outline, from a service of its own",
    "tampere/gtfsrt/tram_positions": "a table made of broker messages, without vehicles",
    "tampere/journeys/": "lines and patterns: timetable, not observation",
    "generic/gbfs/": "a document of GBFS that says nothing of stations",
    "helsinki/gbfs/": "a document of GBFS that says nothing of stations",
}


def city_of(path: str) -> City:
    """Whose feed a file is of: a city's, or that of a made-up city as large as the world."""
    first = path.split("/")[0]
    if first in ("helsinki", "tampere", "turku", "oulu", "national") and "gbfs" not in path and "datex2" not in path:
        return load("hsl" if first in ("national", "helsinki") else first)
    http = (Http(url="https://example.org/feed", every_s=60),)
    feeds = tuple(FeedSettings(name=f, family=f, cadence_s=60, http=http) for f in ("gtfs_realtime", "siri", "gbfs", "datex2"))  # type: ignore[arg-type]
    world = Box(south=-60, west=-180, north=75, east=180)
    return msgspec.structs.replace(load("hsl"), name="world", title="World", box=world, crs="EPSG:3857", feeds=feeds)


def line(file: Path, folder: Path) -> str:
    """One row of the table."""
    path = file.relative_to(folder).as_posix()
    try:
        report = conform(city_of(path), [file])
    except ConfigError:
        return f"| `{path}` | not read: {next((why for start, why in NOT_SENT.items() if path.startswith(start)), 'no feed sends it')} | | | | | | | | |"
    rows = []
    for feed, c in report.feeds.items():
        numbers = (
            c.events,
            c.accepted,
            c.duplicates,
            sum(c.rejected.values()),
            c.late,
            c.elsewhere,
            c.waiting,
            c.places,
            sum(c.passed.values()),
        )
        why = "; ".join(f"{r} {n}" for r, n in sorted((c.rejected + c.passed).items()))
        rows.append(f"| `{path}` | {feed} | {' | '.join(f'{n:,}' if n else '' for n in numbers)} | {why} |")
        check(path, c)
    return "\n".join(rows)


def check(path: str, c: FeedCounts) -> None:
    """
    Raises:
        AssertionError: an event of the file has no fate.
    """
    assert c.unaccounted() == 0, f"{path}: {c.unaccounted()} events without a fate"


def main(folder: Path, to: Path) -> None:
    """Write the page."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.parent != folder)
    head = [
        "# Recordings, file by file",
        "",
        "Made by `python -m benchmarks.feeds ../shared/feeds docs/feeds.md`: each recorded file alone, through the parser and the core of the city that it is of, without a road network.",
        "Every line adds up: in = accepted + duplicates + rejected + late + elsewhere + waiting + places + left out. *Late*: its minute was closed when it came. *Elsewhere*, and *left out* as `outside_box`: another",
        "city's. *Waiting*: of sites that no list has told of. *Places*: sites of stations, which are learnt and not published. *Left out* on purpose, by reason: forecasts, sensors that fill no field, requests for priority.",
        "",
        "| file | feed | in | accepted | duplicates | rejected | late | elsewhere | waiting | places | left out | reasons |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    to.write_text("\n".join([*head, *(line(f, folder) for f in files)]) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
