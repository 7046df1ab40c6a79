"""Who stands at a red light, and not at the stop beside it: vehicles that asked for priority at a junction that they have not passed."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.columns import EVENT_CODE
from geo.junctions import junctions
from geo.network import F64, I8, I64, Bool, Network

_ASK, _ANSWER = EVENT_CODE["tlr"], EVENT_CODE["tla"]


@dataclass(frozen=True, slots=True)
class SignalSettings:
    """When standing before signals is waiting for them, though at a stop."""

    #: A request, or its answer, tells of a vehicle for so long, milliseconds: a cycle of a city's signals (60-120 s). More: who lingers at a stop is taken to wait.
    asked_ms: int = 120_000
    #: A stop line at most so far ahead is close to the stop, metres: the zone of a stop before it (45 m), rounded.
    close_m: float = 50.0


class Signals:
    """Ends of a network's segments at which signals hold traffic."""

    def __init__(self, network: Network, settings: SignalSettings | None = None) -> None:
        self.settings = settings or SignalSettings()
        self.held: Bool = junctions(network.segments).held
        self.length_m: F64 = network.segments.length_m

    def passed(self, before: I64, now: I64) -> Bool:
        """Whether n vehicles have left a segment that ends at signals (-1: on none)."""
        out: Bool = (before >= 0) & (before != now) & self.held[before]
        return out

    def wait(self, asked_ms: I64, event_ms: I64, segment: I64, offset_m: F64) -> Bool:
        """Whether n vehicles that stand there would wait for the signals: what they asked last is not old, and the stop line is close ahead."""
        cfg = self.settings
        close = (segment >= 0) & self.held[segment] & (self.length_m[segment] - offset_m <= cfg.close_m)
        out: Bool = close & (asked_ms >= event_ms - cfg.asked_ms)
        return out


def asks(event: I8) -> Bool:
    """Of n events, those by which a vehicle asks for priority, or is answered."""
    out: Bool = (event == _ASK) | (event == _ANSWER)
    return out
