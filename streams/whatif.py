"""Parameters of a replay by name: ``fusion.half_life_s=120``. ``docs/settings.md`` lists them all."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from models.errors import ConfigError
from streams.fuse import FuseSettings
from streams.ground import ObserveSettings

#: First part of a name, and what it stands for.
GROUPS = ("observe", "fuse", "fusion", "emissions")
#: Types of values that a command line can tell.
_SCALARS = (float, int, bool, str)


@dataclasses.dataclass(frozen=True, slots=True)
class Parameters:
    """All parameters of the core."""

    observe: ObserveSettings = dataclasses.field(default_factory=ObserveSettings)
    fuse: FuseSettings = dataclasses.field(default_factory=FuseSettings)

    def group(self, name: str) -> Any:
        return {"observe": self.observe, "fuse": self.fuse, "fusion": self.fuse.fusion, "emissions": self.fuse.emissions}[name]


def is_parameter(key: str) -> bool:
    """Whether a key names a parameter of the core, not a value of the city file.

    >>> is_parameter("fusion.half_life_s"), is_parameter("feeds.hfp.mqtt.url")
    (True, False)
    """
    return key.partition(".")[0] in GROUPS


def changed(parameters: Parameters, values: Mapping[str, object]) -> Parameters:
    """With some values replaced.

    Raises:
        ConfigError: a name that is none, or a value that cannot be; names it.

    >>> changed(Parameters(), {"fusion.half_life_s": 120}).fuse.fusion.half_life_s
    120.0
    """
    observe, fuse = parameters.observe, parameters.fuse
    for key, value in values.items():
        group, _, rest = key.partition(".")
        if key == "fuse.lateness_ms":
            raise ConfigError("command line", "--set", key, "observe.lateness_ms, which is that of both steps")
        if group == "observe":
            observe = _set(observe, rest, value, key)
            fuse = dataclasses.replace(fuse, lateness_ms=observe.lateness_ms)
        elif group == "fuse":
            fuse = _set(fuse, rest, value, key)
        elif group in GROUPS:
            fuse = _set(fuse, f"{group}.{rest}", value, key)
        else:
            raise ConfigError("command line", "--set", key, f"a name that begins with one of {', '.join(GROUPS)}")
    return Parameters(observe, fuse)


def flat(settings: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every single value below, by its name."""
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        if dataclasses.is_dataclass(value) and f.name in names(type(settings)):
            if not (name == "fuse" and f.name in GROUPS):
                yield from flat(value, f"{name}.{f.name}")
        else:
            yield f"{name}.{f.name}", value


def names(settings: type) -> dict[str, Any]:
    """Fields of a settings class that may be set or looked into, by name, with their types."""
    hints = typing.get_type_hints(settings)
    return {
        f.name: hints[f.name] for f in dataclasses.fields(settings) if dataclasses.is_dataclass(hints[f.name]) or _scalars(hints[f.name])
    }


def _scalars(hint: Any) -> tuple[Any, ...]:
    """The types that a value may have, None among them; empty where it is no single value."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    parts = tuple(type(None) if p is None else str if typing.get_origin(p) is typing.Literal else p for p in parts)
    return parts if all(p in (*_SCALARS, type(None)) for p in parts) else ()


def _set(settings: Any, path: str, value: object, key: str) -> Any:
    name, _, rest = path.partition(".")
    known = names(type(settings))
    if name not in known:
        raise ConfigError("command line", "--set", key, f"one of {', '.join(sorted(known))} after {key[: len(key) - len(path)]}")
    if rest and dataclasses.is_dataclass(known[name]):
        new = _set(getattr(settings, name), rest, value, key)
    else:
        new = _value(known[name], value, key)
    try:
        return dataclasses.replace(settings, **{name: new})
    except ValueError as e:
        raise ConfigError("command line", "--set", f"{key}={value}", f"a value that the settings take ({e})") from e


def _value(hint: Any, value: object, key: str) -> object:
    able = _scalars(hint)
    if float in able and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    literal = [a for p in (hint, *typing.get_args(hint)) if typing.get_origin(p) is typing.Literal for a in typing.get_args(p)]
    if (
        type(value) not in able
        or (isinstance(value, str) and literal and value not in literal)
        or value in (float("inf"), float("-inf"))
        or value != value
    ):
        wanted = literal or [t.__name__ for t in able] or ["a name below it"]
        raise ConfigError("command line", "--set", f"{key}={value}", " or ".join(map(str, wanted)))
    return value
