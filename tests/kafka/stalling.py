"""A worker one thing of which breaks after its first messages: run as a process by ``test_worker.py``.

python -m tests.kafka.stalling CITY_FILE NETWORK BOOTSTRAP PREFIX METRICS_PORT (loop | snapshot | nothing) (patient | impatient)

``loop``: the event loop is dead. ``snapshot``: nothing is made durable any more, so nothing is acked. ``nothing``: what breaks is outside. An impatient watchdog waits
a fifth of the time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from connectors import cities
from geo import store
from streams.driver import DriverSettings
from streams.monitor import Monitor
from streams.watchdog import WatchdogSettings
from streams.worker import CityWorker, WorkerSettings, run_worker

IMPATIENT = WatchdogSettings(stalled_s=12.0, unready_s=4.0, look_s=0.5)


async def main(city: str, network: str, bootstrap: str, prefix: str, port: str, broken: str, patience: str) -> None:
    settings = WorkerSettings(
        bootstrap=bootstrap, prefix=prefix, session_timeout_s=6.0, watchdog=IMPATIENT if patience == "impatient" else WatchdogSettings(),
        driver=DriverSettings(snapshot_s=1.0),
    )  # fmt: skip
    worker = CityWorker(cities.load(city), store.load(Path(network)), settings)
    with Monitor([worker.watchdog], CollectorRegistry(), int(port)):
        running = asyncio.create_task(run_worker(worker, asyncio.Event()))
        while not any(d.fed for d in worker.drivers.values()) or worker.watchdog.ready() is not None:
            await asyncio.sleep(0.1)
        print("breaking", broken, flush=True)  # noqa: T201
        if broken == "loop":
            time.sleep(3600)
        if broken == "snapshot":
            for driver in worker.drivers.values():

                async def never(**_: Any) -> None:
                    """Hangs."""

                driver.maybe_snapshot = never  # type: ignore[method-assign]
                driver.settings = DriverSettings(max_pending=1 << 60)
        await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
