"""Boards of stops: asked for in turn within a budget, and what they forecast marked as a forecast."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from connectors.cities import Http, load
from connectors.columns import Parsed
from connectors.envelope import SCHEMA, Envelope, Item
from connectors.families import parser
from connectors.polling import Poller
from connectors.run import FeedConnector
from connectors.stops import busiest, with_stops
from models.clock import parse_ms
from models.errors import ConfigError
from models.records import StopPassage
from streams.clean import CleanSettings
from streams.health import Meter
from streams.outputs import Outputs
from streams.stated import Statements

AT = parse_ms("2026-03-10T05:30:05Z")
BOARD = "https://data.foli.fi/siri/sm/"


def parsed(city: str, address: str, body: bytes, at_ms: int = AT) -> Parsed:
    c = load(city)
    envelope = Envelope(SCHEMA, city, "stops", c.feed("stops").family, "snapshot", at_ms, (Item(at_ms, address, body),))
    return parser(c.feed("stops"), c).parse(envelope)


def foli(**changes: Any) -> bytes:
    visit = {
        "recordedattime": AT // 1000 - 5, "lineref": "6", "operatorref": "55", "vehicleref": "550037", "monitored": True, "latitude": 60.45,
        "longitude": 22.27, "originaimeddeparturetime": AT // 1000 - 900, "aimedarrivaltime": AT // 1000 + 200, "expectedarrivaltime": AT // 1000 + 260,
        "aimeddeparturetime": AT // 1000 + 200, "expecteddeparturetime": AT // 1000 + 290, "__tripref": "T1",
    }  # fmt: skip
    visit = {k: v for k, v in (visit | changes).items() if v is not None}
    return json.dumps({"sys": "SM", "status": "OK", "servertime": AT // 1000, "result": [visit]}).encode()


async def test_stops_are_asked_for_in_turn_each_with_its_own_validators() -> None:
    asked: list[tuple[str, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        stop = request.match_info["stop"]
        asked.append((stop, request.headers.get("If-None-Match")))
        return web.Response(body=stop.encode(), headers={"ETag": f'"{stop}"'})

    app = web.Application()
    app.router.add_get("/siri/sm/{stop}", handler)
    async with TestServer(app) as server:
        http = Http(url=str(server.make_url("/siri/sm/")) + "{stops}", every_s=6, stops=("1", "T 2", "3"))
        poller = Poller(http, allow_private=True)
        answers = [await poller.ask() for _ in range(4)]
        await poller.close()
    assert asked == [("1", None), ("T 2", None), ("3", None), ("1", '"1"')]
    assert [a.url.rpartition("/")[2] for a in answers] == ["1", "T%202", "3", "1"]


def test_a_visit_at_foli_is_a_forecast_at_the_stop_of_its_address() -> None:
    got = parsed("turku", BOARD + "T%202", foli())
    (stated,) = got.stated
    record = stated.record
    assert isinstance(record, StopPassage)
    assert (record.stop_id, record.vehicle_id, record.trip_id, record.predicted, record.delay_s) == ("T 2", "foli/550037", "T1", True, 90)
    assert (record.expected_departure, record.aimed_departure) == ("2026-03-10T05:34:55.000Z", "2026-03-10T05:33:25.000Z")
    assert (record.event_time, record.departed, record.arrived, record.stopped) == ("2026-03-10T05:30:00.000Z", None, None, None)
    assert got.vehicles is not None
    assert got.vehicles.vehicle_id == ["foli/550037"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"expectedarrivaltime": AT // 1000 + 5000, "latitude": None}, "contradictory"),
        ({"expectedarrivaltime": None, "expecteddeparturetime": None, "latitude": None}, "no_forecast"),
        ({"expecteddeparturetime": AT // 1000 + 20_000, "latitude": None}, "far_ahead"),
        ({"expectedarrivaltime": None, "expecteddeparturetime": AT // 1000 - 900, "latitude": None}, "over"),
        ({"aimeddeparturetime": AT // 1000 + 9000, "latitude": None}, "wrong_trip"),
        ({"monitored": False}, "not_monitored"),
        ({"vehicleref": None}, "no_vehicle"),
    ],
)
def test_what_forecasts_nothing_that_can_be_believed_is_passed_over_and_counted(changes: dict[str, Any], why: str) -> None:
    got = parsed("turku", BOARD + "1", foli(**changes))
    assert (got.stated, got.passed, got.events) == ([], {why: 1}, 0)


def test_real_boards_become_forecasts(shared: Path) -> None:
    body = (shared / "feeds/tampere/journeys/stop_monitoring_20200104.json").read_bytes()
    got = parsed("tampere", "http://data.itsfactory.fi/journeys/api/1/stop-monitoring", body, parse_ms("2020-01-03T23:05:00Z"))
    assert got.passed == {"contradictory": 1}  # it would leave 79 minutes before it comes
    told = [(r["stop_id"], r["vehicle_id"], r["delay_s"]) for s in got.stated for r in [msgspec.to_builtins(s.record)]]
    assert told == [("0505", "nysse/130601", -100), ("0505", "nysse/130087", -101)]


def test_a_forecast_is_published_again_only_when_it_changes_and_beside_other_calls_of_the_vehicle() -> None:
    statements, told = Statements(), []
    later = foli(recordedattime=AT // 1000)
    changed = foli(recordedattime=AT // 1000 + 1, expecteddeparturetime=AT // 1000 + 300)
    next_trip = foli(recordedattime=AT // 1000 + 2, __tripref="T2", expectedarrivaltime=None, expecteddeparturetime=AT // 1000 + 3600, aimeddeparturetime=None)  # fmt: skip
    owner = SimpleNamespace(
        settings=SimpleNamespace(clean=CleanSettings()),
        simulated=False,
        border=None,
        tally=SimpleNamespace(accepted=0),
        meter=Meter(),
        log_ms=AT,
    )
    for body in (foli(), later, changed, next_trip, foli()):
        out = Outputs()
        statements.feed(parsed("turku", BOARD + "1", body), owner, [], out)  # type: ignore[arg-type]
        told.append([json.loads(o.value)["trip_id"] for o in out.records.get("stop-passage", [])])
    assert told == [["T1"], [], ["T1"], ["T2"], []]


def test_without_named_stops_those_that_most_trips_call_at_are_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"trip_id": ["a", "b", "c"], "shape": [0, 0, 1]}), tmp_path / "trips.parquet")
    pq.write_table(
        pa.table({"shape": [0, 0, 1, 2], "along_m": [0.0, 9, 0, 0], "stop_id": ["s2", "s1", "s3", "s3"]}), tmp_path / "stops.parquet"
    )
    assert busiest(tmp_path, 2) == ("s1", "s2")
    assert busiest(tmp_path, 9) == ("s1", "s2", "s3")
    city = with_stops(load("turku"), tmp_path)
    assert city.feed("stops").http[0].stops == ("s1", "s2", "s3")
    assert with_stops(load("turku", {"feeds.stops.http.0.stops": ["9"]}), tmp_path).feed("stops").http[0].stops == ("9",)


def test_a_feed_whose_stops_nobody_names_is_left_alone_and_says_so() -> None:
    c = load("turku")
    source = FeedConnector(c, c.feed("stops"), now_ms=lambda: 0).source()
    assert source.detail is not None
    assert (source.connected, "name them in stops, or build the network" in source.detail) == (False, True)


def test_stops_need_their_place_in_the_address() -> None:
    with pytest.raises(ConfigError, match=r"feeds\.foli\.http\.0\.stops"):
        load("turku", {"feeds.foli.http.0.stops": ["1"]})
