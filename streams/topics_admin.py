"""A broker's topics against the table of topics: what differs, and how to make it agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from connectors.cities import City
from models.topics import TopicSettings, settings
from streams.admin import admin_of


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it."""

    partitions: int
    config: dict[str, str]
    own: dict[str, str] = field(default_factory=dict)  #: settings that were made for this topic, not the broker's defaults


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a topic is not as it should be."""

    topic: str
    what: str  #: "missing", "partitions", or the name of a setting
    is_: str
    want: str

    def __str__(self) -> str:
        return f"{self.topic}: missing" if self.what == "missing" else f"{self.topic}: {self.what} is {self.is_}, expected {self.want}"

    @property
    def repairable(self) -> bool:
        """Fewer partitions would lose records: that topic has to be made anew by hand."""
        return self.what != "partitions" or int(self.is_) < int(self.want)


def differences(wanted: Sequence[TopicSettings], found: dict[str, Found]) -> list[Difference]:
    """What is not as the table says, topic by topic. Settings that the table does not name are the operator's.

    >>> differences([TopicSettings("a", 2, {"retention.ms": "5"})], {"a": Found(1, {"retention.ms": "5"})})[0].what
    'partitions'
    """
    out = []
    for t in wanted:
        have = found.get(t.name)
        if have is None:
            out.append(Difference(t.name, "missing", "missing", "there"))
            continue
        if have.partitions != t.partitions:
            out.append(Difference(t.name, "partitions", str(have.partitions), str(t.partitions)))
        for key, want in t.config.items():
            is_ = have.config.get(key, "not told")
            if set(is_.split(",")) != set(want.split(",")):
                out.append(Difference(t.name, key, is_, want))
    return out


def wanted_of(cities: Sequence[City], prefix: str = "") -> list[TopicSettings]:
    """Every topic of some cities."""
    return [t for city in cities for t in settings(city.name, city.partitions(), prefix)]


async def check(bootstrap: str, wanted: Sequence[TopicSettings]) -> list[Difference]:
    """Compare a running broker with the definition.

    Raises:
        KafkaError: it does not answer.
        RuntimeError: it does not tell its settings.
    """
    async with admin_of(bootstrap) as admin:
        return differences(wanted, await _found(admin, wanted))


async def apply(bootstrap: str, wanted: Sequence[TopicSettings], *, replication: int = 1) -> tuple[list[Difference], list[Difference]]:
    """Create what is missing and alter what differs. Returns what was mended, and what cannot be.

    Raises:
        KafkaError: the broker does not answer.
        RuntimeError: it refused a change.
    """
    async with admin_of(bootstrap) as admin:
        found = await _found(admin, wanted)
        wrong = differences(wanted, found)
        by_name = {t.name: t for t in wanted}
        missing = [by_name[d.topic] for d in wrong if d.what == "missing"]
        if missing:
            answer = await admin.create_topics([NewTopic(t.name, t.partitions, replication, topic_configs=t.config) for t in missing])
            _raise("created", answer.topic_errors)
        grown = {d.topic: NewPartitions(int(d.want)) for d in wrong if d.what == "partitions" and d.repairable}
        if grown:
            _raise("given partitions", (await admin.create_partitions(grown)).topic_errors)
        for name in sorted({d.topic for d in wrong if d.what not in ("missing", "partitions")}):
            # this request replaces all settings of a topic: those of the operator are told again
            both = {**found[name].own, **by_name[name].config}
            for response in await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, both)]):
                _raise("altered", [(r[3], r[0], r[1]) for r in response.resources])
        return [d for d in wrong if d.repairable], [d for d in wrong if not d.repairable]


def _raise(what: str, errors: Sequence[Any]) -> None:
    for topic, code, *message in errors:
        if code:
            raise RuntimeError(f"{topic} could not be {what}: error {code} {' '.join(str(m) for m in message if m)}")


async def _found(admin: AIOKafkaAdminClient, wanted: Sequence[TopicSettings]) -> dict[str, Found]:
    names = {t.name for t in wanted}
    # all topics are asked for: asking for one by its name may create it
    partitions = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics() if t["topic"] in names and not t["error_code"]}
    out: dict[str, Found] = {}
    if not partitions:
        return out
    for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(partitions)]):
        for code, message, _, name, entries in response.resources:
            if code:
                raise RuntimeError(f"{name}: the broker does not tell its settings: error {code} {message}")
            config = {str(e[0]): str(e[1]) for e in entries}
            own = {str(e[0]): str(e[1]) for e in entries if _is_own(e)}
            out[name] = Found(partitions[name], config, own)
    return out


def _is_own(entry: Sequence[Any]) -> bool:
    """True when a setting was made for this topic. Version 0 of the answer says "is default"; later ones name the source, 1: dynamic, of the topic."""
    return entry[3] == 1 if not isinstance(entry[3], bool) else not entry[3]
