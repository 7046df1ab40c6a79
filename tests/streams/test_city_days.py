"""The day so far: a function of the day's final records, by the city's clocks, told until the next day begins."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest

from models import schemas
from models.clock import parse_ms
from models.emission_records import AreaState, EmissionArea
from models.indicator_records import CityDay
from models.indicators import Emitted, Flowed
from models.line_records import LineFluency
from models.records import encode
from streams.cells import WINDOW_MS
from streams.city_days import CityDays
from streams.outputs import Out, Outputs
from tests.models.test_indicators import area, line, minute
from tests.streams import kit


def given(days: CityDays, start: str, minutes: int) -> list[CityDay]:
    """What is told over so many alike minutes from a time on."""
    told = []
    first = parse_ms(start) // WINDOW_MS
    for w in range(first, first + minutes):
        out = Outputs()
        out.add("area-state", [Out(k, encode(minute()), 0, "") for k in (b"88cell", days.key)])
        out.add("line-fluency", [Out(b"1:0", encode(line(4, 20.0)), 0, "")])
        if (w + 1) % 5 == 0:
            out.add("emission-area", [Out(days.key, encode(area()), 0, "")])
        days.final(w, out)
        told += [msgspec.json.decode(o.value, type=CityDay) for o in out.records.get("city-day", [])]
    return told


def test_a_day_is_told_every_five_minutes_and_is_final_when_the_next_has_begun() -> None:
    told = given(CityDays("town", "Europe/Helsinki"), "2026-03-10T21:30:00.000Z", 60)
    assert [(d.day, d.status) for d in told] == [("2026-03-10", "provisional")] * 6 + [("2026-03-10", "final")] + [
        ("2026-03-11", "provisional")
    ] * 6
    last = told[6]
    assert (last.window_start, last.window_end) == ("2026-03-09T22:00:00.000Z", "2026-03-10T22:00:00.000Z")
    assert last.fluency is not None
    assert last.fluency.minutes == 30
    assert [h.local_hour for h in last.hours] == [23]
    assert last.street_km == 100.0
    assert [d.revision for d in told[:7]] == sorted({d.revision for d in told[:7]})


def test_the_day_that_the_clocks_go_back_has_an_hour_twice_and_forward_one_less() -> None:
    back = given(CityDays("town", "Europe/Helsinki"), "2026-10-24T21:00:00.000Z", 25 * 60)[-1]
    assert back.day == "2026-10-25"
    assert [h.local_hour for h in back.hours] == [0, 1, 2, 3, 3, *range(4, 24)]
    assert back.fluency is not None
    assert back.fluency.minutes == 25 * 60
    forward = given(CityDays("town", "Europe/Helsinki"), "2026-03-28T22:00:00.000Z", 23 * 60)[-1]
    assert [h.local_hour for h in forward.hours] == [0, 1, 2, *range(4, 24)]
    half = given(CityDays("town", "Asia/Kolkata"), "2026-03-10T00:00:00.000Z", 60)[-1]
    assert [(h.local_hour, h.hour_start[11:16]) for h in half.hours] == [(5, "23:30"), (6, "00:30")]


def test_the_leap_day_is_a_day_of_its_own() -> None:
    told = given(CityDays("town", "Europe/Helsinki"), "2028-02-28T21:30:00.000Z", 25 * 60)
    assert [d.day for d in told if d.status == "final"] == ["2028-02-28", "2028-02-29"]
    assert told[-1].day == "2028-03-01"


def test_a_restored_day_goes_on_as_if_nothing_had_been() -> None:
    whole = given(CityDays("town", "Europe/Helsinki"), "2026-03-10T05:30:00.000Z", 90)
    first, second = CityDays("town", "Europe/Helsinki"), CityDays("town", "Europe/Helsinki")
    head = given(first, "2026-03-10T05:30:00.000Z", 42)
    second.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(first.export())))
    assert head + given(second, "2026-03-10T06:12:00.000Z", 48) == whole
    nothing = CityDays("town", "Europe/Helsinki")
    nothing.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(CityDays("a", "UTC").export())))
    assert given(nothing, "2026-03-10T05:30:00.000Z", 5)


def test_the_whole_path_tells_what_the_pure_function_makes_of_its_own_records() -> None:
    items = [i for v in range(3) for i in kit.drive(2, 8.0 + v, seconds=400, from_m=50.0 * v, vehicle=v + 1, route="1002")]
    out, _ = kit.run_all(kit.cut(kit.in_order(items), range(0, len(items), 200)))
    told = [msgspec.json.decode(o.value, type=CityDay) for o in out.records["city-day"]]
    assert [o.key for o in out.records["city-day"]] == [b"helsinki:2026-03-10"] * len(told)
    validator = jsonschema.Draft202012Validator(schemas.schema("city-day"))
    for o in out.records["city-day"]:
        validator.validate(msgspec.json.decode(o.value))
    last = told[-1]
    flowed, emitted = Flowed(), Emitted()

    def until(product: str, kind: Any) -> list[Any]:
        records = [(o, msgspec.json.decode(o.value, type=kind)) for o in out.records[product]]
        return [r for o, r in records if r.window_end <= last.window_end and (product == "line-fluency" or o.key == b"helsinki")]

    for a in until("area-state", AreaState):
        flowed.add_state(a)
    for one in until("line-fluency", LineFluency):
        flowed.add_line(one)
    fives = [e for e in until("emission-area", EmissionArea) if parse_ms(e.window_end) - parse_ms(e.window_start) == 5 * WINDOW_MS]
    assert 0 < len(fives) < len(until("emission-area", EmissionArea)), "single minutes are told of too, and are not counted twice"
    for e in fives:
        emitted.add_area(e, last.street_km)
    assert last.fluency == flowed.record()
    assert last.environment == emitted.record()
    assert last.fluency is not None
    assert last.fluency.transit_speed_kmh == pytest.approx(9.0 * 3.6, rel=0.05)
    assert last.fleet_mix
