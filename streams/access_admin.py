"""A broker's ACLs and quotas against the table of who may do what: what differs, and how to make it agree.

aiokafka has no public method for any of it, but speaks the protocol; what it lacks even there is in ``streams/access_protocol.py``.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, DescribeClientQuotasRequest

from models.access import Quota, Rule
from streams.access_protocol import AlterClientQuotas, AlterScramUsers
from streams.admin import admin_of

#: Numbers of the protocol: org.apache.kafka.common.acl and .resource.
RESOURCES = {"topic": 2, "group": 3}
OPERATIONS = {"read": 3, "write": 4, "describe": 8}
ANY, MATCH_ANY, LITERAL, PREFIXED, ALLOW = 1, 1, 3, 4, 3
ANYONE, ANYWHERE = None, "*"


async def check(
    bootstrap: str, wanted: Sequence[Rule], quotas: Sequence[Quota], security: dict[str, Any] | None = None
) -> tuple[list[Rule], list[str], list[Quota]]:
    """What is missing, what is there beyond the table (in words), which quotas differ.

    Raises:
        KafkaError: the broker does not answer.
        RuntimeError: it refuses, e.g. because it has no authorizer or the user is no administrator.
    """
    async with admin_of(bootstrap, **(security or {})) as admin:
        have, beyond = await _found(admin)
        extra = [str(r) for r in sorted(have - set(wanted))] + beyond
        return sorted(set(wanted) - have), extra, await _other_quotas(admin, quotas)


async def apply(
    bootstrap: str, wanted: Sequence[Rule], quotas: Sequence[Quota], security: dict[str, Any] | None = None
) -> tuple[list[Rule], list[Quota]]:
    """Grant what is missing, set the quotas that differ. Returns both. What is there beyond the table is left: an administrator may have reasons.

    Raises:
        KafkaError: the broker does not answer.
        RuntimeError: it refused.
    """
    async with admin_of(bootstrap, **(security or {})) as admin:
        have, _ = await _found(admin)
        missing = sorted(set(wanted) - have)
        for r in missing:
            answer = await admin._send_to_controller(
                CreateAclsRequest(*_where(r), f"User:{r.user}", ANYWHERE, OPERATIONS[r.operation], ALLOW)
            )
            for code, message in answer.creation_responses:
                _raise(code, message, str(r))
        other = await _other_quotas(admin, quotas)
        if other:
            answer = await admin._send_to_controller(AlterClientQuotas([(q.user, _values(q)) for q in other]))
            for code, message, entity in answer.entries:
                _raise(code, message, f"quota of {entity}")
        return missing, other


async def set_passwords(bootstrap: str, passwords: Mapping[str, str], security: dict[str, Any] | None = None) -> None:
    """Make users, or give them new passwords; those who are connected stay so. The broker gets salted hashes (SCRAM-SHA-512, RFC 5802), never a password.

    Raises:
        KafkaError: the broker does not answer.
        RuntimeError: it refused.
    """
    async with admin_of(bootstrap, **(security or {})) as admin:
        answer = await admin._send_to_controller(AlterScramUsers([(u, p, secrets.token_bytes(32)) for u, p in sorted(passwords.items())]))
        for user, code, message, _ in answer.results:
            _raise(code, message, f"the password of {user}")


async def revoke(bootstrap: str, user: str, security: dict[str, Any] | None = None) -> int:
    """Take every right from a user; returns how many rules that were."""
    async with admin_of(bootstrap, **(security or {})) as admin:
        answer = await admin._send_to_controller(DeleteAclsRequest(ANY, None, ANY, f"User:{user}", None, ANY, ANY))
        removed = 0
        for code, message, matching in answer.filter_responses:
            _raise(code, message, f"the rights of {user}")
            removed += len(matching)
        return removed


def _values(quota: Quota) -> dict[str, float]:
    return {"consumer_byte_rate": float(quota.consumer_bytes_s), "producer_byte_rate": float(quota.producer_bytes_s)}


def _where(rule: Rule) -> tuple[int, str, int]:
    return RESOURCES[rule.resource], rule.name, LITERAL if rule.exact else PREFIXED


async def _found(admin: AIOKafkaAdminClient) -> tuple[set[Rule], list[str]]:
    """The rules on the broker; and those that the table has no words for."""
    answer = await admin._send_to_controller(DescribeAclsRequest(ANY, ANYONE, MATCH_ANY, ANYONE, None, ANY, ANY))
    _raise(answer.error_code, answer.error_message, "the list of rights")
    resources, operations = {v: k for k, v in RESOURCES.items()}, {v: k for k, v in OPERATIONS.items()}
    found, beyond = set[Rule](), list[str]()
    for resource, name, pattern, acls in answer.resources:
        for principal, host, operation, permission in acls:
            kind, user = resources.get(resource), principal.removeprefix("User:")
            plain = permission == ALLOW and host == ANYWHERE and pattern in (LITERAL, PREFIXED)
            if kind is not None and operation in operations and plain and principal != user:
                found.add(Rule(user, kind, name, pattern == LITERAL, operations[operation]))  # type: ignore[arg-type]
            else:
                beyond.append(f"{principal} from {host}: operation {operation}, permission {permission}, on {kind or resource} {name}")
    return found, sorted(beyond)


async def _other_quotas(admin: AIOKafkaAdminClient, wanted: Sequence[Quota]) -> list[Quota]:
    have: dict[str, dict[str, float]] = {}
    for q in wanted:
        answer = await admin._send_request(DescribeClientQuotasRequest([("user", 0, q.user)], True))
        _raise(answer.error_code, answer.error_message, f"the quota of {q.user}")
        for entity, values in answer.entries or ():
            have[dict(entity)["user"]] = dict(values)
    return [q for q in wanted if {k: have.get(q.user, {}).get(k) for k in _values(q)} != _values(q)]


def _raise(code: int, message: str | None, what: str) -> None:
    if code:
        hint = " (54: it has no authorizer; 31: this user is no administrator)" if code in (31, 54) else ""
        raise RuntimeError(f"{what}: the broker refused, error {code} {message or ''}{hint}")
