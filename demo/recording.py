"""The recorded minutes that the demo plays: a folder of simulated feeds in the real wire formats (``demo/data/README.md`` has the layout)."""

from __future__ import annotations

import lzma
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import msgspec

from models.errors import ConfigError

DATA = Path(__file__).parent / "data"
HELSINKI = DATA / "helsinki"

#: Each loop of a recording has vehicles of its own: their numbers are raised by this much a loop, so that no vehicle jumps across the city at the seam.
VEHICLE_STEP = 1000
LOOPS_BEFORE_REUSE = 10


_T = TypeVar("_T")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """``recording.json``: what a recording is."""

    city: str
    zone: str  #: IANA time zone of the timetable
    start_ms: int  #: instant of offset 0, a whole minute
    length_ms: int  #: a whole number of minutes
    simulated: bool
    made_with: str
    licence: str
    attribution: str


class HfpLine(msgspec.Struct, frozen=True, gc=False):
    """One line of ``hfp.jsonl.xz``."""

    offset_ms: int  #: when it arrived, since ``start_ms``
    topic: str
    payload: msgspec.Raw


class StationDataLine(msgspec.Struct, frozen=True, gc=False):
    """One line of ``tms-data.jsonl.xz``: an answer of ``stations/data``."""

    offset_ms: int
    body: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording in memory, every feed ordered by offset; offsets lie in [0, length_ms)."""

    about: About
    hfp: tuple[HfpLine, ...]
    vehicle_positions: tuple[tuple[int, bytes], ...]  #: (offset_ms, GTFS-RT FeedMessage)
    stations: bytes  #: answer of ``stations``, GeoJSON
    sensor_constants: bytes  #: answer of ``stations/sensor-constants``
    station_data: tuple[StationDataLine, ...]

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.about.zone)


def load(folder: Path = HELSINKI) -> Recording:
    """Read a recording.

    Raises:
        ConfigError: the folder is none, or does not say that its vehicles are simulated.
    """
    about_file = folder / "recording.json"
    try:
        about = msgspec.json.decode(about_file.read_bytes(), type=About)
    except (OSError, msgspec.MsgspecError) as e:
        raise ConfigError(str(about_file), "recording", str(e), "the description of a recording, as demo/make_data.py writes it") from e
    if not about.simulated:
        raise ConfigError(str(about_file), "simulated", about.simulated, "true: the demo plays only simulated vehicles")
    if about.start_ms % 60_000 or about.length_ms % 60_000 or about.length_ms <= 0:
        raise ConfigError(str(about_file), "start_ms, length_ms", (about.start_ms, about.length_ms), "whole minutes")
    with zipfile.ZipFile(folder / "vehicle-positions.zip") as z:
        snapshots = tuple((int(Path(name).stem), z.read(name)) for name in sorted(z.namelist()))
    return Recording(
        about=about,
        hfp=_lines(folder / "hfp.jsonl.xz", HfpLine),
        vehicle_positions=snapshots,
        stations=(folder / "tms-stations.json").read_bytes(),
        sensor_constants=(folder / "tms-sensor-constants.json").read_bytes(),
        station_data=_lines(folder / "tms-data.jsonl.xz", StationDataLine),
    )


def _lines(path: Path, kind: type[_T]) -> tuple[_T, ...]:
    decoder = msgspec.json.Decoder(kind)
    with lzma.open(path, "rb") as file:
        return tuple(decoder.decode(line) for line in file)
