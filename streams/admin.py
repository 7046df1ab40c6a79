"""Topics on the broker as the table of topics says, and how far a consumer group has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ClusterAuthorizationFailedError, TopicAlreadyExistsError, TopicAuthorizationFailedError

from connectors.cities import City
from connectors.kafka import learn, make_admin, make_consumer
from models.topics import TopicSettings, settings

#: A new topic's partitions have leaders within this, seconds, or something is wrong with the broker.
LEADERS_S = 30.0


@asynccontextmanager
async def admin_of(bootstrap: str, **settings: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, started and closed. ``settings``: of aiokafka's, over those of the environment."""
    admin = make_admin(bootstrap, **settings)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def ensure_topics(
    bootstrap: str, city: City, prefix: str = "", *, replication: int = 1, only: Collection[str] | None = None
) -> list[str]:
    """Create the topics of a city that are missing, wait until they can be written; returns their names. Existing topics are left as they are.

    Args:
        bootstrap: the broker's address.
        city: whose topics.
        prefix: of all names.
        replication: copies of what is created.
        only: names of the topics that the caller uses; all by default. Where there are access rules, nobody sees more than those.

    Raises:
        OSError: this user may not create one that is missing.
        RuntimeError: the broker refused one for another reason than that it exists, or has given it no leader in ``LEADERS_S``.
    """
    async with admin_of(bootstrap) as admin:
        have = set(await admin.list_topics())
        wanted = [t for t in settings(city.name, city.partitions(), prefix, city.raw_city) if only is None or t.name in only]
        missing: list[TopicSettings] = [t for t in wanted if t.name not in have]
        if missing:
            response = await admin.create_topics([NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in missing])
            for topic, code, *message in response.topic_errors:
                if code in (TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno):
                    raise PermissionError(
                        f"{topic} is not there, or not to be seen, and may not be created by this user: tilannekuva topics --apply"
                    )
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise RuntimeError(f"{topic} could not be created: error {code} {message}")
        await _leaders(admin, [t.name for t in wanted])
        return [t.name for t in missing]


async def _leaders(admin: AIOKafkaAdminClient, topics: list[str]) -> None:
    """Until every partition has a leader: whoever writes or reads earlier gets errors, and some clients wait long after them."""
    deadline = asyncio.get_running_loop().time() + LEADERS_S
    while True:
        described = await admin.describe_topics(topics)
        without = [t["topic"] for t in described if t["error_code"] or not t["partitions"] or any(p["leader"] < 0 for p in t["partitions"])]
        if not without:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise RuntimeError(f"no leader for {', '.join(sorted(without))} within {LEADERS_S:g} s")
        await asyncio.sleep(0.1)


class Probe:
    """Looks at the broker beside the consumer group: where logs end, and what the group has committed. Its own connections, so that it sees what a stuck client does not."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self.bootstrap, self.group = bootstrap, group
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        self._admin = make_admin(self.bootstrap)
        self._consumer = make_consumer(bootstrap=self.bootstrap)
        await self._admin.start()
        await self._consumer.start()

    async def stop(self) -> None:
        for client in (self._admin.close() if self._admin else None, self._consumer.stop() if self._consumer else None):
            if client is not None:
                await client

    async def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Offset after the last message of each partition."""
        assert self._consumer is not None
        wanted = [TopicPartition(t, p) for t, p in partitions]
        await learn(self._consumer, {tp.topic for tp in wanted})
        return {(tp.topic, tp.partition): end for tp, end in (await self._consumer.end_offsets(wanted)).items()}

    async def begins(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Offset of the first message that is still there."""
        assert self._consumer is not None
        wanted = [TopicPartition(t, p) for t, p in partitions]
        return {(tp.topic, tp.partition): begin for tp, begin in (await self._consumer.beginning_offsets(wanted)).items()}

    async def committed(self) -> dict[tuple[str, int], int]:
        """Next offset of the group, of the partitions that it has committed."""
        assert self._admin is not None
        found = await self._admin.list_consumer_group_offsets(self.group)
        return {(tp.topic, tp.partition): meta.offset for tp, meta in found.items() if meta.offset >= 0}
