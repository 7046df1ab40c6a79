"""Who may do what on the broker: one table, from which ACLs and quotas are made, checked and documented.

Nobody may do what is not listed: the broker runs with ``allow.everyone.if.no.acl.found=false``. Topics are created by the administrator (``tilannekuva topics --apply``),
so no process has the right to create, alter or delete one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.topics import dead_letter_topic, evidence_topic, late_topic, partials_topic, state_topic

Resource = Literal["topic", "group"]
Operation = Literal["read", "write", "describe"]
#: The user that everybody may know, password included: the rights and the quota are what protects.
PUBLIC = "public"
#: Reads the open topics of every city.
GATEWAY = "gateway"
#: Groups of public readers begin so. Any group would let a stranger join a worker's group and take its partitions away.
PUBLIC_GROUPS = "public."


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One thing that a user may do to the resources whose names begin with ``name`` (or are it, when ``exact``)."""

    user: str
    resource: Resource
    name: str
    exact: bool
    operation: Operation

    def __str__(self) -> str:
        return f"{self.user} may {self.operation} {self.resource} {self.name}{'' if self.exact else '*'}"


@dataclass(frozen=True, slots=True)
class Quota:
    """Most bytes a second that one user's connections may read and write at a broker; the broker slows them down beyond it."""

    user: str
    consumer_bytes_s: int
    producer_bytes_s: int


#: 10 MB/s is all topics of six cities three times over at their peak (docs/operations.md); a public user writes nothing, so its requests need next to nothing.
QUOTAS = (Quota(PUBLIC, 10_000_000, 1_024),)


def connect_user(city: str) -> str:
    """
    >>> connect_user("turku")
    'connect-turku'
    """
    return f"connect-{city}"


def process_user(city: str) -> str:
    return f"process-{city}"


def archive_user(city: str) -> str:
    return f"archive-{city}"


def password_env(user: str) -> str:
    """Name of the environment variable that ``access --apply`` takes a user's password from.

    >>> password_env("connect-turku")
    'TILANNEKUVA_PASSWORD_CONNECT_TURKU'
    """
    return "TILANNEKUVA_PASSWORD_" + user.upper().replace("-", "_")


def _on(user: str, resource: Resource, name: str, exact: bool, *operations: Operation) -> list[Rule]:
    return [Rule(user, resource, name, exact, o) for o in operations]


def rules(city: str, raw_city: str | None = None) -> list[Rule]:
    """What the processes of a city may do. ``raw_city``: whose raw topics it reads, when another's.

    >>> [str(r) for r in rules("turku") if r.user == "connect-turku"]
    ['connect-turku may write topic raw.turku.*', 'connect-turku may describe topic raw.turku.*']
    """
    raw, process, archive = f"raw.{raw_city or city}.", process_user(city), archive_user(city)
    open_topics = f"mobility.{city}."
    out = [] if raw_city not in (None, city) else _on(connect_user(city), "topic", raw, False, "write", "describe")
    out += _on(process, "topic", raw, False, "read", "describe")
    for name in (partials_topic(city), state_topic(city)):
        out += _on(process, "topic", name, True, "read", "write", "describe")
    out += _on(process, "topic", open_topics, False, "read", "write", "describe")
    for name in (dead_letter_topic(city), late_topic(city), evidence_topic(city)):
        out += _on(process, "topic", name, True, "write", "describe")
    out += _on(process, "group", f"tilannekuva-{city}", True, "read", "describe")
    for name in (raw, open_topics):
        out += _on(archive, "topic", name, False, "read", "describe")
    return out


def shared_rules() -> list[Rule]:
    """What the gateway and the public may do: read what is open, and nothing else; the gateway also the evidence that it explains values from."""
    return [
        *_on(GATEWAY, "topic", "mobility.", False, "read", "describe"),
        *_on(GATEWAY, "topic", evidence_topic(""), False, "read", "describe"),
        *_on(PUBLIC, "topic", "mobility.", False, "read", "describe"),
        *_on(PUBLIC, "group", PUBLIC_GROUPS, False, "read", "describe"),
    ]
