"""DATEX II of both generations becomes readings, sites and situations. More in ``tests/golden/datex2``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.cities import load
from connectors.columns import Parsed
from connectors.datex2.parse import Parser
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import Remembers
from models.clock import parse_ms
from streams.ground import Ground
from streams.observe import Observer
from tests.streams.kit import network

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CITY = load(GOLDEN / "fixture.toml")
NOW = parse_ms("2026-03-10T05:30:05Z")
LANES = GOLDEN / "datex2" / "v2_lanes_and_classes"


def envelope(*bodies: bytes, kind: Any = "snapshot", at: int = NOW) -> Envelope:
    return Envelope(SCHEMA, "fixture", "datex2", "datex2", kind, at, tuple(Item(at, "https://example.org/x.xml", b) for b in bodies))


def parse(*bodies: bytes, kind: Any = "snapshot", at: int = NOW, box: Any = None, **settings: Any) -> Parsed:
    city = CITY if box is None else load(GOLDEN / "fixture.toml", {"box": box})
    return Parser(msgspec.structs.replace(city.feed("datex2"), **settings), city).parse(envelope(*bodies, kind=kind, at=at))


def measured(inside: str, time: str = "2026-03-10T05:29:00Z") -> bytes:
    return (
        '<d2LogicalModel xmlns="http://datex2.eu/schema/2/2_0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        '<payloadPublication xsi:type="MeasuredDataPublication"><siteMeasurements><measurementSiteReference id="S" version="1"/>'
        f"<measurementTimeDefault>{time}</measurementTimeDefault>{inside}</siteMeasurements></payloadPublication></d2LogicalModel>"
    ).encode()


def flow(rate: object, attributes: str = "") -> str:
    return (
        f'<measuredValue index="1"><measuredValue><basicData xsi:type="TrafficFlow">{attributes}<vehicleFlow>'
        f"<vehicleFlowRate>{rate}</vehicleFlowRate></vehicleFlow></basicData></measuredValue></measuredValue>"
    )


def speed(kmh: object, inputs: int = 3) -> str:
    return (
        '<measuredValue index="2"><measuredValue><basicData xsi:type="TrafficSpeed">'
        f'<averageVehicleSpeed numberOfInputValuesUsed="{inputs}"><speed>{kmh}</speed></averageVehicleSpeed></basicData></measuredValue></measuredValue>'
    )


def one(body: bytes, **settings: Any) -> Any:
    parsed = parse(body, **settings)
    assert parsed.rejects == []
    assert parsed.sensors is not None
    return parsed.sensors


@pytest.mark.parametrize(("kmh", "inputs", "known"), [(50, 3, True), (0, 3, True), (-1, 3, False), (50, 0, False)])
def test_a_speed_that_nobody_drove_is_not_known(kmh: int, inputs: int, known: bool) -> None:
    s = one(measured(flow(0) + speed(kmh, inputs)))
    assert s.flow_vph.tolist() == [0]
    assert s.speed_kmh.tolist() == pytest.approx([kmh if known else np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("settings", "document", "start", "end"),
    [
        ({}, "", "05:28:00", "05:29:00"),
        ({"sensor_window_s": 360.0}, "", "05:23:00", "05:29:00"),
        ({"sensor_time": "begin"}, "", "05:29:00", "05:30:00"),
        ({}, "<measurementOrCalculationPeriod>300</measurementOrCalculationPeriod>", "05:24:00", "05:29:00"),
    ],
)
def test_a_window_is_as_long_as_the_document_says_or_the_city_file(settings: Any, document: str, start: str, end: str) -> None:
    s = one(measured(flow(60, document)), **settings)
    assert [s.window_start_ms[0], s.window_end_ms[0]] == [parse_ms(f"2026-03-10T{t}Z") for t in (start, end)]


def test_what_the_table_said_is_remembered_from_one_document_to_the_next_and_over_a_restart() -> None:
    table, values = (LANES / "in1_table.xml").read_bytes(), (LANES / "in2_measured.xml").read_bytes()
    feed = CITY.feed("datex2")
    first = Parser(feed, CITY)
    assert isinstance(first, Remembers)
    first.parse(envelope(table))
    second = Parser(feed, CITY)
    second.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(first.export())))
    for parser in (first, second):
        s = parser.parse(envelope(values)).sensors
        assert s is not None
        assert (s.flow_vph[0], s.speed_kmh[0]) == (1800, 80)
    assert parse(values).passed["no_site_table"] == 1


def test_the_table_is_part_of_the_observers_snapshot() -> None:
    table, values = (LANES / "in1_table.xml").read_bytes(), (LANES / "in2_measured.xml").read_bytes()
    ground = Ground(network())
    before = Observer(CITY, "datex2", 0, ground)
    before.feed_envelope(envelope(table), 0)
    before.flush()
    after = Observer(CITY, "datex2", 0, ground)
    after.restore(before.export())
    out = after.feed_envelope(envelope(values), 1)
    records = [msgspec.json.decode(o.value) for o in out.records["sensor-observation"]]
    assert [(r["site_id"], r.get("flow_vph"), r["lat_deg"]) for r in records] == [("datex2/S1", 1800, 60.25), ("datex2/S2", None, 60.3)]


def test_a_situation_without_coordinates_is_the_citys_when_it_names_one_of_its_areas() -> None:
    def body(name: str) -> bytes:
        return (
            '<d2LogicalModel xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><payloadPublication xsi:type="SituationPublication">'
            '<situation id="A"><situationRecord xsi:type="Accident" version="1"><situationRecordVersionTime>2026-03-10T05:00:00Z'
            "</situationRecordVersionTime><groupOfLocations><alertCPoint><alertCLocation><alertCLocationName><values>"
            f"<value>{name}</value></values></alertCLocationName></alertCLocation></alertCPoint></groupOfLocations></situationRecord>"
            "</situation></payloadPublication></d2LogicalModel>"
        ).encode()

    assert parse(body("Oulu"), areas=("Tampere",)).passed == {"outside_areas": 1}
    (stated,) = parse(body("Tampere"), areas=("Tampere",)).stated
    assert msgspec.to_builtins(stated.record)["areas"] == ["Tampere"]
    assert len(parse(body("Oulu")).stated) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_xml"),
        (b"<Siri/>", "not_datex2"),
        (b"<payload_/>", "not_datex2"),
        (b'<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]><payload>&x;</payload>', "doctype"),
        (measured(flow(1))[:-30], "bad_xml"),
        (b"<d2LogicalModel/>", "not_datex2"),
    ],
)
def test_a_document_of_another_kind_is_refused_whole(body: bytes, reason: str) -> None:
    parsed = parse(body)
    assert ([(r.index, r.reason) for r in parsed.rejects], parsed.events) == ([(-1, reason)], 1)


@pytest.mark.parametrize(
    ("inside", "field"),
    [
        (flow("many"), "vehicleFlowRate"),
        (flow(1e12), "vehicleFlowRate"),
        (flow("NaN"), "vehicleFlowRate"),
        (flow(-2), "vehicleFlowRate"),
        (flow(1, "<measurementOrCalculationPeriod>-1</measurementOrCalculationPeriod>"), "measurementOrCalculationPeriod"),
        (flow(1) * 501, "measuredValue"),
    ],
)
def test_a_bad_site_is_refused_by_name(inside: str, field: str) -> None:
    assert [(r.index, r.field) for r in parse(measured(inside)).rejects] == [(0, field)]


def test_broken_bytes_end_as_refusals_and_nothing_else() -> None:
    rng = random.Random(5)
    originals = [p.read_bytes() for p in sorted((GOLDEN / "datex2").glob("*/in*"))]
    for _ in range(600):
        body = bytearray(rng.choice(originals))
        for _ in range(rng.randrange(1, 5)):
            i = rng.randrange(len(body))
            new = rng.choice([b"", b"1e400", b"NaN", b"-1", b"\xff", b"&x;", b"9" * 30, b"<a>", b"</", bytes([rng.randrange(256)])])
            body[i : i + rng.randrange(12)] = new
        parsed = parse(bytes(body))
        assert parsed.events == len(parsed.sensors or []) + len(parsed.sites) + len(parsed.stated) + len(parsed.rejects)


WEST = {"south": 48.0, "west": 1.0, "north": 53.0, "east": 9.0}


@pytest.mark.parametrize(
    ("file", "sensors", "situations"),
    [("france_measured_speeds_20260725.xml", 2, 0), ("netherlands_situations_20260724.xml", 0, 2), ("france_events.xml", 0, 1)],
)
def test_real_publications_are_read_whole(shared: Path, file: str, sensors: int, situations: int) -> None:
    body = (shared / "feeds/generic/datex2" / file).read_bytes()
    parsed = parse(body, at=parse_ms("2026-07-25T08:35:00+02:00"), box=WEST)
    assert (len(parsed.sensors or []), len(parsed.stated), parsed.rejects, parsed.passed) == (sensors, situations, [], {})
    assert all(msgspec.to_builtins(s.record)["geometry"] for s in parsed.stated)


def test_finlands_situations_are_the_citys_by_the_first_sentence_of_their_text() -> None:
    def of(city: str, said: str) -> int:
        body = (
            '<d2LogicalModel xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><payloadPublication xsi:type="SituationPublication">'
            '<situation id="A"><situationRecord xsi:type="Accident" version="1"><situationRecordVersionTime>2026-03-10T05:00:00Z'
            f'</situationRecordVersionTime><generalPublicComment><comment><values><value lang="fi">{said}</value></values></comment>'
            "</generalPublicComment></situationRecord></situation></payloadPublication></d2LogicalModel>"
        )
        return len(parse(body.encode(), areas=load(city).feed("datex").areas).stated)

    espoo, ice = "\n Tie 50, eli Kehä III, Espoo. Tietyö. \nTie 9, Tampere.", "Tie 816, Hailuoto, Oulu. Liikennetiedote."
    assert [of(city, espoo) for city in ("helsinki", "tampere", "turku", "oulu")] == [1, 0, 0, 0]
    assert [of(city, ice) for city in ("helsinki", "tampere", "turku", "oulu")] == [0, 0, 0, 1]
    assert of("oulu", "Ouluntie, Kemi. Liikennetiedote.") == 0


def test_recorded_situations_of_finland_reach_their_cities(shared: Path) -> None:
    files = sorted((shared / "feeds/national/digitraffic/datex2_situation").glob("*.xml"))
    bodies = [p.read_bytes() for p in files]
    found = {c: len(parse(*bodies, areas=load(c).feed("datex").areas).stated) for c in ("helsinki", "tampere", "turku", "oulu")}
    assert found == {"helsinki": 10, "tampere": 5, "turku": 1, "oulu": 2}


def test_the_standards_own_examples_of_version_3_7_are_read(shared: Path) -> None:
    folder = shared / "standards/datex2-v3.7/examples"
    bodies = [(folder / f"valid-{kind}.xml").read_bytes() for kind in ("measured", "situation", "elaborated")]
    parsed = parse(*bodies, at=parse_ms("2026-01-01T00:01:00Z"))
    assert (len(parsed.sensors or []), len(parsed.stated), parsed.rejects) == (1, 1, [])
    assert parsed.passed == {"publication_ElaboratedDataPublication": 1}


def test_finlands_situations_are_read_and_the_templates_among_them_refused(shared: Path) -> None:
    files = sorted((shared / "feeds/national/digitraffic/datex2_situation").glob("*.xml"))
    parsed = parse(*(p.read_bytes() for p in files))
    assert len(parsed.stated) >= 25
    assert {r.value for r in parsed.rejects} <= {"OVERALL_START_TIME", "%VERSIONTIME%", "DISORDER2_END_PLACEHOLDER"}
    assert all("geometry" not in msgspec.to_builtins(s.record) for s in parsed.stated)  # ALERT-C alone is no place on a map
