"""What a trip tells is looked up once, and never mistaken for what another trip told that had the same place in memory."""

from __future__ import annotations

import pytest

from connectors.columns import Trip
from streams import routes
from streams.routes import Routes
from tests.streams import kit

NET = kit.network()


@pytest.mark.parametrize(("most", "objects"), [(20_000, 5_000), (20_000, 3), (7, 5_000)])
def test_trips_made_anew_for_every_envelope_tell_what_they_tell_alone(monkeypatch: pytest.MonkeyPatch, most: int, objects: int) -> None:
    monkeypatch.setattr(routes, "MOST", most)
    monkeypatch.setattr(routes, "MOST_OBJECTS", objects)
    known = sorted(NET.schedule.by_route)
    together = Routes(NET.schedule)
    for k in range(60):
        trips = [
            Trip(
                mode=("bus", "tram", "ferry")[j % 3],
                route_id=known[j % len(known)][0],
                direction_id=j % 2,
                start_time=f"{(k + j) % 24:02d}:00",
            )
            for j in range(k % 5 + 1)
        ]  # made here, gone after it: the next ones may lie where these lay
        got = together.of([*trips, trips[0]])
        alone = [Routes(NET.schedule).of([Trip(**{f: getattr(t, f) for f in t.__struct_fields__})]) for t in (*trips, trips[0])]
        assert [column.tolist() for column in got] == [[one[f][0] for one in alone] for f in range(4)]
        assert [column.dtype for column in got] == [column.dtype for column in alone[0]]
    assert any(shape >= 0 for shape in together.of([Trip(mode="bus", route_id=r, direction_id=d) for r, d in known])[0])


def test_no_trips_are_no_rows() -> None:
    assert [len(column) for column in Routes(NET.schedule).of([])] == [0, 0, 0, 0]
