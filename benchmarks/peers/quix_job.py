"""The small job on Quix Streams, as its documentation teaches it (``docs/groupby.md``, ``docs/windowing.md``): windows are by message key, so the vehicles' messages are
re-keyed by route; windows go by the messages' own timestamps.
"""

import os
from datetime import timedelta

from quixstreams import Application
from quixstreams.dataframe.windows import Mean

BROKER, TOPIC, OUT, GROUP, MESSAGES, DATADIR = (
    os.environ[f"JOB_{name}"] for name in ("BROKER", "TOPIC", "OUT", "GROUP", "MESSAGES", "DATADIR")
)


def main() -> None:
    app = Application(broker_address=BROKER, consumer_group=GROUP, auto_offset_reset="earliest", state_dir=DATADIR, loglevel="WARNING")
    sdf = app.dataframe(app.topic(TOPIC, value_deserializer="json"))
    sdf = sdf.apply(lambda message: {"route": message["VP"]["route"], "spd": message["VP"]["spd"]})
    sdf = sdf.filter(lambda position: position["spd"] is not None)
    sdf = sdf.group_by("route")
    sdf = sdf.tumbling_window(timedelta(seconds=60)).agg(speed_mps=Mean("spd")).final()
    sdf.to_topic(app.topic(OUT, value_serializer="json"))
    app.run(timeout=5.0)  # ends when nothing more has come for so long


if __name__ == "__main__":
    main()
