"""Speed profiles: learned from finals in Parquet (an archive, or runs of ``replay --to DIR``), and kept as a Parquet file beside the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.cities import City
from geo.network import F64, I64, Network
from geo.streets import streets
from models.archive import product_folder, whole
from models.errors import ConfigError
from models.explain import STANDS
from models.profile import BINS, Learner, Profile, ProfileSettings
from streams.archive_store import Store

#: Its name in a network's folder.
NAME = "profile.parquet"
#: What a replay into files calls the finals.
RUN = "segment-state.parquet"
_META = b"tilannekuva"
_COLUMNS = ["segment_id", "window_start", "status", "origin", "speed_kmh", "closed", "source_mix", "simulated"]
_MINUTE_MS = 60_000


class _About(msgspec.Struct):
    """What the file says of itself."""

    city: str
    timezone: str
    days: tuple[str, ...]
    valid_from_ms: int
    valid_until_ms: int
    simulated: bool
    version: str


def learn(
    paths: Sequence[str | Path], city: City, network: Network, days: Sequence[str] = (), settings: ProfileSettings | None = None
) -> Profile:
    """The profile that the finals of a city give.

    Args:
        paths: archives, or folders that replays wrote.
        days: UTC days, of archives; all by default.

    Raises:
        ConfigError: no finals there that rest on evidence.
    """
    learner = Learner(streets(network), city.timezone, settings)
    row = {s: k for k, s in enumerate(network.segments.segment_id)}
    simulated, found = False, False
    for table in _finals(paths, city, days):
        found = True
        segment, start_ms, speed, minutes = _evidence(table, row)
        learner.add(segment, start_ms, speed, minutes)
        simulated = simulated or bool(pc.any(pc.fill_null(table["simulated"], False)).as_py())
    try:
        return learner.profile(city.name, network.segments.segment_id, simulated=simulated)
    except ValueError as e:
        wanted = f"finals of segment-state of {city.name} with vehicles or sites of their own"
        raise ConfigError(
            "command line", "PATH", " ".join(map(str, paths)), wanted if found else f"an archive or a run with {wanted}"
        ) from e


def newest(paths: Sequence[str | Path], city: City, count: int) -> list[str]:
    """The newest UTC days of which archives have finals, at most so many."""
    folders = {
        h.folder
        for p in paths
        if "://" in str(p) or not (Path(p) / RUN).is_file()
        for h in Store(p).files(product_folder(city.name, "segment-state"))
    }
    return sorted({f.rpartition("day=")[2] for f in folders})[-count:]


def _finals(paths: Sequence[str | Path], city: City, days: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of ``segment-state``, of a day each or less."""
    for path in paths:
        run = Path(path) / RUN
        if "://" not in str(path) and run.is_file():
            yield pq.read_table(run, columns=_COLUMNS)
            continue
        store = Store(path)
        held = store.files(product_folder(city.name, "segment-state"))
        for folder in sorted({h.folder for h in held}):
            if days and folder.rpartition("day=")[2] not in days:
                continue
            here = [h for h in held if h.folder == folder]
            keep = set(whole(h.part for h in here))
            parts = []
            for h in here:
                if h.part in keep:
                    with store.open(h.path) as file:
                        parts.append(file.read(columns=_COLUMNS))
            if parts:
                yield pa.concat_tables(parts)


def _evidence(table: pa.Table, row: dict[str, int]) -> tuple[I64, I64, F64, F64]:
    """Of finals with evidence of their own: segment, beginning of the window, speed, and minutes of evidence. A final stands until the next, at most ``STANDS`` minutes."""
    table = table.filter(pc.equal(table["status"], "final"))
    ids = table["segment_id"].combine_chunks().dictionary_encode()
    of = np.array([row.get(s, -1) for s in ids.dictionary.to_pylist()], np.int64)
    segment = of[ids.indices.to_numpy()] if len(ids) else np.empty(0, np.int64)
    start = table["window_start"].cast(pa.int64()).to_numpy()
    speed = table["speed_kmh"].to_numpy().astype(np.float64)
    mix = table["source_mix"].combine_chunks()
    own = sum(
        (pc.fill_null(pc.struct_field(mix, k), 0.0).to_numpy(zero_copy_only=False) for k in ("probe", "loop", "memory")),
        np.zeros(len(segment)),
    )
    closed = pc.fill_null(table["closed"], False).to_numpy()
    order = np.lexsort((start, segment))
    segment, start, speed, own, closed = segment[order], start[order], speed[order], own[order], closed[order]
    follows = np.r_[segment[1:] == segment[:-1], False]
    gap = np.where(follows, np.r_[start[1:], 0] - start, STANDS * _MINUTE_MS) / _MINUTE_MS
    minutes = own * np.clip(gap, 0.0, STANDS)
    good = (segment >= 0) & np.isfinite(speed) & (speed > 0) & (minutes > 0) & ~closed
    return segment[good], start[good], speed[good], minutes[good]


def save(profile: Profile, path: Path) -> None:
    """Segments as rows; the columns of the week's quarters as lists of ``BINS`` values. The same profile gives the same bytes."""
    about = msgspec.json.encode(
        _About(
            profile.city, profile.timezone, profile.days, profile.valid_from_ms, profile.valid_until_ms, profile.simulated, profile.version
        )
    )
    pace = pa.FixedSizeListArray.from_arrays(pa.array(profile.pace.astype(np.float32).ravel(), pa.float32()), BINS)
    columns = {
        "segment_id": pa.array(profile.segment_id, pa.string()),
        "free_flow_kmh": pa.array(profile.free_flow_kmh, pa.float64()),
        "spread": pa.array(profile.spread.astype(np.float32), pa.float32()),
        "ln_pace_ratio": pace,
    }
    table = pa.table(columns).replace_schema_metadata({_META: about})
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, half, compression="zstd")
    half.replace(path)


def load(path: Path) -> Profile:
    """
    Raises:
        ConfigError: not a profile, or not as it was written.
    """
    try:
        table = pq.read_table(path)
        about = msgspec.json.decode((table.schema.metadata or {})[_META], type=_About)
        pace = table["ln_pace_ratio"].combine_chunks().flatten().to_numpy().reshape(-1, BINS).astype(np.float16)
        profile = Profile(
            about.city, about.timezone, tuple(table["segment_id"].to_pylist()), pace, table["spread"].to_numpy().astype(np.float16),
            table["free_flow_kmh"].to_numpy(), about.days, about.valid_from_ms, about.valid_until_ms, about.simulated,
        )  # fmt: skip
    except (OSError, KeyError, ValueError, pa.ArrowException, msgspec.MsgspecError) as e:
        raise ConfigError("command line", "--profile", str(path), f"a profile that `tilannekuva profile learn` wrote ({e})") from e
    if profile.version != about.version:
        raise ConfigError("command line", "--profile", str(path), f"content of version {about.version[:12]}; it has {profile.version[:12]}")
    return profile


def summary(profile: Profile, rows: int) -> dict[str, Any]:
    """What people want to know of a profile of a network with so many segments."""
    known = np.isfinite(profile.pace)
    return {
        "segments": len(profile.segment_id),
        "of": rows,
        "quarters_known": float(known.mean()) if known.size else 0.0,
        "free_flow": int(np.isfinite(profile.free_flow_kmh).sum()),
        "days": list(profile.days),
    }
