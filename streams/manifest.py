"""What a replay was made of. Two runs with the same manifest have the same bytes; nothing in it depends on when or where it was made."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from connectors.cities import City
from geo.network import Network
from models.emissions import tables
from models.errors import ConfigError
from models.profile import Profile
from streams.whatif import GROUPS, Parameters, changed, flat

ROOT = Path(__file__).resolve().parents[1]
#: Rooms whose code makes the records.
CORE = ("models", "geo", "connectors", "streams")
#: Packages whose versions may change a byte.
PACKAGES = (
    "numpy",
    "pandas",
    "pyarrow",
    "shapely",
    "pyproj",
    "h3",
    "msgspec",
    "protobuf",
    "gtfs-realtime-bindings",
    "lxml",
    "geopandas",
    "python-dateutil",
    "tzdata",
)
NAME = "manifest.json"


def manifest(
    inputs: Sequence[Mapping[str, object]],
    city: City,
    network: Network,
    parameters: Parameters,
    options: Mapping[str, object],
    profile: Profile | None = None,
) -> dict[str, Any]:
    """What goes in."""
    settings = {name: _plain(value) for g in GROUPS for name, value in flat(parameters.group(g), g)}
    return {
        "manifest": 1,
        "city": {"name": city.name, "sha256": _sha256(msgspec.json.encode(city, order="deterministic"))},
        "network": network.version,
        "profile": None if profile is None else profile.version,
        "inputs": list(inputs),
        "parameters": settings,
        "factor_set": tables.FACTOR_SET,
        "options": dict(options),
        "code": {"version": _version("tilannekuva"), "sha256": code_hash(), "commit": _commit()},
        "packages": {p: v for p in PACKAGES if (v := _version(p)) is not None},
    }


def files(paths: Iterable[Path]) -> list[dict[str, object]]:
    """Recordings, file by file; named from the folder that was given."""
    out: list[dict[str, object]] = []
    for path in paths:
        for f in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            name = f.relative_to(path.parent).as_posix()
            out.append({"path": name, "bytes": f.stat().st_size, "sha256": _file_sha256(f)})
    return out


def with_outputs(made: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """And what came out."""
    found = sorted(p for p in folder.iterdir() if p.is_file() and p.name != NAME)
    return {**made, "outputs": {p.name: _file_sha256(p) for p in found}}


def write(made: Mapping[str, Any], folder: Path) -> None:
    (folder / NAME).write_text(json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """A manifest of an earlier run.

    Raises:
        ConfigError: it is none.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found if isinstance(found["outputs"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ConfigError("command line", "--manifest", str(path), f"the {NAME} of a replay ({e})") from e


def parameters_of(made: Mapping[str, Any], start: Parameters) -> Parameters:
    """Parameters as a manifest has them. What a command line cannot tell (a fleet) is that of ``start``; ``must_be_like`` refuses another one.

    Raises:
        ConfigError: a value that these parameters cannot have.
    """
    own = {name: (value, _plain(value)) for g in GROUPS for name, value in flat(start.group(g), g)}
    told = {
        k: v for k, v in made["parameters"].items() if k != "fuse.lateness_ms" and k in own and own[k][1] != v and own[k][0] is own[k][1]
    }
    return changed(start, told)


def must_be_like(made: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    """Compare what goes in with an earlier run's manifest; returns by what else the bytes may differ: code, packages, factors.

    Raises:
        ConfigError: something else goes in; names the first.
    """
    for part, want in (
        ("city", "the same city file, with the same --set"), ("network", "the same built network"), ("profile", "the same profile"), ("options", "no options of its own"),
        ("inputs", "the same recordings or archive, unchanged"), ("parameters", "the same parameters, with --fleet where it had one"),
    ):  # fmt: skip
        if made.get(part) != earlier.get(part):
            raise ConfigError("manifest", part, _first_difference(made.get(part), earlier.get(part)), want)
    return [part for part in ("code", "packages", "factor_set") if made.get(part) != earlier.get(part)]


def _first_difference(now: Any, then: Any) -> str:
    """Short, for people."""
    if isinstance(now, dict) and isinstance(then, dict):
        key = next(k for k in sorted({*now, *then}) if now.get(k) != then.get(k))
        return f"{key}: {now.get(key)} instead of {then.get(key)}"
    if isinstance(now, list) and isinstance(then, list):
        lost, new = ([i["path"] for i in a if i not in b][:3] for a, b in ((then, now), (now, then)))
        return f"{', '.join(new) or 'nothing'} instead of {', '.join(lost) or 'nothing'}"
    return f"{now} instead of {then}"


def code_hash() -> str:
    """Of all code and tables that records are made with, wherever they are installed."""
    digest = hashlib.sha256()
    for room in CORE:
        for f in sorted((ROOT / room).rglob("*")):
            if f.is_file() and "__pycache__" not in f.parts:
                digest.update(f.relative_to(ROOT).as_posix().encode() + b"\0" + hashlib.sha256(f.read_bytes()).digest())
    return digest.hexdigest()


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float | str) else _sha256(repr(value).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """None where the code is not a checkout of its own."""
    try:
        top = subprocess.run(
            ["git", "rev-parse", "--show-toplevel", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return None
    return top[1] if Path(top[0]).resolve() == ROOT else None
