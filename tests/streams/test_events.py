"""What vehicles tell of beside their position is in ``vehicle-position`` by its name, and a position alone has none of it."""

from __future__ import annotations

from tests.streams import kit

HERE = kit.at(0, 100.0)


def test_every_kind_of_event_is_told_with_what_it_says_of_signals() -> None:
    items = [
        kit.hfp(kit.T0, HERE),
        kit.hfp(kit.T0 + 1000, HERE, event="doo", drst=1),
        kit.hfp(kit.T0 + 2000, HERE, event="tlr", sid=3230),
        kit.hfp(kit.T0 + 3000, HERE, event="tla", sid=3230, **{"tlp-decision": "ACK"}),
        kit.hfp(kit.T0 + 4000, HERE),
    ]
    for cuts in ((), (1, 2, 3, 4)):
        out, _ = kit.run_all(kit.cut(items, cuts))
        got = [
            (r.get("event"), r.get("signal_id"), r.get("signal_priority"), r.get("doors_open"))
            for r in kit.records(out, "vehicle-position")
        ]
        assert got == [
            (None, None, None, False), ("doo", None, None, True), ("tlr", "3230", "requested", False), ("tla", "3230", "granted", False), (None, None, None, False),
        ]  # fmt: skip
