"""The fleet on a local MQTT broker, in real time: one process, so that what publishing costs is nobody else's.

    python benchmarks/publisher.py PORT NETWORK VEHICLES SECONDS

Prints the number of messages and how late they left, milliseconds after their own event time.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.fleet import DELAY_MS, Fleet
from geo import store


def main(port: int, folder: Path, vehicles: int, seconds: int) -> None:
    network = store.load(folder)
    fleet = Fleet(network, vehicles)
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    fleet.start_ms = (time.time_ns() // 1_000_000 // 1000 + 2) * 1000
    late: list[int] = []
    for k in range(seconds):
        items = fleet.second(k)
        for item in items:
            due_ms = item.ingest_ms - DELAY_MS
            now_ms = time.time_ns() // 1_000_000
            if due_ms > now_ms:
                time.sleep((due_ms - now_ms) / 1000)
                now_ms = due_ms
            late.append(now_ms - due_ms)
            client.publish(item.topic, item.body)
    deadline = time.monotonic() + 5
    while client.want_write() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    client.disconnect()
    client.loop_stop()
    p50, p99 = np.percentile(late, [50, 99])
    print(json.dumps({"messages": len(late), "late_p50_ms": round(float(p50), 1), "late_p99_ms": round(float(p99), 1)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
