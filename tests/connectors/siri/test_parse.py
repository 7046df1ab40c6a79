"""SIRI deliveries become vehicles, passages and situations; what is no observation is counted. More in ``tests/golden/siri``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.cities import load
from connectors.columns import Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.reading import NAN
from connectors.siri.parse import Parser
from models.clock import parse_ms

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CITY = load(GOLDEN / "fixture.toml")
NOW = parse_ms("2026-03-10T05:30:05Z")
VM = '<Siri xmlns="http://www.siri.org.uk/siri"><ServiceDelivery><VehicleMonitoringDelivery>{}</VehicleMonitoringDelivery></ServiceDelivery></Siri>'


def parse(*bodies: bytes, kind: Any = "snapshot", at: int = NOW, **settings: Any) -> Parsed:
    feed = msgspec.structs.replace(CITY.feed("siri"), **settings)
    return Parser(feed, CITY).parse(
        Envelope(SCHEMA, "fixture", "siri", "siri", kind, at, tuple(Item(at, "https://example.org/vm", b) for b in bodies))
    )


def activity(inside: str = "", at: str = "2026-03-10T05:30:00Z") -> str:
    return (
        f"<VehicleActivity><RecordedAtTime>{at}</RecordedAtTime><MonitoredVehicleJourney>"
        f"<VehicleRef>1</VehicleRef>{inside}</MonitoredVehicleJourney></VehicleActivity>"
    )


def one(inside: str, **settings: Any) -> Any:
    parsed = parse(VM.format(activity(inside)).encode(), **settings)
    assert parsed.rejects == []
    assert parsed.vehicles is not None
    return parsed.vehicles


@pytest.mark.parametrize(
    ("said", "delay_s"),
    [("PT0S", 0), ("PT2M", 120), ("-PT2M", -120), ("PT3M11S", 191), ("-P0Y0M0DT0H0M40.000S", -40), ("PT12H", 43_200), ("-PT13H", NAN), ("P1D", NAN)],
)  # fmt: skip
def test_late_is_positive_and_half_a_day_is_a_wrong_trip_and_no_delay(said: str, delay_s: float) -> None:
    assert one(f"<Delay>{said}</Delay>").delay_s.tolist() == pytest.approx([delay_s], nan_ok=True)


@pytest.mark.parametrize(
    ("said", "direction_id"), [("1", 0), ("2", 1), ("Outbound", 0), ("INBOUND", 1), ("go", 0), ("back", 1), ("north", None), ("", None)]
)
def test_directions_are_words_that_everybody_knows_or_what_the_city_says(said: str, direction_id: int | None) -> None:
    assert one(f"<DirectionRef>{said}</DirectionRef>").trip[0].direction_id == direction_id


def test_a_number_is_no_direction_where_the_city_does_not_say_what_it_means() -> None:
    assert one("<DirectionRef>1</DirectionRef>", directions={}).trip[0].direction_id is None


@pytest.mark.parametrize(("unit", "mps"), [("kmh", 10), ("mps", 36), ("unknown", NAN)])
def test_velocity_counts_only_in_the_unit_that_the_city_names(unit: str, mps: float) -> None:
    assert one("<Velocity>36</Velocity>", velocity_unit=unit).speed_mps.tolist() == pytest.approx([mps], nan_ok=True)


def test_a_vehicle_has_one_name_whether_it_serves_a_line_or_not() -> None:
    on_line = one("<OperatorRef>Nobina</OperatorRef><DataSource>RUT</DataSource>")
    assert on_line.vehicle_id == one("<DataSource>RUT</DataSource>").vehicle_id == ["RUT/1"]
    assert on_line.operator == ["Nobina"]
    assert one("<OperatorRef>Nobina</OperatorRef>").vehicle_id == ["Nobina/1"]
    assert one("", id_namespace="x").vehicle_id == ["x/1"]


def test_what_is_not_monitored_is_counted_and_no_vehicle() -> None:
    parsed = parse(VM.format(activity("<Monitored>false</Monitored>") + activity()).encode())
    assert parsed.vehicles is not None
    assert (len(parsed.vehicles), parsed.passed, parsed.rejects) == (1, {"not_monitored": 1}, [])


def test_an_empty_delivery_is_valid_and_holds_nothing() -> None:
    for body in (VM.format(""), '<Siri xmlns="http://www.siri.org.uk/siri"><ServiceDelivery/></Siri>'):
        parsed = parse(body.encode())
        assert (parsed.events, parsed.vehicles, parsed.rejects) == (0, None, [])


SOAP = '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>{}</e:Body></e:Envelope>'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<rss/>", "not_siri"),
        (SOAP.format("<x/>"), "not_siri"),
        (SOAP.format("<e:Fault><faultstring>quota exceeded</faultstring></e:Fault>"), "refused_by_sender"),
        ("<Siri><ServiceDelivery><Status>false</Status></ServiceDelivery></Siri>", "refused_by_sender"),
        ('{"Siri": {}}', "not_xml"),
        ('<!DOCTYPE Siri [<!ENTITY x SYSTEM "file:///etc/passwd">]><Siri>&x;</Siri>', "doctype"),
        (VM.format(activity())[:-20], "bad_xml"),
    ],
)
def test_a_document_that_is_no_delivery_is_refused_whole(body: str, reason: str) -> None:
    parsed = parse(body.encode())
    assert ([(r.index, r.reason) for r in parsed.rejects], parsed.events) == ([(-1, reason)], 1)
    assert parse(body.encode(), kind="messages").rejects[0].index == 0


@pytest.mark.parametrize(
    ("inside", "field"),
    [
        ("<VehicleLocation><Longitude>east</Longitude><Latitude>60</Latitude></VehicleLocation>", "longitude"),
        ("<VehicleLocation><Longitude>NaN</Longitude><Latitude>60</Latitude></VehicleLocation>", "longitude"),
        ('<VehicleLocation><Coordinates srsName="EPSG:999999">1 2</Coordinates></VehicleLocation>', "srsName"),
        ("<Bearing>361</Bearing>", "Bearing"),
        ("<Velocity>-1</Velocity>", "Velocity"),
        ("<Delay>PT1H1H</Delay>", "Delay"),
        ("<Delay>P1M</Delay>", "Delay"),
        ("<OriginAimedDepartureTime>0900</OriginAimedDepartureTime>", "OriginAimedDepartureTime"),
    ],
)
def test_one_bad_activity_is_refused_by_name_and_the_rest_goes_on(inside: str, field: str) -> None:
    parsed = parse(VM.format(activity() + activity(inside) + activity()).encode())
    assert [(r.index, r.field, r.body[:16]) for r in parsed.rejects] == [(1, field, b"<VehicleActivity")]
    assert parsed.vehicles is not None
    assert parsed.vehicles.index.tolist() == [0, 2]


def test_a_time_without_its_zone_is_refused() -> None:
    assert parse(VM.format(activity(at="2026-03-10T07:30:00")).encode()).rejects[0].field == "RecordedAtTime"


def test_broken_bytes_end_as_refusals_and_nothing_else() -> None:
    rng = random.Random(5)
    originals = [p.read_bytes() for p in sorted((GOLDEN / "siri").glob("*/in.xml"))]
    for _ in range(600):
        body = bytearray(rng.choice(originals))
        for _ in range(rng.randrange(1, 6)):
            i = rng.randrange(len(body))
            match rng.randrange(4):
                case 0:
                    body[i] = rng.randrange(256)
                case 1:
                    del body[i:]
                    body += b"<" if not body else b""
                case 2:
                    body[i : i + rng.randrange(20)] = rng.choice(
                        [b"", b"1e400", b"NaN", b"-1", b"\xff\xfe", b"&x;", b"9" * 30, b"<a>", b"</"]
                    )
                case _:
                    j = rng.randrange(len(body))
                    body[i:i] = body[j : j + 40]
        parsed = parse(bytes(body))
        assert parsed.events == len(parsed.vehicles or []) + len(parsed.stated) + len(parsed.rejects)


def test_the_national_delivery_of_norway_is_read_whole(shared: Path) -> None:
    body = (shared / "feeds/generic/siri/entur_vm_20181017.xml").read_bytes()
    parsed = parse(body, at=parse_ms("2018-10-17T05:56:48.098+02:00"))
    v = parsed.vehicles
    assert v is not None
    assert (len(v), parsed.passed["not_monitored"], len(parsed.rejects)) == (578, 535, 16)
    assert {(r.field, r.value[:5]) for r in parsed.rejects} == {("RecordedAtTime", "0001-")}  # a date that nobody set
    assert len(set(v.vehicle_id)) == 578
    assert len(parsed.stated) == 20
    assert {s.product for s in parsed.stated} == {"stop-passage"}
    here = ~np.isnan(v.lat_deg)
    assert here.sum() > 500
    assert ((v.lat_deg[here] > 57) & (v.lat_deg[here] < 72)).all()


@pytest.mark.parametrize(
    ("file", "vehicles", "stated", "passed"),
    [
        ("exv_vehicleMonitoring_response.xml", 2, 1, {"cancellation": 1}),
        ("exs_stopMonitoring_response.xml", 0, 5, {"cancellation": 3, "notice": 1}),
        ("exx_situationExchange_response.xml", 0, 0, {"outside_box": 2}),
    ],
)
def test_the_standards_own_examples_are_read(shared: Path, file: str, vehicles: int, stated: int, passed: dict[str, int]) -> None:
    parsed = parse((shared / "feeds/generic/siri" / file).read_bytes())
    assert (len(parsed.vehicles or []), len(parsed.stated), parsed.passed, parsed.rejects) == (vehicles, stated, passed, [])
