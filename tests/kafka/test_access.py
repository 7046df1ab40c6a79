"""Rights on a real broker with SASL_SSL: each user may do what the table of rights says, and is refused everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from models import access
from streams import access_admin
from streams.admin import admin_of
from tests.kafka.secure import Secure, started

pytestmark = pytest.mark.kafka

TOPICS = (
    "raw.turku.foli", "raw.oulu.waltti", "partials.turku", "state.turku", "dead-letter.turku", "late.turku", "evidence.turku", "mobility.turku.segment-state.v1",
    "mobility.oulu.segment-state.v1", "partials.oulu",
)  # fmt: skip
WANTED = [*access.rules("turku"), *access.rules("oulu"), *access.shared_rules()]
#: What each user of Turku may read and write; everything else is refused.
READS = {
    "connect-turku": set(),
    "process-turku": {"raw.turku.foli", "partials.turku", "state.turku", "mobility.turku.segment-state.v1"},
    "archive-turku": {"raw.turku.foli", "mobility.turku.segment-state.v1"},
    "gateway": {"mobility.turku.segment-state.v1", "mobility.oulu.segment-state.v1", "evidence.turku"},
    "public": {"mobility.turku.segment-state.v1", "mobility.oulu.segment-state.v1"},
}
WRITES = {
    "connect-turku": {"raw.turku.foli"},
    "process-turku": {
        "partials.turku",
        "state.turku",
        "dead-letter.turku",
        "late.turku",
        "evidence.turku",
        "mobility.turku.segment-state.v1",
    },
    "archive-turku": set(),
    "gateway": set(),
    "public": set(),
}
GROUPS = {"process-turku": {"tilannekuva-turku"}, "public": {"public.somebody"}}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    for made in started(tmp_path_factory.mktemp("secure"), "turku"):
        asyncio.run(_prepare(made))
        yield made


async def _prepare(made: Secure) -> None:
    async with admin_of(made.broker.address, **made.admin) as admin:
        await admin.create_topics([NewTopic(t, 1, 1) for t in TOPICS])
    producer = AIOKafkaProducer(bootstrap_servers=made.broker.address, **made.admin)
    async with producer:
        for t in TOPICS:
            await producer.send_and_wait(t, b"x", partition=0)
    await access_admin.set_passwords(made.broker.address, {u: made.passwords[access.password_env(u)] for u in READS}, made.admin)
    await access_admin.apply(made.broker.address, WANTED, access.QUOTAS, made.admin)


def as_user(secure: Secure, user: str) -> dict[str, Any]:
    return {"bootstrap_servers": secure.public, **secure.user(user)}


async def may_write(secure: Secure, user: str, topic: str) -> bool:
    producer = AIOKafkaProducer(**as_user(secure, user), enable_idempotence=False, request_timeout_ms=5_000)
    try:
        await producer.start()
        await producer.send_and_wait(topic, b"x", partition=0)
    except (TopicAuthorizationFailedError, KafkaConnectionError):
        return False
    finally:
        with suppress(KafkaError):
            await producer.stop()
    return True


async def may_read(secure: Secure, user: str, topic: str) -> bool:
    """Each topic holds a record: it is read, or the broker says no."""
    consumer = AIOKafkaConsumer(topic, **as_user(secure, user), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
        await asyncio.wait_for(consumer.getone(), 30)
    except TopicAuthorizationFailedError:
        return False
    finally:
        await consumer.stop()
    return True


async def may_join(secure: Secure, user: str, group: str) -> bool:
    async with admin_of(secure.public, **secure.user(user)) as admin:
        for _ in range(150):
            try:
                await admin.list_consumer_group_offsets(group)
            except GroupAuthorizationFailedError:
                return False
            except GroupCoordinatorNotAvailableError:  # the topic of offsets is being made
                await asyncio.sleep(0.2)
            else:
                return True
    raise AssertionError("no coordinator of groups within 30 s")


@pytest.mark.parametrize("user", sorted(READS))
async def test_each_user_may_do_what_the_table_says_and_nothing_else(secure: Secure, user: str) -> None:
    assert {t for t in TOPICS if await may_write(secure, user, t)} == WRITES[user]
    assert {t for t in TOPICS if await may_read(secure, user, t)} == READS[user]
    groups = ("tilannekuva-turku", "tilannekuva-oulu", "public.somebody", "other")
    assert {g for g in groups if await may_join(secure, user, g)} == GROUPS.get(user, set())


@pytest.mark.parametrize("user", sorted(READS))
async def test_nobody_but_an_administrator_makes_topics_alters_them_or_grants_rights(secure: Secure, user: str) -> None:
    async with admin_of(secure.public, **secure.user(user)) as admin:
        made = await admin.create_topics([NewTopic("mobility.turku.mine.v1", 1, 1)])
        assert [code for _, code, *_ in made.topic_errors] in ([29], [31])
        altered = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "raw.turku.foli", {"retention.ms": "1"})])
        assert all(r[0] != 0 for answer in altered for r in answer.resources)
    with pytest.raises(RuntimeError, match="refused"):
        await access_admin.apply(secure.public, [access.Rule(user, "topic", "", False, "read")], (), secure.user(user))


async def test_the_broker_agrees_with_the_table_and_a_right_too_many_or_too_few_is_named(secure: Secure) -> None:
    inside = secure.broker.address
    assert await access_admin.check(inside, WANTED, access.QUOTAS, secure.admin) == ([], [], [])
    more = access.Rule("stranger", "topic", "raw.", False, "read")
    await access_admin.apply(inside, [more], (), secure.admin)
    assert await access_admin.check(
        inside, [*WANTED, access.Rule("x", "group", "y", True, "read")], (access.Quota("public", 5, 5),), secure.admin
    ) == (
        [access.Rule("x", "group", "y", True, "read")],
        ["stranger may read topic raw.*"],
        [access.Quota("public", 5, 5)],
    )
    assert await access_admin.revoke(inside, "stranger", secure.admin) == 1
    assert await access_admin.check(inside, WANTED, access.QUOTAS, secure.admin) == ([], [], [])


async def test_neither_without_a_password_nor_with_a_wrong_one_nor_in_the_clear(secure: Secure) -> None:
    wrong = [
        secure.user("process-turku", "guessed"),
        secure.user("nobody", "x"),
        {"security_protocol": "SSL", "ssl_context": secure.user("x", "x")["ssl_context"]},
        {"security_protocol": "PLAINTEXT"},
    ]
    for security in wrong:
        admin = AIOKafkaAdminClient(bootstrap_servers=secure.public, request_timeout_ms=3_000, **security)
        with pytest.raises(KafkaError):
            await admin.start()
        await admin.close()


async def test_a_certificate_is_renewed_while_a_client_stays_connected(secure: Secure) -> None:
    before = secure.shown()
    consumer = AIOKafkaConsumer(**as_user(secure, "public"), enable_auto_commit=False)
    await consumer.start()
    try:
        tp = TopicPartition("mobility.turku.segment-state.v1", 0)
        consumer.assign([tp])
        serial = secure.renew()
        async with admin_of(secure.broker.address, **secure.admin) as admin:
            location = {f"listener.name.{name}.ssl.keystore.location": str(secure.keystore) for name in ("public", "internal")}
            answers = await admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", location)])
            assert [r[0] for answer in answers for r in answer.resources] == [0]
        for _ in range(300):  # the broker takes it up when the change comes back to it through its own log
            if secure.shown() != before:
                break
            await asyncio.sleep(0.2)
        assert secure.shown() == serial
        assert await may_write(secure, "process-turku", tp.topic)
        await consumer.seek_to_end()
        assert await may_write(secure, "process-turku", tp.topic)
        assert sum(len(v) for v in (await consumer.getmany(timeout_ms=5_000)).values()) == 1  # over the connection from before
    finally:
        await consumer.stop()
