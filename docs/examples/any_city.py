"""Where a city is slow right now, and who is stuck there: from three of its open topics.

Written against Turku's topics, and good for any city's, since all have the same: python docs/examples/any_city.py 127.0.0.1:9092 turku
"""

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer

STREETS, VEHICLES, PATIENCE_S = 5, 10, 120


async def main(broker: str, city: str) -> bool:
    names: dict[str, str] = {}  # by segment: what is drawn on a map
    ratio: dict[str, float] = {}  # by segment: share of the free speed that is driven, where it was measured
    vehicle_on: dict[str, tuple[str, float | None]] = {}  # by vehicle: segment, and how late it is, seconds
    topics = [f"mobility.{city}.{product}.v1" for product in ("segment", "segment-state", "vehicle-position")]
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=broker, auto_offset_reset="earliest")
    until = time.monotonic() + PATIENCE_S
    async with consumer:
        while time.monotonic() < until and not (names and len(ratio) >= STREETS and len(vehicle_on) >= VEHICLES):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    if record.value is None:  # a tombstone: this key is gone
                        continue
                    value = json.loads(record.value)
                    if record.topic == topics[0]:
                        names[value["segment_id"]] = value.get("name") or value["road_class"]
                    elif record.topic == topics[1] and value["origin"] == "measured" and "speed_ratio" in value:
                        ratio[value["segment_id"]] = value["speed_ratio"]
                    elif record.topic == topics[2] and "segment_id" in value:
                        vehicle_on[value["vehicle_id"]] = value["segment_id"], value.get("delay_s")
    print(f"{city}: {len(vehicle_on)} vehicles on streets, {len(ratio)} streets measured")
    for segment in sorted(ratio, key=lambda s: ratio[s])[:STREETS]:
        stuck = [vehicle for vehicle, (on, _) in vehicle_on.items() if on == segment]
        print(f"{ratio[segment]:6.0%} of free flow  {names.get(segment, segment):30}  {', '.join(stuck)}")
    late = sorted(delay for _, delay in vehicle_on.values() if delay is not None)
    print(f"half of those that say so are later than {late[len(late) // 2]:.0f} s" if late else "nobody says how late it is")
    return len(ratio) >= STREETS and len(vehicle_on) >= VEHICLES


if __name__ == "__main__":
    sys.exit(not asyncio.run(main(sys.argv[1], sys.argv[2])))
