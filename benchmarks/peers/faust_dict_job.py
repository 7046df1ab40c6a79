"""The small job on Faust without a table: sums are in a plain dict, so a restart loses them. Not how Faust is meant to be used; it shows what the table costs."""

import os
import signal
import sys

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
sums: dict[str, tuple[int, float, int]] = {}  # route -> window, sum of speeds, count


@app.agent(positions)
async def mean_speed(stream: faust.StreamT[Message]) -> None:
    seen = 0
    async for event in stream.events():
        p = event.value.VP
        window = int(event.message.timestamp // WINDOW)
        before, total, count = sums.get(p.route, (window, 0.0, 0))
        if window > before:
            if count:
                await means.send(key=p.route, value=MeanSpeed(p.route, (before + 1) * WINDOW, total / count))
            before, total, count = window, 0.0, 0
        if p.spd is not None and window == before:
            sums[p.route] = (window, total + p.spd, count + 1)
        seen += 1
        if seen == int(MESSAGES):  # let the last acks be committed, then end
            app.loop.call_later(3.0, lambda: os.kill(os.getpid(), signal.SIGTERM))


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "--loglevel", "warn", "--without-web"]
    app.main()
