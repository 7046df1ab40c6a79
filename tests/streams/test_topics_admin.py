"""The broker's topics against the table of topics."""

from __future__ import annotations

import asyncio
import secrets
import sys

import pytest
from aiokafka.admin import NewTopic

from connectors.cities import load
from models.topics import TopicSettings, open_topic
from streams import topics_admin
from streams.admin import admin_of
from streams.topics_admin import Found, differences


def test_every_kind_of_difference_is_named_and_what_agrees_is_not() -> None:
    wanted = [TopicSettings(name, 2, {"cleanup.policy": "compact,delete", "retention.ms": "5"}) for name in "abcd"]
    found = {
        "a": Found(2, {"cleanup.policy": "delete,compact", "retention.ms": "5", "segment.ms": "7"}),
        "b": Found(1, {"cleanup.policy": "delete", "retention.ms": "5"}),
        "c": Found(3, {"cleanup.policy": "compact,delete"}),
    }
    assert [(d.topic, d.what, d.repairable) for d in differences(wanted, found)] == [
        ("b", "partitions", True),
        ("b", "cleanup.policy", True),
        ("c", "partitions", False),
        ("c", "retention.ms", True),
        ("d", "missing", True),
    ]
    assert str(differences(wanted, found)[0]) == "b: partitions is 1, expected 2"


@pytest.mark.kafka
async def test_apply_makes_a_broker_as_defined_and_check_sees_any_difference(kafka: str) -> None:
    prefix = f"t{secrets.token_hex(4)}."
    wanted = topics_admin.wanted_of([load("helsinki")], prefix)
    states, positions = open_topic("helsinki", "segment-state", prefix), open_topic("helsinki", "vehicle-position", prefix)
    async with admin_of(kafka) as admin:
        own = {"retention.ms": "1000", "segment.ms": "600000"}
        await admin.create_topics([NewTopic(states, 1, 1, topic_configs=own), NewTopic(positions, 3, 1)])
    before = await topics_admin.check(kafka, wanted)
    assert {d.what for d in before if d.topic == states} == {
        "retention.ms",
        "cleanup.policy",
        "max.message.bytes",
        "message.timestamp.type",
    }
    assert sum(d.what == "missing" for d in before) == len(wanted) - 2
    mended, cannot = await topics_admin.apply(kafka, wanted)
    assert [str(d) for d in cannot] == [f"{positions}: partitions is 3, expected 1"]
    assert len(mended) == len(before) - 1
    for _ in range(50):  # a broker tells a new setting a moment after it has taken it
        after = await topics_admin.check(kafka, wanted)
        if len(after) == 1:
            break
        await asyncio.sleep(0.1)
    assert [str(d) for d in after] == [str(d) for d in cannot]
    async with admin_of(kafka) as admin:
        found = await topics_admin._found(admin, [t for t in wanted if t.name == states])
    assert found[states].own["segment.ms"] == "600000", "what the operator has set and we do not define stays"

    code, told = await command("helsinki", "--check", "--broker", kafka, "--prefix", prefix)
    assert (code, told) == (1, f"differs {positions}: partitions is 3, expected 1")
    code, told = await command("helsinki", "--apply", "--broker", kafka, "--prefix", f"t{secrets.token_hex(4)}.")
    assert code == 0
    assert told.endswith("topics are as defined")


async def command(*arguments: str) -> tuple[int | None, str]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tilannekuva", "topics", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await running.communicate()
    return running.returncode, out.decode().strip()
