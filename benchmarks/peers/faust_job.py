"""The small job on Faust, as its user guide teaches it: records, an agent that takes one message at a time, a table with a tumbling window of stream time
(the topic's timestamps are event times).

The guide's ``on_window_close`` waits for the wall clock; here a window is published when the first event of a later one comes.
"""

import os
import signal
import sys
from datetime import timedelta

import faust

BROKER, TOPIC, OUT, GROUP, MESSAGES, DATADIR = (
    os.environ[f"JOB_{name}"] for name in ("BROKER", "TOPIC", "OUT", "GROUP", "MESSAGES", "DATADIR")
)
WINDOW = 60


class Position(faust.Record, serializer="json"):
    route: str
    spd: float | None = None


class Message(faust.Record, serializer="json"):
    VP: Position


class MeanSpeed(faust.Record, serializer="json"):
    route: str
    window_end: int
    speed_mps: float


app = faust.App(GROUP, broker=f"kafka://{BROKER}", store="memory://", web_enabled=False, topic_partitions=1, datadir=DATADIR)
positions = app.topic(TOPIC, value_type=Message)
means = app.topic(OUT, value_type=MeanSpeed)
speeds = app.Table("speeds", default=lambda: (0.0, 0)).tumbling(WINDOW, expires=timedelta(hours=1)).relative_to_stream()
last: dict[str, int] = {}  # route -> its newest window


@app.agent(positions)
async def mean_speed(stream: faust.StreamT[Message]) -> None:
    seen = 0
    async for event in stream.events():
        p = event.value.VP
        window, of_route = int(event.message.timestamp // WINDOW), speeds[p.route]
        before = last.get(p.route, window)
        if window > before:
            total, count = of_route.delta(WINDOW * (window - before))
            if count:
                await means.send(key=p.route, value=MeanSpeed(p.route, (before + 1) * WINDOW, total / count))
        last[p.route] = max(window, before)
        if p.spd is not None:
            total, count = of_route.value()
            speeds[p.route] = (total + p.spd, count + 1)
        seen += 1
        if seen == int(MESSAGES):  # let the last acks be committed, then end
            app.loop.call_later(3.0, lambda: os.kill(os.getpid(), signal.SIGTERM))


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "--loglevel", "warn", "--without-web"]
    app.main()
