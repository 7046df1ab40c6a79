"""The cities side by side, over REST."""

from __future__ import annotations

import csv
import io
from types import ModuleType
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from models.indicator_records import CityDay
from models.records import encode
from models.topics import open_topic
from serve.gateway import make_app
from serve.state import Picture
from tests.models.test_indicators import day, hour

PATH = "/api/v1/city-days"


def dated(city: str, date: str, hours: dict[int, Any]) -> CityDay:
    return msgspec.structs.replace(day(city, hours), day=date)


@pytest.fixture
async def client(town: ModuleType) -> Any:
    pictures = {name: Picture(name) for name in ("aa", "bb", "cc")}
    records = [
        dated("aa", "2026-03-09", {7: hour(tti=1.1)}), dated("aa", "2026-03-10", {7: hour(tti=1.5), 8: hour(20)}),
        dated("bb", "2026-03-10", {7: hour(tti=1.2), 8: hour(tti=2.0)}),
    ]  # fmt: skip
    for offset, record in enumerate(records):
        topic = open_topic(record.city, "city-day")
        pictures[record.city].apply(topic, f"{record.city}:{record.day}".encode(), encode(record), offset)
    pictures["cc"].apply(open_topic("cc", "city-day"), b"cc:2026-03-10", b'{"city":"cc"}', 0)
    client = TestClient(TestServer(make_app([town.Town(name=name) for name in pictures], pictures=pictures)))
    await client.start_server()
    yield client
    await client.close()


async def test_cities_stand_side_by_side_with_their_days_hours_and_what_they_have_in_common(client: Any) -> None:
    body = await (await client.get(PATH)).json()
    assert (body["day"], body["days"]) == ("2026-03-10", ["2026-03-10", "2026-03-09"])
    assert [c["city"] for c in body["cities"]] == ["aa", "bb"]
    assert body["missing"] == ["cc"], "a record that is none is nothing"
    assert [h["local_hour"] for h in body["cities"][0]["hours"]] == [7, 8]
    assert body["compared"]["local_hours"] == [7]
    assert [c["fluency"]["travel_time_index"] for c in body["compared"]["cities"]] == [1.5, 1.2]
    one = await (await client.get(PATH, params={"city": "aa", "day": "2026-03-09"})).json()
    assert [c["fluency"]["travel_time_index"] for c in one["cities"]] == [1.1]
    none = await (await client.get(PATH, params={"day": "1999-01-01"})).json()
    assert (none["cities"], none["missing"], none["compared"]) == ([], ["aa", "bb", "cc"], {"local_hours": [], "cities": []})


async def test_the_same_as_a_table(client: Any) -> None:
    async def rows(**query: str) -> list[dict[str, str]]:
        answer = await client.get(PATH + ".csv", params=query)
        assert answer.content_type == "text/csv"
        return list(csv.DictReader(io.StringIO(await answer.text())))

    by_day, by_hour, common = await rows(), await rows(by="hour"), await rows(by="common", city="bb,aa")
    assert [(r["city"], r["fluency_minutes"]) for r in by_day] == [("aa", "80"), ("bb", "120")]
    assert [(r["city"], r["local_hour"]) for r in by_hour] == [("aa", "7"), ("aa", "8"), ("bb", "7"), ("bb", "8")]
    assert [(r["city"], r["local_hours"], r["fluency_travel_time_index"]) for r in common] == [("bb", "7", "1.2"), ("aa", "7", "1.5")]
    assert all(float(r["environment_co2_total_kg_lo95"]) < float(r["environment_co2_total_kg"]) for r in by_day)
    assert await rows(day="1999-01-01") == []


@pytest.mark.parametrize("query", ["city=aa,zz", "city=", "day=today", "day=2026-3-1", "by=hour", "day=2026-03-10&day=2026-03-10"])
async def test_what_is_not_understood_is_named(client: Any, query: str) -> None:
    answer = await client.get(f"{PATH}?{query}")
    assert answer.status == 400
    assert (await answer.json(content_type=None))["detail"]
