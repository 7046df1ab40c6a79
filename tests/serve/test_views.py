"""The languages of the trade: valid by the official schemas and bindings, the records' own numbers, nothing where nothing is known."""

from __future__ import annotations

import io
import json
from types import ModuleType
from typing import Any

import geopandas
import msgspec
import pyarrow.parquet as pq
import pytest
from google.transit import gtfs_realtime_pb2 as pb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from models.clock import rfc3339
from models.emission_records import EmissionSegment, Quantity
from models.records import SensorObservation, Situation
from models.topics import PRODUCTS
from serve.views import datex2, gtfs_rt
from tests.standards import Standards

BASE = "/api/v1/cities/town"
ROA = "{http://datex2.eu/schema/3/roadTrafficData}"
COM = "{http://datex2.eu/schema/3/common}"
T0, T1 = "2026-03-10T05:29:00.000Z", "2026-03-10T05:30:00.000Z"


def sensor(site: str = "tms/117", **more: object) -> SensorObservation:
    return SensorObservation(site_id=site, direction="1", window_start=T0, window_end=T1, ingest_time=T1, feed="tms", **more)  # type: ignore[arg-type]


def situation(n: int = 1, kind: str = "roadwork", **more: object) -> Situation:
    return Situation(situation_id=f"fintraffic/GUID{n}", kind=kind, event_time=T0, ingest_time=T1, feed="situations", **more)  # type: ignore[arg-type]


def emission(n: int = 0) -> EmissionSegment:
    q = Quantity(value=100.5, lo95=50.0, hi95=200.0)
    rates = dict.fromkeys(("co2_fossil", "co2_total", "co2_electricity", "nox", "no2", "pm_exhaust", "pm_nonexhaust", "co", "energy"), q)
    return EmissionSegment(
        segment_id=f"w{n}_1_2_f", window_start=T0, window_end=T1, status="final", revision=3, fleet_mix="Finland 2025", factor_set="1", factor_rows="x",
        scope="tailpipe", temperature_c=2.0, temperature_source="default", grid_g_per_kwh=40.0, grid_source="default", flow_vph=q,
        flow_source="prior", **rates,
    )  # fmt: skip


@pytest.fixture
def rich(fed: Any, town: ModuleType) -> Any:
    """The small town with sensors, situations, emissions, and vehicles on its streets."""
    fed(
        town.state(
            0,
            los="A",
            flow_vph=420.4,
            flow_source="measured",
            travel_time_s=12.0,
            delay_s=3.5,
            free_flow_kmh=40.0,
            vehicle_count=3,
            revision=2,
        )
    )
    fed(town.state(2, los="F", datex_status="queuing", closed=None, revision=2))
    fed(town.state(3, origin="inferred", revision=2))
    fed(sensor(flow_vph=720.0, speed_kmh=38.5, occupancy_pct=7.0, lat_deg=60.17, lon_deg=24.93, bearing_deg=359.9, segment_id="w0_1_2_f"))
    fed(sensor("bike/1", flow_vph=60.0, travel_mode="bicycle"))
    fed(sensor("walk/1", flow_vph=60.0, travel_mode="pedestrian"))
    fed(sensor("tms/118", fault="noDataValuesAvailable"))
    fed(
        situation(
            1,
            segment_ids=["nowhere", "w1_1_2_f"],
            title={"fi": "Tietyö <&>", "und": "\x01x"},
            source="Fintraffic",
            severity="high",
            version=3,
        )
    )
    fed(situation(2, "incident", geometry={"type": "Point", "coordinates": [24.94, 60.17]}, valid_from=T0, valid_to=T1))
    fed(situation(3, "transit_alert", routes=["2510"], stops=["H1"], effect="DETOUR", title={"en": "Detour"}, url="https://example.org/1"))
    fed(situation(4, "weather", geometry={"type": "Polygon", "coordinates": [[[24, 60], [25, 60], [25, 61], [24, 60]]]}))
    fed(situation(5, "incident", ended=True, geometry={"type": "Point", "coordinates": [24.94, 60.17]}))
    fed(situation(6, "information", closed=True, geometry={"type": "MultiLineString", "coordinates": [[[24.9, 60.1], [24.91, 60.1]]]}))
    fed(emission(1))
    fed(
        town.vehicle(
            1,
            segment_id="w2_1_2_f",
            occupancy_pct=54.6,
            operating_day="2026-03-10",
            start_time="07:14",
            direction_id=0,
            at_stop=True,
            stop_id="H1",
        )
    )
    fed(town.vehicle(2, segment_id="w3_1_2_f", speed_mps=0.0))
    fed(town.vehicle(3, lat_deg=None, lon_deg=None))
    return fed


# ------------------------------------------------------------------------------------------------------------------- DATEX II


@pytest.mark.parametrize("name", ["measured-data", "measurement-sites", "elaborated-data", "situations"])
async def test_datex_publications_are_valid_by_the_official_schema(rich: Any, start: Any, standards: Standards, name: str) -> None:
    client = await start()
    answer = await client.get(f"{BASE}/datex2/{name}")
    assert (answer.status, answer.content_type) == (200, "application/xml")
    data = await answer.read()
    assert standards.datex2(data) == []
    assert standards.datex2(data.replace(b"publicationTime>", b"publishedAt>")) != []


async def test_datex_tells_the_records_numbers_in_the_standard_s_units(rich: Any, start: Any) -> None:
    client = await start()
    measured = etree.fromstring(await (await client.get(f"{BASE}/datex2/measured-data")).read())
    sites = {s.find(f"{ROA}measurementSiteReference").get("id"): s for s in measured.iter(f"{ROA}siteMeasurements")}
    assert set(sites) == {"tms/117:1", "bike/1:1", "tms/118:1"}, "pedestrians are no vehicles"
    assert [sites["tms/117:1"].find(f".//{COM}{x}").text for x in ("vehicleFlowRate", "speed", "percentage")] == ["720", "38.5", "7"]
    assert sites["bike/1:1"].find(f".//{COM}vehicleType").text == "bicycle"
    assert sites["tms/118:1"].find(f".//{ROA}physicalQuantityFaultType").text == "noDataValuesAvailable"
    assert sites["tms/118:1"].find(f".//{COM}speed") is None
    elaborated = await (await client.get(f"{BASE}/datex2/elaborated-data?limit=1")).text()
    for part in (
        "<com:speed>22</com:speed>",
        "<com:vehicleFlowRate>420</com:vehicleFlowRate>",
        "<roa:duration>12</roa:duration>",
        "<roa:duration>3.5<",
    ):
        assert part in elaborated
    assert 'supplierCalculatedDataQuality="80"' in elaborated
    assert "60.17 24.93 60.171 24.932" in elaborated, "latitude first"


async def test_situations_that_are_over_or_nowhere_are_left_out_and_kinds_have_their_types(rich: Any, start: Any) -> None:
    client = await start()
    root = etree.fromstring(await (await client.get(f"{BASE}/datex2/situations")).read())
    xsi = "{http://www.w3.org/2001/XMLSchema-instance}type"
    found = {
        r.get("id").partition("#")[0].rpartition("GUID")[2]: r for r in root.iter("{http://datex2.eu/schema/3/situation}situationRecord")
    }
    assert {n: r.get(xsi) for n, r in found.items()} == {
        "1": "sit:MaintenanceWorks",
        "2": "sit:GeneralObstruction",
        "4": "sit:PoorEnvironmentConditions",
        "6": "sit:RoadOrCarriagewayOrLaneManagement",
    }
    assert (found["1"].get("version"), found["2"].get("version")) == ("3", "1")
    assert [v.text for v in found["1"].iter(f"{COM}value")] == ["Fintraffic", "Tietyö <&>", "x"]


async def test_where_the_schema_forbids_an_empty_publication_there_is_none(fed: Any, start: Any, standards: Standards) -> None:
    client = await start()
    assert (await client.get(f"{BASE}/datex2/measured-data")).status == 204
    assert (await client.get(f"{BASE}/datex2/elaborated-data?bbox=0,0,1,1")).status == 204
    assert standards.datex2(await (await client.get(f"{BASE}/datex2/situations")).read()) == []


async def test_simulated_data_is_a_test_in_the_standard_s_own_words(fed: Any, start: Any, town: ModuleType) -> None:
    client = await start()
    assert "informationStatus>real<" in await (await client.get(f"{BASE}/datex2/elaborated-data")).text()
    fed(town.state(0, revision=9, simulated=True))
    assert "informationStatus>test<" in await (await client.get(f"{BASE}/datex2/elaborated-data?limit=9")).text()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.dictionaries(st.sampled_from(["fi", "sv-FI", "und"]), st.text(max_size=1100), min_size=1),
    name=st.text(min_size=1, max_size=60),
    kind=st.sampled_from(["incident", "unknown", "event", "exempted_transport"]),
)
def test_whatever_a_feed_writes_the_publication_stays_valid(standards: Standards, texts: dict[str, str], name: str, kind: str) -> None:
    publisher = datex2.Publisher(name, "FI", T1, simulated=False)
    s = situation(1, kind, title=texts, source=name, geometry={"type": "LineString", "coordinates": [[24.9, 60.1], [1e-9, -0.0]]})
    assert standards.datex2(datex2.situations(publisher, [s], lambda _: None)) == []


# -------------------------------------------------------------------------------------------------------------------- GTFS-RT


async def test_the_official_bindings_read_positions_with_congestion_and_occupancy(rich: Any, start: Any, standards: Standards) -> None:
    client = await start()
    answer = await client.get(f"{BASE}/gtfs-rt/vehicle-positions")
    assert answer.content_type == "application/x-protobuf"
    data = await answer.read()
    assert standards.gtfs_rt(data) == []
    feed = pb.FeedMessage.FromString(data)
    one, two = (e.vehicle for e in feed.entity)
    assert one.congestion_level == pb.VehiclePosition.SEVERE_CONGESTION
    assert (one.occupancy_percentage, one.trip.start_time, one.trip.start_date, one.trip.direction_id) == (55, "07:14:00", "20260310", 0)
    assert (one.current_status, one.stop_id) == (pb.VehiclePosition.STOPPED_AT, "H1")
    assert not two.HasField("congestion_level"), "a state that is only inferred is no congestion that somebody saw"
    assert two.position.HasField("speed")
    assert not two.HasField("occupancy_percentage")
    assert rfc3339(feed.header.timestamp * 1000)[:19] >= "2026-03-10T05:30:00"[:19]
    as_json = await (await client.get(f"{BASE}/gtfs-rt/vehicle-positions", headers={"Accept": "application/json"})).json()
    assert len(as_json["entity"]) == 2
    one.position.latitude = 160.0
    assert standards.gtfs_rt(feed.SerializeToString()) != [], "a broken one is noticed"


async def test_alerts_name_routes_and_stops(rich: Any, start: Any, standards: Standards) -> None:
    client = await start()
    data = await (await client.get(f"{BASE}/gtfs-rt/alerts")).read()
    assert standards.gtfs_rt(data) == []
    feed = pb.FeedMessage.FromString(data)
    (entity,) = feed.entity
    assert [(e.route_id, e.stop_id) for e in entity.alert.informed_entity] == [("2510", ""), ("", "H1")]
    assert (entity.alert.effect, entity.alert.cause) == (pb.Alert.DETOUR, pb.Alert.UNKNOWN_CAUSE)
    assert entity.alert.header_text.translation[0].text == "Detour"
    feed.header.timestamp *= 1000
    assert standards.gtfs_rt(feed.SerializeToString()) != [], "a broken one is noticed"


def test_a_vehicle_whose_clock_is_ahead_is_not_later_than_its_feed(town: ModuleType, standards: Standards) -> None:
    message = gtfs_rt.positions(town.NOW, [town.vehicle(1, at_s=90.0, heard_s=1.0)], lambda _: None)
    assert standards.gtfs_rt(message.SerializeToString()) == []


# -------------------------------------------------------------------------------------------------------------------- NGSI-LD


async def test_key_values_fit_the_data_models_schemas(rich: Any, start: Any, standards: Standards) -> None:
    client = await start()
    found = await (await client.get(f"{BASE}/ngsi-ld/entities?options=keyValues")).json()
    assert [standards.fiware(e) for e in found] == [[]] * len(found)
    by_id = {e["id"].rpartition("town:")[2]: e for e in found}
    assert (by_id["tms%2F117:1"]["intensity"], by_id["tms%2F117:1"]["occupancy"], by_id["tms%2F117:1"]["averageVehicleSpeed"]) == (
        12.0,
        0.07,
        38.5,
    )
    assert by_id["w2_1_2_f"]["congested"] is True
    assert "congested" not in by_id["w0_1_2_f"], "a status that is not known is no free flow"
    assert "walk%2F1:1" not in by_id
    emissions = await (await client.get(f"{BASE}/ngsi-ld/entities?type=EnvironmentObserved&options=keyValues")).json()
    assert [standards.environment_observed(e) for e in emissions] == [[]]
    assert (emissions[0]["nox_g_h"], emissions[0]["nox_lo95_g_h"], emissions[0]["energy_hi95_mj_h"]) == (100.5, 50.0, 200.0)
    assert standards.fiware({**found[0], "averageVehicleSpeed": "fast"}) != []
    assert standards.environment_observed({**emissions[0], "location": "here"}) != [], "a broken one is noticed"


async def test_normalized_entities_say_what_each_attribute_is(rich: Any, start: Any) -> None:
    client = await start()
    answer = await client.get(f"{BASE}/ngsi-ld/entities?limit=1")
    assert answer.content_type == "application/ld+json"
    assert 'rel="next"' in answer.headers["Link"]
    (entity,) = json.loads(await answer.text())
    assert entity["@context"][0].startswith("https://uri.etsi.org/ngsi-ld/")
    assert {a["type"] for name, a in entity.items() if name not in ("id", "type", "@context")} <= {
        "Property",
        "GeoProperty",
        "Relationship",
    }


# --------------------------------------------------------------------------------------------------------------------- routers


async def test_router_speeds_are_those_of_measured_general_traffic_by_neighbouring_nodes(fed: Any, start: Any, town: ModuleType) -> None:
    for n, represents in ((0, "general_traffic"), (1, "bus_lane"), (2, "general_traffic"), (3, "general_traffic")):
        nodes = [10 * n, 10 * n + 1, 10 * n + 2]
        fed(msgspec.structs.replace(town.street(n, represents=represents), osm_way_ids=[n], osm_node_ids=nodes))
        now = town.state(n, revision=5, closed=True if n == 3 else None, origin="inferred" if n == 2 else "measured", confidence=0.6)
        fed(msgspec.structs.replace(now, represents=represents))
    client = await start()
    answer = await client.get(f"{BASE}/speeds")
    assert answer.content_type == "text/csv"
    assert await answer.text() == "0,1,22\n1,2,22\n30,31,0\n31,32,0\n"
    assert await (await client.get(f"{BASE}/speeds?min_confidence=0.7")).text() == "30,31,0\n31,32,0\n"
    rows = (await (await client.get(f"{BASE}/speeds", headers={"Accept": "application/json"})).json())["speeds"]
    assert rows[0] == {
        "segment_id": "w0_1_2_f",
        "osm_way_ids": [0],
        "from_node": 0,
        "to_node": 2,
        "speed_kmh": 22.0,
        "confidence": 0.6,
        "window_end": "2026-03-10T05:31:00.000Z",
    }
    assert await (await client.get(f"{BASE}/speeds?bbox=0,0,1,1")).text() == ""


# ---------------------------------------------------------------------------------------------------------------------- common


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("datex2/measured", "*/*", 404),
        ("datex2/situations", "application/json", 406),
        ("datex2/situations", "text/xml;q=0.1", 200),
        ("gtfs-rt/alerts", "application/*", 200),
        ("gtfs-rt/trip-updates", "*/*", 404),
        ("ngsi-ld/entities?type=Vehicle", "*/*", 400),
        ("ngsi-ld/entities?options=simplified", "*/*", 400),
        ("ngsi-ld/entities?limit=0", "*/*", 400),
        ("speeds?min_confidence=2", "*/*", 400),
        ("speeds", "text/csv;q=0", 406),
    ],
)
async def test_what_is_not_there_or_not_understood_is_a_problem_that_says_so(
    fed: Any, start: Any, path: str, accept: str, status: int
) -> None:
    client = await start()
    answer = await client.get(f"{BASE}/{path}", headers={"Accept": accept})
    assert answer.status == status
    if status >= 400:
        assert answer.content_type == "application/problem+json"


async def test_pages_of_a_view_hold_everything_once_and_are_compressed_and_tagged(rich: Any, start: Any) -> None:
    client = await start()
    path, seen = f"{BASE}/datex2/elaborated-data?limit=2", []
    while path:
        answer = await client.get(path)
        text = await answer.text()
        seen += [line for line in text.splitlines() if "TrafficStatus" in line]
        path = answer.links["next"]["url"].path_qs if "next" in answer.links else ""
    assert len(seen) == len(set(seen)) == 4
    first = await client.get(f"{BASE}/datex2/elaborated-data")
    assert (await client.get(f"{BASE}/datex2/elaborated-data", headers={"If-None-Match": first.headers["ETag"]})).status == 304


@pytest.mark.parametrize("product", PRODUCTS)
async def test_every_product_is_a_parquet_file_with_its_licence_in_it(rich: Any, start: Any, product: str) -> None:
    client = await start()
    answer = await client.get(f"{BASE}/records/{product}.parquet")
    assert (answer.status, answer.content_type) == (200, "application/vnd.apache.parquet")
    table = pq.read_table(io.BytesIO(await answer.read()))
    held = len((await (await client.get(f"{BASE}/segments")).json())["features"]) if product == "segment" else None
    want = held if held is not None else (await (await client.get(f"{BASE}/records/{product}")).json())["numberMatched"]
    assert table.num_rows == want
    assert table.schema.metadata[b"licence"] == b"CC-BY-4.0"
    assert b"OpenStreetMap contributors" in table.schema.metadata[b"attribution"]
    if product in ("segment", "situation"):
        frame = geopandas.read_parquet(io.BytesIO(await (await client.get(f"{BASE}/records/{product}.parquet")).read()))
        assert frame.crs.to_authority() in (("OGC", "CRS84"), ("EPSG", "4326"))
        assert frame.geometry.notna().any()
