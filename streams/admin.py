"""Topics on the broker as the table of topics says."""

from __future__ import annotations

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from connectors.cities import City
from models.topics import TopicSettings, settings


async def ensure_topics(
    bootstrap: str, city: City, prefix: str = "", *, replication: int = 1, security: dict[str, Any] | None = None
) -> list[str]:
    """Create the topics of a city that are missing; returns their names. Existing topics are left as they are.

    Raises:
        RuntimeError: the broker refused one for another reason than that it exists.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **(security or {}))
    await admin.start()
    try:
        have = set(await admin.list_topics())
        missing: list[TopicSettings] = [t for t in settings(city.name, city.partitions(), prefix) if t.name not in have]
        if not missing:
            return []
        response = await admin.create_topics([NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in missing])
        for topic, code, *message in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise RuntimeError(f"{topic} could not be created: error {code} {message}")
        return [t.name for t in missing]
    finally:
        await admin.close()
