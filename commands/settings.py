"""``docs/settings.md``: every parameter of the core that ``replay --set`` takes and every key of a city file, with unit, default, meaning and source.

Written from the classes themselves: ``python -m commands.settings > docs/settings.md``.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from connectors import cities
from models.schemas import field_comments
from models.units import unit_of
from streams.whatif import GROUPS, Parameters, names

#: Units that the ends of these names tell, beside those of records.
UNITS = {
    "_log_sd": "ln",
    "_vpkm_lane": "vehicles/km a lane",
    "_g_per_kwh": "g/kWh",
    "_ms": "ms",
    "_mb": "MB",
    "_windows": "minutes",
    "_kappa": "1",
    "_cost": "nats",
    "prune": "nats",
}
#: Tables of a city file, and where in it they are.
TABLES = (
    (cities.City, ""),
    (cities.Box, "box."),
    (cities.NetworkSource, "network."),
    (cities.FeedSettings, "feeds.<name>."),
    (cities.Mqtt, "feeds.<name>.mqtt."),
    (cities.Http, "feeds.<name>.http.<number>."),
)
Row = tuple[str, str, str, str, str]


def parameters() -> Iterator[tuple[str, type, list[Row]]]:
    """Each class of parameters: the start of its keys, the class, rows of (key, unit, kind, default, meaning)."""
    for group in GROUPS:
        yield from _below(group, Parameters().group(group))


def _below(start: str, settings: Any) -> Iterator[tuple[str, type, list[Row]]]:
    known, comments = names(type(settings)), field_comments(type(settings))
    fields = [f.name for f in dataclasses.fields(settings) if f.name in known and (start != "fuse" or f.name not in GROUPS)]
    single = [n for n in fields if not dataclasses.is_dataclass(getattr(settings, n)) and (start, n) != ("fuse", "lateness_ms")]
    yield start, type(settings), [_row(f"{start}.{n}", known[n], getattr(settings, n), comments.get(n, "")) for n in single]
    for n in fields:
        if dataclasses.is_dataclass(below := getattr(settings, n)):
            yield from _below(f"{start}.{n}", below)


def city_keys() -> Iterator[tuple[str, type, list[Row]]]:
    """The same of each table of a city file."""
    for table, start in TABLES:
        hints, comments = typing.get_type_hints(table, include_extras=True), field_comments(table)
        rows = []
        for f in msgspec.structs.fields(table):
            if (table, f.name) == (cities.FeedSettings, "name"):
                continue  # the table's own name
            default = f.default if f.default is not msgspec.NODEFAULT else f.default_factory
            default = default() if callable(default) else default
            rows.append(_row(start + f.name, hints[f.name], default, comments.get(f.name, "")))
        yield start, table, rows


def _row(key: str, hint: Any, default: object, meaning: str) -> Row:
    name = key.rpartition(".")[2]
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "") or unit_of(name)
    if default is msgspec.NODEFAULT:
        told = "**must be given**"
    elif isinstance(default, msgspec.Struct):
        told = "see below"
    elif default in (None, (), {}):
        told = "none"
    else:
        told = f"`{round(default, 4)}`" if isinstance(default, float) else f"`{msgspec.json.encode(default).decode()}`"
    return key, unit, _kind(hint), told, meaning


def _kind(hint: Any) -> str:
    """
    >>> _kind(float | None), _kind(tuple[str, ...]), _kind(typing.Literal["a", "b"])
    ('number', 'list of text', 'a, b')
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return " ".join([_kind(parts[0]), *(t for m in parts[1:] if (t := _limits(m)))])
    if origin is typing.Literal:
        return ", ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(p) for p in parts if p is not type(None))
    if origin is tuple:
        return f"list of {_kind(parts[0])}"
    if origin is dict:
        return "table"
    return {float: "number", int: "whole number", str: "text", bool: "true, false"}.get(hint, "table")


def _limits(meta: msgspec.Meta) -> str:
    """
    >>> _limits(msgspec.Meta(gt=0, le=20)), _limits(msgspec.Meta(pattern="^a"))
    ('> 0, ≤ 20', 'matching ^a')
    """
    signs = (("≥", meta.ge), (">", meta.gt), ("<", meta.lt), ("≤", meta.le))
    told = [f"{sign} {value:g}" for sign, value in signs if value is not None]
    return ", ".join(told + [f"matching {meta.pattern}"] * (meta.pattern is not None))


def source(kind: type) -> str:
    """What a class says of itself: what it is for, and where its values are from; and where it is."""
    module = kind.__module__.replace(".", "/") + ".py"
    return f"{' '.join((inspect.getdoc(kind) or '').split())} (`{module}`, `{kind.__name__}`)"


def _tables(found: Iterator[tuple[str, type, list[Row]]]) -> Iterator[str]:
    for start, kind, rows in found:
        yield from (f"### `{start}`" if start else "### the file itself", "", source(kind).replace("``", "`"), "")
        if rows:
            yield from ("| key | unit | kind | default | meaning, source |", "| --- | --- | --- | --- | --- |")
            for key, *cells, meaning in rows:
                yield (
                    "| "
                    + " | ".join(" ".join(c.replace("|", "\\|").replace("``", "`").split()) for c in (f"`{key}`", *cells, meaning))
                    + " |"
                )
            yield ""


def markdown() -> str:
    """The file ``docs/settings.md``."""
    out = [
        "# Settings",
        "",
        "Generated from the code: `python -m commands.settings > docs/settings.md`. Options of the commands themselves: `tilannekuva COMMAND --help`.",
        "",
        "## Parameters of the core",
        "",
        "`tilannekuva replay … --set KEY=VALUE`, as often as needed: what would have come out with another value. All of them are in the run's `manifest.json`. Values are JSON, or text.",
        "A key, kind or value that cannot be ends with exit 78 and names it. Where a value was fitted, or who measured it, is said beside it or of its table; what says neither is judgement.",
        "Live workers run with the defaults. `fuse.lateness_ms` follows `observe.lateness_ms`.",
        "",
        *_tables(parameters()),
        "## Keys of a city file",
        "",
        "`connectors/cities/<city>.toml`, or a file of your own ([new-city.md](new-city.md)); for one run, `--set KEY=VALUE` of every command that takes a city replaces a value",
        "(`feeds.hfp.mqtt.url=mqtt://127.0.0.1:1883`; the first address of a feed is `feeds.tms.http.0.url`; `null` takes a key away).",
        "",
        *_tables(city_keys()),
    ]
    return "\n".join(out)


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
