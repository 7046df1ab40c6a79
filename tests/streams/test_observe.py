"""The observe step: what a log says does not depend on how it was cut, every event has one fate, and nothing is invented."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.envelope import Envelope, Item
from geo import polylines
from models.clock import rfc3339
from models.records import VehiclePosition, encode
from streams import partial as wire
from streams.cells import DIST, DWELL, TIME, WINDOW_MS, Rows, concat
from streams.ground import Ground
from streams.observe import Observer
from streams.outputs import Outputs
from tests.streams import kit

NET = kit.network()
GROUND = Ground(NET)
SHAPES = (("1001", 1), ("1001", 2), ("1002", 1), ("1003", 1), ("1004", 1))


def observer() -> Observer:
    return Observer(kit.city(), "hfp", 0, GROUND)


def told(partials: list[bytes]) -> dict[tuple[int, str, str], list[int]]:
    """Cells by minute, segment and vehicle, as a reader of partials puts them together: the largest of each."""
    cells: dict[tuple[int, str, str], list[int]] = {}
    for data in partials:
        p = wire.decode(data)
        rows = p.rows()
        for w, s, v, sums in zip(rows.window, rows.segment, rows.who, rows.sums, strict=True):
            key = (int(w - kit.T0 // WINDOW_MS), NET.segments.segment_id[s], p.vehicles[v])
            old = cells.get(key)
            assert old is None or (np.array(old) <= sums).all(), "sums never fall"
            cells[key] = sums.tolist()
    return cells


def observe(envelopes: list[Envelope]) -> tuple[Outputs, dict[tuple[int, str, str], list[int]], Observer]:
    """Everything that one observer says, flushed after each envelope."""
    o, out, partials = observer(), Outputs(), []
    for k, e in enumerate(envelopes):
        out.extend(o.feed_envelope(e, k))
        partials.append(o.flush())
    return out, told(partials), o


def storm(seed: int, vehicles: int = 5, seconds: int = 120) -> list[Item]:
    """Several vehicles on shapes, off them and without one, in order of receipt: noise, outages, repeats, late and impossible messages, doors, trip changes."""
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    for v in range(vehicles):
        kind = int(rng.integers(0, 7))
        route, direction = SHAPES[kind] if kind < 5 else ("9999", 1)
        shape = kind if kind < 5 else 0
        s, speed = float(rng.uniform(0, 800)), float(rng.uniform(0, 14))
        every = int(rng.choice([1, 1, 3, 10]))
        tells = rng.random() < 0.8
        dark = (int(rng.integers(0, seconds)), int(rng.integers(0, 90)))  # from when, how long
        for k in range(0, seconds, every):
            speed = max(0.0, min(15.0, speed + float(rng.normal(0, 1.5))))
            s += speed * every
            east, north = kit.at(shape, s)
            place: Any = (east + float(rng.normal(0, 5)), north + float(rng.normal(0, 5)))
            if 50 < k < 85 and kind == 2:
                place = (east, north + 250.0)
            if rng.random() < 0.04 or 0 <= k - dark[0] < dark[1]:
                place = None
            ms = kit.T0 + 1000 * k + int(rng.integers(0, 400))
            more: dict[str, Any] = {
                "spd": round(speed, 2) if tells else None,
                "drst": int(speed < 1.0),
                "hdg": int(rng.integers(0, 361)),
                "odo": int(s),
            }
            if rng.random() < 0.03:
                more |= {"lat": 24.94, "long": 60.17} if rng.random() < 0.5 else {"spd": 111.0}
            if kind == 6 and k > seconds / 2:
                more |= {"journey": "deadrun"}
            if rng.random() < 0.06:
                event = str(rng.choice(["due", "arr", "ars", "doo", "doc", "pde", "dep", "pas", "wait", "tlr", "vja"]))
                stop = {"stop": 1000018 + int(s) // 500, "ttarr": rfc3339(ms + 60_000), "ttdep": rfc3339(ms + 60_000)}
                items.append(
                    kit.hfp(
                        ms + 50, place, ingest_ms=ms + 150, vehicle=v + 1, route=route, direction=direction, event=event, **more, **stop
                    )
                )
            delay = int(rng.exponential(700)) if rng.random() < 0.93 else int(rng.choice([15_000, 80_000, 170_000, 400_000]))
            item = kit.hfp(ms, place, ingest_ms=ms + 100 + delay, vehicle=v + 1, route=route, direction=direction, **more)
            items.append(item)
            for _ in range(int(rng.integers(1, 50)) if rng.random() < 0.02 else int(rng.random() < 0.1)):
                items.append(Item(item.ingest_ms + int(rng.integers(0, 3000)), item.topic, item.body))
    return kit.in_order(items)


def without_place_in_log(out: Outputs, product: str) -> list[str]:
    """Records without the offset and index, which name envelopes."""
    return sorted(
        json.dumps({k: v for k, v in r.items() if k not in ("offset", "index")}, sort_keys=True) for r in kit.records(out, product)
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 800), max_size=40))
def test_the_same_messages_cut_into_other_envelopes_give_the_same_bytes(seed: int, rows: list[int]) -> None:
    items = storm(seed)
    whole, run = kit.run_all(kit.cut(items))
    other, run2 = kit.run_all(kit.cut(items, rows))
    assert whole.records.keys() == other.records.keys()
    for product in whole.records.keys() - {"late", "dead-letter", "feed-health"}:
        assert whole.records[product] == other.records[product], product
    assert without_place_in_log(whole, "late") == without_place_in_log(other, "late")
    assert without_place_in_log(whole, "dead-letter") == without_place_in_log(other, "dead-letter")
    assert run.tally() == run2.tally()
    kit.adds_up(run)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 800), max_size=25))
def test_cells_are_the_same_in_any_cut_and_with_any_flushing(seed: int, rows: list[int]) -> None:
    items = storm(seed)
    once, cells, _ = observe(kit.cut(items))
    again, cells2, _ = observe(kit.cut(items, rows))
    assert cells == cells2
    assert once.records.get("vehicle-position") == again.records.get("vehicle-position")


def test_one_message_an_envelope_gives_what_one_envelope_gives() -> None:
    items = storm(11, vehicles=7)
    one, _ = kit.run_all(kit.cut(items))
    each, _ = kit.run_all(kit.cut(items, range(len(items))))
    assert one.records["segment-state"] == each.records["segment-state"]
    assert one.records["vehicle-position"] == each.records["vehicle-position"]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 800), min_size=3, max_size=25), st.data())
def test_several_envelopes_at_once_give_what_one_by_one_gives_with_offsets_and_indices(seed: int, rows: list[int], data: Any) -> None:
    items = storm(seed, vehicles=3)
    envelopes: list[Envelope] = []
    for e in kit.cut(items, rows):
        envelopes += [e, kit.tick(e.ingest_ms)] if data.draw(st.booleans()) else [e]
    one, many, single, batched = observer(), observer(), Outputs(), Outputs()
    for k, e in enumerate(envelopes):
        single.extend(one.feed_envelope(e, 100 + k))
    at = 0
    while at < len(envelopes):
        n = data.draw(st.integers(1, 6))
        batched.extend(many.feed_envelopes([(e, 100 + at + k) for k, e in enumerate(envelopes[at : at + n])]))
        at += n
    assert single.records.keys() == batched.records.keys()
    for product in single.records:
        assert sorted(single.records[product]) == sorted(batched.records[product]), product
    assert single.records.get("vehicle-position") == batched.records.get("vehicle-position")
    assert dataclasses.asdict(one.tally) == dataclasses.asdict(many.tally)
    assert told([one.flush()]) == told([many.flush()])
    assert one.offset == many.offset


# ------------------------------------------------------------------------------------------------------------------ what is counted


def driven(cells: dict[tuple[int, str, str], list[int]], column: int = DIST) -> int:
    return sum(sums[column] for sums in cells.values())


def test_a_drive_gives_its_way_and_its_time_to_the_segments_it_ran_over() -> None:
    _, cells, _ = observe(kit.cut(kit.drive(0, seconds=150), range(0, 150, 7)))
    assert driven(cells) == pytest.approx(1_500_000, abs=200)  # degrees of six digits
    assert driven(cells, TIME) == 150_000
    whole = [sums for (w, s, _), sums in cells.items() if s == "main2_f"]
    assert sum(s[DIST] for s in whole) == pytest.approx(200_000, abs=200)
    assert sum(s[TIME] for s in whole) == pytest.approx(20_000, abs=20)


@pytest.mark.parametrize("copies", [1, 2, 50])
def test_copies_of_messages_change_nothing(copies: int) -> None:
    items = kit.drive(0, seconds=100)
    out, cells, o = observe(kit.cut(kit.in_order(items * copies), range(0, 100 * copies, 33)))
    single, cells1, _ = observe(kit.cut(items))
    assert cells == cells1
    assert out.records["vehicle-position"] == single.records["vehicle-position"]
    assert o.tally.duplicates == 101 * (copies - 1)
    assert o.tally.accepted == 101


def test_messages_in_any_order_within_a_minute_are_all_published_and_invent_no_way() -> None:
    items = kit.drive(0, seconds=50)
    rng = np.random.default_rng(3)
    order = rng.permutation(len(items))
    shuffled = [Item(kit.T0 + 60_000 + k, items[i].topic, items[i].body) for k, i in enumerate(order)]
    out, cells, o = observe(kit.cut(shuffled))
    assert len(out.records["vehicle-position"]) == len({r.ce_id for r in out.records["vehicle-position"]}) == 51
    assert o.tally.accepted == 51
    assert driven(cells) <= 500_000
    assert all(r["segment_id"].startswith("main") and r["segment_id"].endswith("_f") for r in kit.records(out, "vehicle-position"))


def test_time_with_open_doors_at_a_stop_is_dwell_and_standing_at_a_red_light_is_traffic() -> None:
    def still(seconds: int, **more: Any) -> list[Item]:
        return [kit.hfp(kit.T0 + 1000 * k, kit.at(0, 500.0), spd=0.0, **more) for k in range(seconds + 1)]

    _, boarding, _ = observe([kit.envelope(still(30, drst=1))])
    assert (driven(boarding, DWELL), driven(boarding, TIME)) == (30_000, 0)
    _, light, _ = observe([kit.envelope(still(30, drst=0))])
    assert (driven(light, DWELL), driven(light, TIME), driven(light)) == (0, 30_000, 0)
    _, stop, _ = observe([kit.envelope(still(30, drst=None, stop=1000018))])
    assert (driven(stop, DWELL), driven(stop, TIME)) == (30_000, 0)


def test_a_vehicle_before_and_after_its_trip_tells_nothing_of_traffic() -> None:
    for more in ({"journey": "deadrun"}, {"temporal": "upcoming"}, {"journey": "signoff"}):
        out, cells, o = observe([kit.envelope(kit.drive(0, seconds=60, **more))])
        assert cells == {}
        assert o.tally.accepted == 61
        assert all("off_route" not in r for r in kit.records(out, "vehicle-position"))


def test_ferries_and_trains_are_published_and_not_put_on_streets() -> None:
    for mode in ("train", "metro", "ferry"):
        out, cells, _ = observe([kit.envelope(kit.drive(0, seconds=20, mode=mode))])
        assert cells == {}
        assert all("segment_id" not in r for r in kit.records(out, "vehicle-position"))


def test_an_outage_of_positions_invents_none_and_what_was_driven_in_it_is_driven() -> None:
    items = kit.drive(0, seconds=100)
    blind = [kit.hfp(kit.T0 + 1000 * k, None, spd=None, loc="ODO") for k in range(30, 60)]
    out, cells, o = observe([kit.envelope(kit.in_order(items[:30] + blind + items[60:]))])
    dark = [r for r in kit.records(out, "vehicle-position") if "lat_deg" not in r]
    assert len(dark) == o.tally.no_position == 30
    assert not any({"segment_id", "offset_m", "off_route", "lon_deg"} & r.keys() for r in dark)
    assert driven(cells) == pytest.approx(1_000_000, abs=2000)
    assert driven(cells, TIME) == 100_000


def test_an_outage_longer_than_two_minutes_makes_no_traffic() -> None:
    items = kit.drive(0, 5.0, seconds=300)
    _, cells, _ = observe([kit.envelope(items[:30] + items[200:])])
    assert driven(cells) == pytest.approx((29 + 100) * 5000, abs=20_000)
    assert driven(cells, TIME) == 129_000


def test_a_detour_is_said_and_its_way_is_not_given_to_the_shape() -> None:
    items = kit.drive(0, seconds=180)
    away = []
    for k in range(60, 120):
        east, north = kit.at(0, 10.0 * k)
        away.append(kit.hfp(kit.T0 + 1000 * k, (east, north - 250.0)))
    out, cells, o = observe([kit.envelope(items[:60] + away + items[120:])])
    said = [r.get("off_route") for r in kit.records(out, "vehicle-position")]
    assert set(said[:60]) == {False}
    assert set(said[76:120]) == {True}
    assert said[-1] is False
    assert o.tally.off_route == said.count(True)
    assert driven({k: v for k, v in cells.items() if k[1] in ("main4_f", "main3_f")}) <= 30_000


def test_turning_round_at_the_terminus_changes_the_direction_and_makes_no_jump() -> None:
    there = kit.drive(0, seconds=199)
    back = kit.drive(1, seconds=100, start_ms=kit.T0 + 260_000, direction=2, start="07:40")
    wait = [
        kit.hfp(kit.T0 + 1000 * k, kit.at(0, 1995.0), spd=0.0, temporal="upcoming", direction=2, start="07:40") for k in range(200, 260)
    ]
    out, cells, _ = observe([kit.envelope(there + wait + back)])
    names = [r["segment_id"] for r in kit.records(out, "vehicle-position")]
    assert all(n.endswith("_f") for n in names[5:199])
    assert all(n.endswith("_b") for n in names[265:])
    assert driven(cells) == pytest.approx(1_990_000 + 1_000_000, abs=10_000)
    starts = [(r["direction_id"], r["start_time"]) for r in kit.records(out, "vehicle-position")]
    assert Counter(starts) == {(0, "07:24"): 200, (1, "07:40"): 161}


def test_two_trips_of_one_vehicle_that_are_interleaved_keep_their_fields_apart_and_invent_no_way() -> None:
    items = []
    for k in range(60):
        old = k % 2 == 0
        s = 1900.0 + k if old else 60.0
        items.append(
            kit.hfp(kit.T0 + 1000 * k, kit.at(0 if old else 1, s), direction=1 if old else 2, start="07:24" if old else "07:40", spd=1.0)
        )
    out, cells, _ = observe([kit.envelope(items)])
    for k, r in enumerate(kit.records(out, "vehicle-position")):
        assert (r["direction_id"], r["start_time"]) == ((0, "07:24") if k % 2 == 0 else (1, "07:40"))
    assert driven(cells) < 100_000


def test_a_bus_without_a_known_line_is_matched_to_the_streets() -> None:
    out, cells, _ = observe([kit.envelope(kit.drive(0, seconds=120, route="9999", hdg=90))])
    names = [r.get("segment_id") for r in kit.records(out, "vehicle-position")]
    assert sum(n is not None and n.startswith("main") and n.endswith("_f") for n in names) >= 0.95 * len(names)
    assert driven(cells) == pytest.approx(1_200_000, rel=0.05)


# --------------------------------------------------------------------------------------------------------------------------- lateness


def test_lateness_is_decided_by_each_message_s_own_time_of_receipt() -> None:
    """The minute 05:30 takes events until 05:32:30 of log time, also inside one envelope."""
    last = kit.T0 + 60_000 + 90_000
    on_time = kit.hfp(kit.T0 + 10_000, kit.at(0, 100.0), ingest_ms=last)
    late = kit.hfp(kit.T0 + 11_000, kit.at(0, 110.0), ingest_ms=last + 1)
    out, _, o = observe([kit.envelope([on_time, late])])
    assert [r["event_time"] for r in kit.records(out, "vehicle-position")] == ["2026-03-10T05:30:10.000Z"]
    ((r),) = kit.records(out, "late")
    assert (r["event_time"], r["reason"], r["key"], r["offset"], r["index"]) == (
        "2026-03-10T05:30:11.000Z", "window_closed", "0018/00001", 0, 1,
    )  # fmt: skip
    assert (o.tally.accepted, o.tally.late) == (1, 1)


def test_an_event_that_is_older_than_the_memory_of_its_vehicle_is_kept_as_late_and_not_counted() -> None:
    items = kit.drive(0, 1.0, seconds=80)
    old = kit.hfp(kit.T0 + 2500, kit.at(0, 2.0), ingest_ms=kit.T0 + 81_000)
    out, _, o = observe([kit.envelope([*items, old])])
    assert [(r["reason"], r["event_time"]) for r in kit.records(out, "late")] == [("older_than_memory", "2026-03-10T05:30:02.500Z")]
    assert o.tally.events == 82 == o.tally.accepted + o.tally.late


def test_a_vehicle_not_heard_for_half_an_hour_is_new_whether_it_was_flushed_in_between_or_not() -> None:
    first = kit.drive(0, seconds=20)
    later = kit.drive(0, seconds=60, from_m=600.0, start_ms=kit.T0 + 31 * 60_000)
    o, out = observer(), Outputs()
    for k, e in enumerate([kit.envelope(first), *(kit.tick(kit.T0 + 60_000 * m) for m in range(1, 31)), kit.envelope(later)]):
        out.extend(o.feed_envelope(e, k))
        o.flush()
    other, whole = observer(), Outputs()
    for k, e in enumerate(kit.cut(first + later, [len(first)])):
        whole.extend(other.feed_envelope(e, k))
    assert out.records["vehicle-position"] == whole.records["vehicle-position"]


# -------------------------------------------------------------------------------------------------------------------------- snapshots


def stages(items: list[Item]) -> Iterator[list[Envelope]]:
    envelopes = kit.cut(items, range(0, len(items), 25))
    for k in (1, len(envelopes) // 2, len(envelopes) - 1):
        yield envelopes[:k]
        yield envelopes[k:]


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32))
def test_a_restored_observer_goes_on_byte_for_byte(seed: int) -> None:
    items = storm(seed)
    envelopes = kit.cut(items, range(0, len(items), 25))
    for k in (1, len(envelopes) // 2, len(envelopes) - 1):
        a = observer()
        for n, e in enumerate(envelopes[:k]):
            a.feed_envelope(e, n)
            a.flush()
        b = observer()
        b.restore(a.export())
        assert b.export() == a.export()
        for n, e in enumerate(envelopes[k:], start=k):
            assert a.feed_envelope(e, n).records == b.feed_envelope(e, n).records
            assert a.flush() == b.flush()
        assert a.export() == b.export()
        assert dataclasses.asdict(a.tally) == dataclasses.asdict(b.tally)


def test_a_snapshot_of_another_schema_or_network_is_refused() -> None:
    o = observer()
    o.feed_envelope(kit.envelope(kit.drive(0, seconds=5)), 0)
    o.flush()
    state = msgspec.msgpack.decode(o.export(), strict=False)
    for change in ({"schema": 999}, {"network": "another"}):
        with pytest.raises(ValueError, match="snapshot"):
            observer().restore(msgspec.msgpack.encode(state | change))


def test_state_is_not_exported_while_sums_wait() -> None:
    o = observer()
    o.feed_envelope(kit.envelope(kit.drive(0, seconds=5)), 0)
    with pytest.raises(RuntimeError):
        o.export()


def test_all_open_sums_can_be_told_again() -> None:
    o = observer()
    o.feed_envelope(kit.envelope(kit.drive(0, seconds=50)), 0)
    first = told([o.flush()])
    assert told([o.flush()]) == {}
    o.resend()
    assert told([o.flush()]) == first


def test_merging_partials_in_any_order_and_again_gives_the_same_finals() -> None:
    from streams.fuse import Fuser, FuseSettings

    o, partials = observer(), []
    for k, e in enumerate(kit.cut(storm(4, vehicles=4), range(0, 3000, 40))):
        o.feed_envelope(e, k)
        partials.append(o.flush())
    o.idle(o.log_ms + 3_600_000)
    partials.append(o.flush())
    rng = np.random.default_rng(0)
    quiet = dataclasses.replace(FuseSettings(), provisional_ms=1 << 60)
    results = []
    last = len(partials) - 1  # Watermarks may only be told when everything below them is in: the last partial tells them here.
    for order in ([*range(last), last], [*range(last), *range(last), last, *range(last)], [*rng.permutation(last).tolist(), last]):
        fuser, out = Fuser(kit.city(), NET, quiet), Outputs()
        for f in ("gtfs_rt", "tms"):
            fuser.watermark[f, 0] = 1 << 62
        for k in order:
            p = wire.decode(partials[k])
            p = msgspec.structs.replace(p, watermark_ms=p.watermark_ms if k == last else 0)
            out.extend(fuser.feed(p, k))
        results.append([r for r in out.records["segment-state"] if b'"final"' in r.value])
    assert results[0] == results[1] == results[2]


def test_rows_of_nothing_are_nothing() -> None:
    o = observer()
    p = wire.decode(o.flush())
    assert len(p.rows().who) == 0
    assert isinstance(concat([]), Rows)
    assert polylines.lengths(NET.shapes.geometry).tolist() == [2000, 2000, 4000, 5400, 6000]


def test_every_position_has_the_bytes_that_encoding_its_record_gives() -> None:
    """Columns are encoded at once; what is not known is left out, also where the rest of the column is known."""
    lines = kit.cut(kit.drive(0, 5.0, seconds=60), range(60))
    cut = [
        msgspec.structs.replace(
            e,
            items=tuple(
                i if k % 3 else msgspec.structs.replace(i, body=without(i.body, ("spd", "hdg", "dl", "odo", "drst")[n % 5]))
                for k, i in enumerate(e.items, n)
            ),
        )
        for n, e in enumerate(lines)
    ]
    out, _, _ = observe(cut)
    values = [o.value for o in out.records["vehicle-position"]]
    assert len(values) > 50
    assert [encode(msgspec.json.decode(v, type=VehiclePosition)) for v in values] == values
    assert {len(json.loads(v)) for v in values} != {len(json.loads(values[0]))}


def without(body: bytes, field: str) -> bytes:
    """The message, with null for a field."""
    message = json.loads(body)
    message["VP"][field] = None
    return json.dumps(message).encode()
