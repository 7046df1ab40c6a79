"""What it costs to be connected to all six cities: ``python benchmarks/connectors.py [--seconds 60] [--vehicles 1500] [--json FILE]``.

One process, ``tilannekuva connect helsinki tampere turku oulu`` (Espoo and Vantaa read Helsinki's raw topics), writing to Kafka; MQTT from a local broker, documents from a local
server, each asked for as often as its city file says. Connectors do not read what they carry, so the documents are the repository's recordings repeated up to the size that the live ones have
(``SIZES_KB``; gzip where it is asked for). HSL's fleet sends one message a second each at the afternoon's peak (1,500), the Digitransit broker 200 a second for three cities.
CPU is user and system time of the process over the seconds after its start, as a share of one core.
"""

import argparse
import gzip
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt_client

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import live, load, measure
from benchmarks.measure import say
from connectors import cities
from deploy.kafka.broker import KafkaBroker, free_port, kafka_version

NAMES = ("helsinki", "tampere", "turku", "oulu")
RECORDINGS = Path(__file__).resolve().parent.parent / "tests" / "recordings"
#: Size of the live documents, unpacked, kB, by a part of their address: documented, seen in ../shared/feeds, or reckoned from the number of stations and vehicles.
SIZES_KB = {
    "datex2-3.7": 1500, "vehicle-positions/v2/hsl": 142, "trip-updates/v2/hsl": 1500, "feed/tripupdate": 150, "routes/latest": 600, "station_information": 150, "station_status": 120, "gtfs-rt/vehicle-positions": 20, "vehicle-activity": 900, "siri/vm": 450, "tms/v1/stations/data": 1500, "sensor-constants": 400,
    "tms/v1/stations": 300, "weather/v1/stations/data": 1800, "weather/v1/stations": 300, "traffic-announcements": 300, "roadworks": 3000, "weight-restrictions": 500,
    "facilities": 2000, "utilizations": 150, "counting-site/v2/sites": 200, "counting-site/v2/values": 500, "graphql": 600, "trafficAmount": 60, "queueLength": 60,
    "siri/sm": 15, "stop-monitoring": 150,
}  # fmt: skip
OTHER_KB = 50
DIGITRANSIT = ("tampere", "FOLI", "OULU")
DIGITRANSIT_S = 200


def _body(size_kb: int) -> bytes:
    text = (RECORDINGS / "helsinki" / "messages.json").read_bytes()
    lines = [
        b'{"n": %d, "value": %d.%d, ' % (k, k * 7919 % 1000, k % 10) + text[k % 2000 : k % 2000 + 180] + b"}\n" for k in range(size_kb * 5)
    ]
    return b"".join(lines)[: size_kb * 1024]


def serve(port: int) -> None:
    """Answers every address with a document of its size; in a process of its own."""
    packed: dict[str, tuple[bytes, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind = next((k for k in SIZES_KB if k in self.path), "")
            if kind not in packed:
                body = _body(SIZES_KB.get(kind, OTHER_KB))
                packed[kind] = body, gzip.compress(body, 6)
            plain, small = packed[kind]
            gz = "gzip" in self.headers.get("Accept-Encoding", "") and "vehicle-positions" not in self.path
            body = small if gz else plain
            self.send_response(200)
            if gz:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


@contextmanager
def digitransit(port: int) -> Iterator[None]:
    """Vehicles of three cities on the broker."""
    client, stop = mqtt_client.Client(mqtt_client.CallbackAPIVersion.VERSION2), threading.Event()
    client.connect("127.0.0.1", port)
    client.loop_start()

    def send() -> None:
        k = 0
        while not stop.wait(0.05):
            for _ in range(DIGITRANSIT_S // 20):
                k += 1
                topic = (
                    f"/gtfsrt/vp/{DIGITRANSIT[k % 3]}/1/Agency/BUS/20/0/Keskusta/t{k % 90}/0815/07:15/{k % 150}/61;23/47/79/82/1/da2128/"
                )
                client.publish(topic, b"\x0a\x0d\x0a\x031.0" + bytes(170))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        client.loop_stop()


def settings(http_port: int, mqtt_port: int) -> list[str]:
    """Local addresses in the place of the live ones."""
    out = []
    for name in NAMES:
        for feed in cities.load(name).feeds:
            at = f"{name}:feeds.{feed.name}"
            out.append(f"{at}.allow_private=true")
            if feed.mqtt is not None:
                out.append(f"{at}.mqtt.url=mqtt://127.0.0.1:{mqtt_port}")
            for k, http in enumerate(feed.http):
                path = http.url.partition("://")[2].partition("?")[0]
                if cities.STOPS in http.url:
                    path = f"{path.removesuffix(cities.STOPS).rstrip('/')}/{cities.STOPS}"
                    out.append(f"{at}.http.{k}.stops={json.dumps([str(s) for s in range(http.most_stops)])}")
                out.append(f"{at}.http.{k}.url=http://127.0.0.1:{http_port}/{path}")
    return [x for s in out for x in ("--set", s)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--vehicles", type=int, default=1500, help="of HSL, one message a second each")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    city = cities.load("helsinki")
    _, folder, _ = load.helsinki(city)
    facts: dict[str, Any] = {"machine": measure.machine(), "versions": measure.versions({"kafka": kafka_version()})}
    measure.heading("connectors", facts["machine"], facts["versions"])
    port = free_port()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    server.start()
    try:
        with (
            tempfile.TemporaryDirectory() as name,
            KafkaBroker(Path(name) / "kafka") as broker,
            live.mqtt(Path(name)) as (mqtt_port, which),
            live.processes() as running,
            digitransit(mqtt_port),
        ):
            child = live.Process(Path(name), "connect", ["connect", *NAMES, "--broker", broker.address, *settings(port, mqtt_port)])
            running.append(child)
            child.says("mqtt up")
            fleet = live.publisher(mqtt_port, folder, args.vehicles, args.seconds + 10)
            time.sleep(8)  # everything has been asked for once
            before, begun = measure.cpu_s(child.child.pid), time.monotonic()
            time.sleep(args.seconds)
            spent, took = measure.cpu_s(child.child.pid) - before, time.monotonic() - begun
            facts["rss_mb"] = measure.rss_mb(child.child.pid)
            live.told(fleet)
            child.stop()
    finally:
        server.terminate()
        server.join()
    facts |= {"cpu_share_of_a_core": round(spent / took, 3), "seconds": round(took, 1), "vehicles": args.vehicles, "mqtt": which}
    say(f"connectors all six cities in one process: {spent / took:.1%} of one core over {took:.0f} s, {facts['rss_mb']:.0f} MB")
    measure.write_json(args.json, facts)


if __name__ == "__main__":
    main()
