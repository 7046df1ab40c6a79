"""A stage for the page: gateways fed in this process, without Kafka, with the demo's simulated traffic replayed through the same core. For screenshots and trials.

Nothing here is measured: every record says that it is simulated. Helsinki's records come from the demo's recording; the figures of whole cities on earlier days,
the situations and the five other cities are invented here, to have something to compare.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from connectors import cities
from demo.player import Player
from demo.recording import HELSINKI, load
from geo import store
from models.clock import parse_ms, rfc3339
from models.emission_records import AreaState, EmissionArea, KmByLos, Quantity
from models.indicator_records import CityDay
from models.records import FeedHealth, Record, Situation, encode
from models.topics import PRODUCTS, open_topic
from serve.state import Picture
from streams.city_days import CityDays
from streams.offline import Run
from streams.outputs import Out, Outputs
from streams.replays import log_of
from streams.segments import records

#: The morning that is shown: a snowy Monday, 7:45 in Helsinki.
NOW_MS = parse_ms("2026-11-23T05:45:00.000Z")
LOOPS = 4
#: Of invented figures of whole cities, before the day that is shown.
DAYS = 8
OTHERS = ("espoo", "oulu", "tampere", "turku", "vantaa")


@dataclass(frozen=True)
class Town:
    name: str
    title: str
    timezone: str = "Europe/Helsinki"
    licence: str = "CC-BY-4.0"
    attribution: tuple[str, ...] = ("© Helsinki Region Transport (HSL), CC BY 4.0", "© OpenStreetMap contributors, ODbL 1.0")


def replayed(cache: Path | None = None) -> list[tuple[str, bytes, bytes]]:
    """Product, key and value of every record of an hour of the demo, which ends at ``NOW_MS``; kept in ``cache``."""
    if cache is not None and cache.exists():
        return msgspec.msgpack.decode(cache.read_bytes(), type=list[tuple[str, bytes, bytes]])
    city, recording, out = cities.load("helsinki"), load(HELSINKI), []
    network = store.load(HELSINKI / "network")
    length = recording.about.length_ms
    player = Player(recording, NOW_MS - LOOPS * length)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hfp" / "hfp.jsonl"
        path.parent.mkdir()
        with path.open("w") as file:
            for loop in range(LOOPS):
                for i in range(len(recording.hfp)):
                    at, topic, body = player.message_at(loop, i)
                    file.write(json.dumps({"topic": topic, "received_at": rfc3339(at), "payload": json.loads(body)}) + "\n")
        run = Run(city, network)
        for feed, partition, envelope in log_of([path], city, max_items=200, simulated=True):
            if envelope.ingest_ms > NOW_MS:
                break
            for product, told in run.feed(feed, partition, envelope).records.items():
                out += [(product, r.key, r.value) for r in told if product in PRODUCTS]
    if cache is not None:
        cache.write_bytes(msgspec.msgpack.encode(out))
    return out


def put(picture: Picture, record: Record, n: int = 0) -> None:
    """One record into a picture."""
    product = next(p for p in PRODUCTS.values() if p.record is type(record))
    key = ":".join(str(getattr(record, part)) for part in product.key.split(":"))
    picture.apply(open_topic(picture.city, product.name), key.encode(), encode(record), n)


def days(city: str, level: float, until_ms: int) -> Iterator[Record]:
    """Eight days of invented figures of a whole city, minute by minute, busy in the mornings and afternoons of working days: ``city-day`` as the product's own step
    sums them up, and the windows of the last day and a half."""
    zone = ZoneInfo("Europe/Helsinki")
    begin = datetime.fromtimestamp(until_ms / 1000, UTC).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
        days=DAYS
    )
    step, wanted_from = CityDays(city, "Europe/Helsinki"), until_ms - 36 * 3_600_000
    last: dict[bytes, Out] = {}

    def q(value: float) -> Quantity:
        return Quantity(value=round(value, 1), lo95=round(value * 0.72, 1), hi95=round(value * 1.41, 1))

    for start in range(round(begin.timestamp() * 1000), until_ms, 60_000):
        at = datetime.fromtimestamp(start / 1000, UTC).astimezone(zone)
        n, hour, working = start // 60_000, at.hour + at.minute / 60, at.weekday() < 5
        rush = sum(math.exp(-(((hour - peak) / 1.4) ** 2)) for peak in (7.8, 16.2)) * (1 if working else 0.25)
        day = 0.5 * (math.sin(max(0.0, min(1.0, (hour - 5) / 18)) * math.pi) + 0.1)
        km = level * 1e5 * (0.15 + day + 0.6 * rush)
        snow = 0.25 if start > until_ms - 2 * 3_600_000 else 0.0
        wobble = 1 + 0.03 * math.sin(n * 0.34 + level * 9) + 0.1 * math.sin(at.toordinal() * 2.1 + level) + snow
        index = 1.05 + (0.28 + 0.12 * level) * rush * wobble + 0.1 * day + snow / 3
        common = {"area_id": city, "area_kind": "city", "window_start": rfc3339(start), "status": "final", "revision": 1, "simulated": True}
        coverage = round(38 + 20 * level, 1)
        told: list[Record] = [
            AreaState(
                **common, window_end=rfc3339(start + 60_000), km_by_los=KmByLos(A=1, B=1, C=1, D=0, E=0, F=0, unknown=0), coverage_pct=coverage, vehicles=100, segments=5000,
                confidence=0.6, travel_time_index=round(index, 3), vehicle_km_h=round(km), delay_veh_h=round(km * (index - 1) / 38),
                vehicle_h_h=round(km * index / 38),
            )  # type: ignore[arg-type]
        ]  # fmt: skip
        if n % 5 == 4:
            grams = km * (185 + 60 * rush) * (1 + 0.02 * math.sin(n))
            nought = Quantity(value=0.0, lo95=0.0, hi95=0.0)
            told.append(
                EmissionArea(
                    **{**common, "window_start": rfc3339(start - 240_000)}, window_end=rfc3339(start + 60_000), co2_fossil=q(grams * 0.86), co2_total=q(grams), co2_electricity=nought,
                    nox=q(grams * 0.0021), no2=nought, pm_exhaust=nought, pm_nonexhaust=nought, co=nought, energy=nought, fleet_mix="invented", factor_set="invented",
                    factor_rows="0", scope="invented", temperature_c=-6.0, temperature_source="default", grid_g_per_kwh=60.0, grid_source="default", segments=5000,
                    coverage_expansion=1.2, coverage_pct=coverage, vehicle_km_h=round(km), flow_source="prior",
                )  # type: ignore[arg-type]
            )  # fmt: skip
        out = Outputs()
        for record in told:
            out.add("area-state" if isinstance(record, AreaState) else "emission-area", [Out(city.encode(), encode(record), start, "")])
        step.final(n, out)
        for o in out.records.get("city-day", ()):
            last[o.key] = o
        if start >= wanted_from:
            yield from told
    for o in last.values():
        yield msgspec.json.decode(o.value, type=CityDay)


def happening(picture: Picture) -> Iterator[Record]:
    """Situations and a dead feed, invented."""
    streets = {s.name: (i, json.loads(s.geometry)["coordinates"]) for i, s in picture.segments.items() if s.name}

    def on(street: str) -> dict[str, object]:
        segment_id, line = streets.get(street) or next(iter(streets.values()))
        return {"geometry": {"type": "LineString", "coordinates": line}, "segment_ids": [segment_id]}

    def at(minutes: int) -> str:
        return rfc3339(NOW_MS + minutes * 60_000)

    common = {"event_time": at(-9), "ingest_time": at(-9), "simulated": True}
    yield Situation(
        **common, situation_id="digitraffic/GUID1", kind="incident", feed="traffic_messages", severity="high", valid_from=at(-9), closed=False, source="Fintraffic",
        title={"fi": "Peräänajo, oikea kaista suljettu", "sv": "Påkörning bakifrån, höger körfält avstängt", "en": "Rear-end collision, right lane closed"}, **on("mannerheimintie"),
    )  # type: ignore[arg-type]  # fmt: skip
    yield Situation(
        **common, situation_id="detected/slow", kind="incident", feed="detected", severity="medium", valid_from=at(-4),
        title={"en": "Sudden slowdown: 9 km/h, usually 31", "fi": "Äkillinen hidastuminen: 9 km/h, tavallisesti 31", "sv": "Plötslig inbromsning: 9 km/h, vanligen 31"}, **on("töölönkatu"),
    )  # type: ignore[arg-type]  # fmt: skip
    yield Situation(
        **common, situation_id="digitraffic/GUID2", kind="roadwork", feed="traffic_messages", severity="low", valid_from=at(-5000), valid_to=at(9000), source="Helsinki",
        title={"fi": "Vesijohtotyö, kaista kavennettu", "sv": "Vattenledningsarbete, avsmalnat körfält", "en": "Water main works, lane narrowed"}, **on("runeberginkatu"),
    )  # type: ignore[arg-type]  # fmt: skip
    yield Situation(
        **common, situation_id="digitraffic/GUID3", kind="weather", feed="traffic_messages", severity="medium", valid_from=at(-120), areas=["Uusimaa"],
        title={"fi": "Huono ajokeli: lumisade", "sv": "Dåligt väglag: snöfall", "en": "Poor driving conditions: snowfall"},
    )  # type: ignore[arg-type]  # fmt: skip
    yield FeedHealth(
        feed="tms",
        event_time=at(0),
        state="dead",
        since=at(-12),
        messages_s=0.0,
        gap_s=720.0,
        reject_ratio=0.0,
        detail="no answer",
        simulated=True,
    )
    yield FeedHealth(
        feed="traffic_messages",
        event_time=at(0),
        state="ok",
        since=at(-900),
        messages_s=0.1,
        gap_s=14.0,
        lag_p50_s=21.0,
        reject_ratio=0.002,
        simulated=True,
    )


def pictures(cache: Path | None = None) -> dict[str, Picture]:
    """Helsinki as replayed, and five other cities of which only invented figures are known."""
    out: dict[str, Picture] = {}
    main = out["helsinki"] = Picture("helsinki")
    network = store.load(HELSINKI / "network")
    for n, segment in enumerate(records(network)):
        put(main, segment, n)
    for record in days("helsinki", 1.0, NOW_MS):
        put(main, record)
    for n, (product, key, value) in enumerate(replayed(cache)):
        if key.partition(b":")[0] != b"helsinki" and (
            product != "feed-health" or key == b"hfp"
        ):  # only that feed is replayed, and only the centre
            main.apply(open_topic("helsinki", product), key, value, n)
    for n, record in enumerate(happening(main), 10**7):
        put(main, record, n)
    for k, name in enumerate(OTHERS):
        out[name] = Picture(name)
        for record in days(name, 0.35 + 0.13 * k, NOW_MS):
            put(out[name], record)
    return out


def towns() -> list[Town]:
    return [Town(name, cities.load(name).title) for name in ("helsinki", *OTHERS)]
