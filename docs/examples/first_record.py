# docs/examples/first_record.py
import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer


async def main(broker: str) -> None:
    consumer = AIOKafkaConsumer("mobility.helsinki.vehicle-position.v1", bootstrap_servers=broker, auto_offset_reset="earliest")
    async with consumer:
        async for record in consumer:
            vehicle = json.loads(record.value)
            print(vehicle["vehicle_id"], vehicle.get("route_id"), vehicle.get("lat_deg"), vehicle.get("lon_deg"), vehicle.get("delay_s"))
            break


asyncio.run(main(sys.argv[1]))
