"""The small job on Bytewax, as its documentation teaches it (Kafka operators, event-time windows): ends at the end of the topic."""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower

BROKER, TOPIC, OUT, GROUP, MESSAGES, DATADIR = (
    os.environ[f"JOB_{name}"] for name in ("BROKER", "TOPIC", "OUT", "GROUP", "MESSAGES", "DATADIR")
)
ALIGN = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = timedelta(minutes=1)
Sum = tuple[float, int]


def parse(message: Any) -> dict[str, Any]:
    return json.loads(message.value)["VP"]


def add(total: Sum, position: dict[str, Any]) -> Sum:
    speed = position["spd"]
    return total if speed is None else (total[0] + speed, total[1] + 1)


def record(of_route: tuple[str, tuple[int, Sum]]) -> KafkaSinkMessage:
    route, (window, (total, count)) = of_route
    end = int((ALIGN + WINDOW * (window + 1)).timestamp())
    return KafkaSinkMessage(route.encode(), json.dumps({"route": route, "window_end": end, "speed_mps": total / max(count, 1)}).encode())


flow = Dataflow("mean_speed")
stream = kop.input("positions", flow, brokers=[BROKER], topics=[TOPIC], tail=False)
positions = op.key_on("route", op.map("parse", stream.oks, parse), lambda position: position["route"])
clock = EventClock(ts_getter=lambda position: datetime.fromisoformat(position["tst"]), wait_for_system_duration=timedelta(seconds=10))
means = win.fold_window(
    "mean",
    positions,
    clock,
    TumblingWindower(length=WINDOW, align_to=ALIGN),
    lambda: (0.0, 0),
    add,
    lambda a, b: (a[0] + b[0], a[1] + b[1]),
    ordered=False,  # sums need no order, and it is twice as fast
)
kop.output("means", op.map("record", means.down, record), brokers=[BROKER], topic=OUT)
