"""A worker with an impatient watchdog, one thing of which is broken: run as a process by ``test_worker.py``.

python -m tests.kafka.stalling CITY_FILE NETWORK BOOTSTRAP PREFIX (loop | commit)
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from connectors import cities
from geo import store
from streams.driver import DriverSettings
from streams.watchdog import WatchdogSettings
from streams.worker import CityWorker, WorkerSettings, run_worker


async def main(city: str, network: str, bootstrap: str, prefix: str, broken: str) -> None:
    settings = WorkerSettings(
        bootstrap=bootstrap, prefix=prefix, session_timeout_s=6.0, watchdog=WatchdogSettings(stalled_s=12.0, unready_s=4.0, look_s=0.5),
        driver=DriverSettings(snapshot_s=1.0),
    )  # fmt: skip
    worker = CityWorker(cities.load(city), store.load(Path(network)), settings)
    stop = asyncio.Event()
    running = asyncio.create_task(run_worker(worker, stop))
    while not any(d.fed for d in worker.drivers.values()):
        await asyncio.sleep(0.1)
    if broken == "loop":
        time.sleep(3600)
    for driver in worker.drivers.values():

        async def never(**_: Any) -> None:
            """Hangs, as a coordinator that does not answer would."""

        driver.maybe_snapshot = never  # type: ignore[method-assign]
        driver.settings = DriverSettings(max_pending=1 << 60)
    await running


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
