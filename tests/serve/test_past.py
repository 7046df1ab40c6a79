"""What the gateway remembers: finals, tracks, figures of the city; and what it tells of them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from models.clock import parse_ms, rfc3339
from models.emission_records import AreaState, EmissionArea, KmByLos, Quantity
from models.records import Situation, SourceMix, encode
from serve import past as memory
from serve.bygone import Situations
from serve.day import course
from serve.history import History
from serve.past import Minutes, Past
from streams.archive_files import Files, Source
from streams.archive_rows import Row
from streams.archive_store import Store

HELSINKI = ZoneInfo("Europe/Helsinki")
NOUGHT = Quantity(value=0.0, lo95=0.0, hi95=0.0)


def flow(start_ms: int, index: float | None = 1.2, km: float = 600.0, minutes: int = 1, revision: int = 1) -> AreaState:
    return AreaState(
        area_id="town", area_kind="city", window_start=rfc3339(start_ms), window_end=rfc3339(start_ms + minutes * 60_000), status="final", revision=revision,
        km_by_los=KmByLos(A=1, B=0, C=0, D=0, E=0, F=0, unknown=0), coverage_pct=40.0, vehicles=3, segments=5, confidence=0.5, travel_time_index=index,
        vehicle_km_h=km, delay_veh_h=6.0,
    )  # type: ignore[arg-type]  # fmt: skip


def emission(start_ms: int, grams: float = 60_000.0) -> EmissionArea:
    return EmissionArea(
        area_id="town", area_kind="city", window_start=rfc3339(start_ms), window_end=rfc3339(start_ms + 300_000), status="final", revision=1, co2_fossil=NOUGHT,
        co2_total=Quantity(value=grams, lo95=grams / 2, hi95=grams * 2), co2_electricity=NOUGHT, nox=NOUGHT, no2=NOUGHT, pm_exhaust=NOUGHT, pm_nonexhaust=NOUGHT, co=NOUGHT,
        energy=NOUGHT, fleet_mix="f", factor_set="s", factor_rows="r", scope="x", temperature_c=0.0, temperature_source="default", grid_g_per_kwh=1.0, grid_source="default",
        segments=5, coverage_expansion=1.0, coverage_pct=40.0, vehicle_km_h=600.0, flow_source="prior",
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture
def remembered(fed: Any, town: ModuleType) -> Any:
    """Ten minutes of one street, each slower than the one before; a street told once; two buses of one line."""
    for minute in range(10):
        fed(
            town.state(
                2,
                minute=minute,
                revision=9,
                los="F",
                status="final",
                speed_p20_kmh=10.0,
                speed_p80_kmh=30.0,
                speed_kmh=20.0 - minute,
                source_mix=SourceMix(probe=0.7, memory=0.3),
            )
        )
        fed(town.state(2, minute=minute + 1, revision=1, los="A"))
    fed(town.state(0, minute=0, revision=9, los="B", status="final"))
    for n in range(40):
        fed(
            town.vehicle(
                1,
                at_s=15.0 * n,
                lon_deg=24.93 + 0.0004 * n,
                lat_deg=60.17 + 0.0002 * n,
                direction_id=0,
                segment_id="w0_1_2_f",
                start_time="07:20",
                delay_s=10 * n,
            )
        )
        fed(
            town.vehicle(
                2, at_s=15.0 * n, lon_deg=24.93 + 0.0002 * n, lat_deg=60.17 + 0.0001 * n, direction_id=0, start_time="07:25", delay_s=-70
            )
        )
        fed(town.vehicle(1, at_s=15.0 * n + 3, lon_deg=24.9, direction_id=0))
    return fed


async def test_the_picture_of_a_time_holds_what_was_final_then_and_nothing_that_is_older_than_its_heartbeat(
    remembered: Any, start: Any, town: ModuleType
) -> None:
    client = await start()

    async def at(minutes: float) -> dict[str, Any]:
        answer = await client.get("/api/v1/cities/town/past/picture", params={"datetime": rfc3339(town.NOW + int(minutes * 60_000))})
        return await answer.json()  # type: ignore[no-any-return]

    early = await at(1.0)
    states = early["states"]
    assert dict(zip(states["segment_id"], states["los"], strict=True)) == {"w2_1_2_f": "F", "w0_1_2_f": "B"}
    assert {v["vehicle_id"] for v in early["vehicles"]} == {"0018/00001", "0018/00002"}
    assert (await at(9.5))["states"]["segment_id"] == ["w2_1_2_f"], "the other one was told too long before"
    assert (await at(0.5))["states"]["segment_id"] == []
    assert (await at(-9))["vehicles"] == []
    span = await (await client.get("/api/v1/cities/town/past")).json()
    assert (span["from"], span["to"]) == (rfc3339(town.NOW + 60_000), rfc3339(town.NOW + 600_000))


async def test_a_segment_s_last_hours_come_in_columns_with_band_and_sources(remembered: Any, start: Any) -> None:
    body = await (await (await start()).get("/api/v1/cities/town/past/segments/w2_1_2_f")).json()
    assert body["speed_kmh"] == [20.0 - n for n in range(10)]
    assert body["speed_p20_kmh"][0] == 10.0
    assert body["source_mix_pct"]["probe"][0] == 70
    assert body["origin"] == ["measured"] * 10
    assert body["flow_vph"] == [None] * 10


async def test_a_string_line_puts_every_run_of_a_line_on_the_way_of_the_longest(remembered: Any, start: Any) -> None:
    client = await start()
    body = await (await client.get("/api/v1/cities/town/past/routes/2510", params={"direction_id": "0"})).json()
    assert body["length_m"] == pytest.approx(39 * 31.4, rel=0.03)
    runs = {r["vehicle_id"]: r for r in body["runs"]}
    assert runs["0018/00001"]["start_time"] == "07:20"
    assert runs["0018/00001"]["at_m"] == sorted(runs["0018/00001"]["at_m"])
    assert runs["0018/00001"]["at_m"][-1] == pytest.approx(body["length_m"], abs=20)
    assert runs["0018/00002"]["at_m"][-1] == pytest.approx(body["length_m"] / 2, abs=40)
    assert runs["0018/00001"]["delay_s"][-1] == 390
    assert body["streets"] == [{"at_m": 0, "name": "Aleksanterinkatu"}]
    assert (await (await client.get("/api/v1/cities/town/past/routes/9")).json())["runs"] == []


def test_memory_is_bounded_by_bytes_and_by_age_and_the_oldest_minutes_go_first() -> None:
    minutes = Minutes(memory.SEGMENT_ROW, most_bytes=memory.SEGMENT_ROW.itemsize * 10)
    row = bytes(memory.SEGMENT_ROW.itemsize)
    for n in range(30):
        minutes.add(n * 60_000, row)
    assert sorted(minutes.rows) == [n * 60_000 for n in range(20, 30)]
    minutes.add(29 * 60_000 + memory.KEEP_MS, row)
    assert sorted(minutes.rows) == [29 * 60_000, 29 * 60_000 + memory.KEEP_MS]
    minutes.add(0, row)
    assert 0 not in minutes.rows, "too old to be kept"
    assert minutes.bytes == sum(map(len, minutes.rows.values()))


def test_the_day_on_which_clocks_change_has_25_hours() -> None:
    told = course(Past(), [], HELSINKI, parse_ms("2026-10-25T09:00:00.000Z"))
    assert told["last_ms"] - told["first_ms"] == 25 * 3_600_000  # type: ignore[operator]


async def test_today_is_told_minute_by_minute_as_far_as_it_is_remembered(feed: Any, start: Any) -> None:
    at = parse_ms("2026-11-23T06:00:00.000Z")
    for minute in range(10):
        feed(flow(at + minute * 60_000, index=1.4))
    feed(emission(at))
    body = await (await (await start()).get("/api/v1/cities/town/past/day", params={"datetime": rfc3339(at)})).json()
    assert [p[1] for p in body["travel_time_index"]["now"]] == [1.4] * 10
    assert body["co2_kg_h"]["now"] == [[at, 60.0, 30.0, 120.0]]
    assert (body["travel_time_index"]["usual"], body["kind"]) == ([], "workday")


@pytest.fixture
def archive(tmp_path: Path, town: ModuleType) -> Path:
    """A quarter of an hour of the day before: one street, one bus."""
    store = Store(tmp_path / "archive", make=True)
    states = [town.state(2, minute=m - 1440, los="E", status="final", source_mix=SourceMix(loop=1.0)) for m in range(15)]
    fixes = [town.vehicle(1, at_s=15.0 * n - 86_400, lon_deg=24.93 + 0.0004 * n, direction_id=0, segment_id="w0_1_2_f") for n in range(60)]
    for product, records in (("segment-state", states), ("vehicle-position", fixes)):
        files = Files.open(store, Source("town", product, f"mobility.town.{product}.v1", "CC-BY-4.0", ("Town",)), 0)
        files.write([Row(n, town.NOW - 86_400_000, b"k", encode(r), str(n)) for n, r in enumerate(records)], 0)
    return tmp_path / "archive"


async def test_beyond_the_memory_the_archive_answers_in_the_same_form(remembered: Any, start: Any, town: ModuleType, archive: Path) -> None:
    client = await start(archive=History(archive))
    then = town.NOW - 86_400_000
    body = await (await client.get("/api/v1/cities/town/past/picture", params={"datetime": rfc3339(then + 300_000)})).json()
    assert (body["states"]["segment_id"], body["states"]["los"], body["states"]["confidence_pct"]) == (["w2_1_2_f"], "E", [80])
    assert [v["vehicle_id"] for v in body["vehicles"]] == ["0018/00001"]
    when = f"{rfc3339(then)}/{rfc3339(town.NOW + 600_000)}"
    series = await (await client.get("/api/v1/cities/town/past/segments/w2_1_2_f", params={"datetime": when})).json()
    assert series["los"] == ["E"] * 15 + ["F"] * 10
    when = f"{rfc3339(then)}/{rfc3339(then + 900_000)}"
    line = await (await client.get("/api/v1/cities/town/past/routes/2510", params={"datetime": when})).json()
    assert [r["vehicle_id"] for r in line["runs"]] == ["0018/00001"]


@pytest.mark.parametrize(
    "query", ["past/picture?datetime=..", "past/day?datetime=0001-01-01T00:00:00Z", "past/routes/1?direction_id=2", "past/picture?at=1"]
)
async def test_what_is_not_understood_is_refused(query: str, fed: Any, start: Any) -> None:
    assert (await (await start()).get(f"/api/v1/cities/town/{query}")).status == 400


async def test_emissions_of_streets_are_kilograms_an_hour_and_kilometre_with_bounds(fed: Any, start: Any, town: ModuleType) -> None:
    value = (
        b'{"segment_id":"w1_1_2_f","window_start":"2026-03-10T05:30:00.000Z","window_end":"2026-03-10T05:31:00.000Z",'
        b'"co2_total":{"value":16000.0,"lo95":8000.0,"hi95":32000.0}}'
    )
    fed(value, product="emission-segment", key="w1_1_2_f")
    client = await start()
    body = await (await client.get("/api/v1/cities/town/emissions")).json()
    assert (body["segment_id"], body["co2_kg_h_km"], body["co2_kg_h_km_lo95"], body["co2_kg_h_km_hi95"]) == (
        ["w1_1_2_f"],
        [100.0],
        [50.0],
        [200.0],
    )
    assert (await (await client.get("/api/v1/cities/town/past/segments/w1_1_2_f")).json())["emission"]["co2_total"]["value"] == 16000.0


CO2_VALUE = b'{"segment_id":"w1_1_2_f","window_start":"%b","window_end":"%b","co2_total":{"value":%f,"lo95":8000.0,"hi95":32000.0}}'


async def test_emissions_situations_and_lines_of_a_time_are_those_that_were_told_then(fed: Any, start: Any, town: ModuleType) -> None:
    def at(minute: float) -> str:
        return rfc3339(town.NOW + int(minute * 60_000))

    for minute, value in ((-61, 16_000.0), (-1, 48_000.0)):
        fed(CO2_VALUE % (at(minute).encode(), at(minute + 1).encode(), value), product="emission-segment", key="w1_1_2_f")
        fed(
            b'{"route_id":"2510","direction_id":0,"window_end":"%b","delay_p50_s":%d}' % (at(minute + 1).encode(), -minute),
            product="line-fluency",
            key="2510:0",
        )
    for minute, more in ((-62, b""), (-20, b',"ended":true')):
        fed(
            b'{"situation_id":"t/1","kind":"incident","ingest_time":"%b","event_time":"%b"%b}'
            % (at(minute).encode(), at(minute).encode(), more),
            product="situation",
            key="t/1",
        )
    client = await start()

    async def told(minute: float) -> tuple[dict[str, Any], dict[str, Any]]:
        given = {"params": {"datetime": at(minute)}}
        picture = await (await client.get("/api/v1/cities/town/past/picture", **given)).json()
        return picture["records"], await (await client.get("/api/v1/cities/town/emissions", **given)).json()

    records, co2 = await told(-59.5)
    assert [r["delay_p50_s"] for r in records["line-fluency"]] == [61]
    assert [r.get("ended") for r in records["situation"]] == [None]
    assert co2["co2_kg_h_km"] == [pytest.approx(100.0, rel=1e-3)]
    records, co2 = await told(0.5)
    assert [r["delay_p50_s"] for r in records["line-fluency"]] == [1]
    assert [r["ended"] for r in records["situation"]] == [True]
    assert co2["co2_kg_h_km"] == [pytest.approx(300.0, rel=1e-3)]
    assert (await told(-30))[0]["line-fluency"] == []
    assert (await told(-30))[1]["segment_id"] == []


def test_versions_of_a_situation_are_bounded_and_the_last_one_stays() -> None:
    held = Situations(most_bytes=1_000)
    for n in range(100):
        held.add("a", n * 1_000, b"%099d" % n)
        held.add("b", 0, b"b")
    assert held.bytes <= 1_000
    assert held.bytes == sum(len(v) for each in held.versions.values() for _, v in each)
    assert held.at(99_000) == [b"%099d" % 99, b"b"]
    held.add("a", 100_000, b"")
    assert held.at(100_000) == [b"b"]
    held.add("b", 100_000 + 2 * memory.KEEP_MS, b"c")
    assert list(held.versions) == ["b"], "what was taken away long ago is forgotten"


def test_runs_that_nothing_speaks_of_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch, town: ModuleType) -> None:
    monkeypatch.setattr(memory, "SPARE_TRIPS", 10)
    monkeypatch.setattr(memory, "MOST_VEHICLE_BYTES", memory.VEHICLE_ROW.itemsize * 20)
    past = Past()
    for n in range(500):
        past.fix(memory.Fix(vehicle_id="v", lat_deg=60.0, lon_deg=24.0, route_id=str(n), direction_id=0), n * 60_000)
    assert len(past.trips) < 60
    assert [v["route_id"] for v in past.vehicles_at(499 * 60_000)] == ["499"]
    assert len(past.tracks("495", 0, 0, 500 * 60_000)) == 1


async def test_what_the_archive_tells_of_situations_lines_and_emissions_is_as_it_was_published(
    remembered: Any, start: Any, town: ModuleType, archive: Path
) -> None:
    then, store = town.NOW - 86_400_000, Store(archive, make=True)
    crash = Situation(
        situation_id="t/1", kind="incident", feed="t", event_time=rfc3339(then), ingest_time=rfc3339(then), title={"fi": "Kolari"}, routes=["1", "2"],
        geometry={"type": "Point", "coordinates": [24.93, 60.17]},
    )  # fmt: skip
    files = Files.open(store, Source("town", "situation", "mobility.town.situation.v1", "CC-BY-4.0", ("Town",)), 0)
    files.write([Row(0, then, b"t/1", encode(crash), "0"), Row(1, then, b"t/0", None, "1")], 0)
    client = await start(archive=History(archive))
    answer = await client.get("/api/v1/cities/town/past/picture", params={"datetime": rfc3339(then + 300_000)})
    records = (await answer.json())["records"]
    assert records["line-fluency"] == []
    assert records["situation"] == [msgspec.json.decode(encode(crash))]
    answer = await client.get("/api/v1/cities/town/emissions", params={"datetime": rfc3339(then + 300_000)})
    assert (await answer.json())["segment_id"] == []
