"""The MQTT connector: messages per CPU-second into envelopes on Kafka, beside idiomatic Faust in the same run.

    python benchmarks/connector.py [--rate 3000] [--seconds 20] [--repeat 3] [--json FILE]

A local MQTT broker (mosquitto, else amqtt), the fleet published in real time by a process of its own, `tilannekuva connect helsinki hfp` in another. CPU is the
connector's user and system time less that of a connector that was up for as long and heard nothing. What reached the raw topic is counted there.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import live, load, measure, small_job
from benchmarks.fleet import Fleet
from benchmarks.measure import Cost, say
from connectors import cities
from connectors.cities import City
from connectors.envelope import decode
from deploy.kafka.broker import KafkaBroker, kafka_version


async def received(bootstrap: str, city: City, prefix: str) -> tuple[int, int]:
    """Messages and envelopes in the raw topic."""
    topic, feed = load.raw_name(city, "hfp", prefix), city.feed("hfp")
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        parts = [TopicPartition(topic, p) for p in range(feed.partitions)]
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        ends = await consumer.end_offsets(parts)
        items = envelopes = 0
        while any([await consumer.position(p) < ends[p] for p in parts]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for r in records:
                    envelope = decode(r.value)
                    items += len(envelope.items)
                    envelopes += envelope.kind != "tick"
        return items, envelopes
    finally:
        await consumer.stop()


def once(
    work: Path, bootstrap: str, city: City, prefix: str, network: Path, port: int, rate: int, seconds: int
) -> tuple[Cost, dict[str, Any]]:
    """One connector's life, with the fleet (``rate`` > 0) or in silence for as long."""
    with live.processes() as running:
        connector = live.Process(work, prefix.strip("."), live.connect_arguments(city.name, bootstrap, prefix, port))
        running.append(connector)
        connector.says("mqtt up")
        began = time.monotonic()
        facts = live.told(live.publisher(port, network, rate, seconds)) if rate else {}
        time.sleep(1.0 if rate else max(0.0, seconds + 4 - (time.monotonic() - began)))
        return connector.stop(), facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=3000, help="messages a second: so many vehicles at 1 Hz")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peer-messages", type=int, default=60_000, help="for Faust")
    parser.add_argument("--lines", type=Path, help="HSL's line geometries (.zip); without them the network is made up")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    city = cities.load("helsinki")
    network, folder, _ = load.helsinki(city, args.lines)
    facts: dict[str, Any] = {"machine": measure.machine(), "versions": measure.versions({"kafka": kafka_version()})}
    measure.heading("connector", facts["machine"], facts["versions"])
    rates: list[float] = []
    faust: list[float] = []
    with tempfile.TemporaryDirectory() as name, KafkaBroker(Path(name) / "kafka") as broker:
        work = Path(name)
        # fewer vehicles, so that the messages reach over more than one window
        plain = small_job.fill(broker.address, Fleet(network, max(1, args.peer_messages // 90)), args.peer_messages)
        for k in range(args.repeat):
            with live.mqtt(work) as (port, which):
                silent, _ = once(work, broker.address, city, f"silent{k}.", folder, port, 0, args.seconds)
                whole, said = once(work, broker.address, city, f"heard{k}.", folder, port, args.rate, args.seconds)
            items, envelopes = asyncio.run(received(broker.address, city, f"heard{k}."))
            net = max(whole.cpu_s - silent.cpu_s, 0.01)
            rates.append(items / net)
            say(
                f"connector  {said['messages']:,} published ({which}), {items:,} in {envelopes:,} envelopes on Kafka, {said['messages'] - items:,} lost; "
                f"{whole.cpu_s:.2f} CPU-s whole, {silent.cpu_s:.2f} in silence: {items / net:,.0f} messages per CPU-second, {net / items * 1e6:.1f} us each"
            )
            rate, cost, start, _ = small_job.measure("faust", broker.address, plain, work, f"faust{k}", Path())
            faust.append(rate)
            say(
                f"faust      {plain.messages:,} messages, {cost.cpu_s:.2f} CPU-s whole, {start.cpu_s:.2f} to start: {rate:,.0f} messages per CPU-second"
            )
            facts.setdefault("lost", []).append(said["messages"] - items)
    facts["spread"] = {"connector": measure.spread(rates), "faust": measure.spread(faust)}
    facts["connector"], facts["faust"] = (facts["spread"][x]["median"] for x in ("connector", "faust"))
    say(
        f"connector  {facts['connector']:,.0f} messages per CPU-second, {facts['connector'] / facts['faust']:.1f} x Faust ({facts['faust']:,.0f})"
    )
    measure.write_json(args.json, facts)


if __name__ == "__main__":
    main()
