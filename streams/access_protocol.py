"""Two requests of Kafka's protocol that aiokafka lacks: client quotas, and users who log in with a password.

Fields and numbers as in Kafka's message definitions ``AlterClientQuotasRequest.json`` (49) and ``AlterUserScramCredentialsRequest.json`` (51), version 0 of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Float64,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

SCRAM_SHA_512 = 2
#: Rounds of PBKDF2; Kafka takes 4,096 to 16,384.
ITERATIONS = 8_192
_ENTITY = Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8")))


class _QuotasAltered(Response):  # type: ignore[misc]
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("entries", Array(("error_code", Int16), ("error_message", String("utf-8")), ("entity", _ENTITY))),
    )


class _AlterClientQuotas(RequestStruct):  # type: ignore[misc]
    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = _QuotasAltered
    SCHEMA = Schema(
        ("entries", Array(("entity", _ENTITY), ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean))))),
        ("validate_only", Boolean),
    )


class AlterClientQuotas(Request[_AlterClientQuotas]):  # type: ignore[misc]
    """Quotas of users: name, and value by key (``consumer_byte_rate``, bytes/s)."""

    API_KEY = 49

    def __init__(self, quotas: Sequence[tuple[str, Mapping[str, float]]]) -> None:
        self._quotas = quotas

    def build(self, request_struct_class: type[_AlterClientQuotas]) -> _AlterClientQuotas:
        entries = [([("user", user)], [(key, value, False) for key, value in values.items()]) for user, values in self._quotas]
        return request_struct_class(entries, False)


class _UsersAltered(Response):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")), ("error_code", Int16), ("error_message", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("tags", TaggedFields),
    )


class _AlterScramUsers(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = _UsersAltered
    SCHEMA = Schema(
        ("deletions", CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields))),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterScramUsers(Request[_AlterScramUsers]):  # type: ignore[misc]
    """Users to make or change: name, password, salt."""

    API_KEY = 51

    def __init__(self, users: Sequence[tuple[str, str, bytes]]) -> None:
        self._users = users

    def build(self, request_struct_class: type[_AlterScramUsers]) -> _AlterScramUsers:
        upsertions: list[tuple[str, int, int, bytes, bytes, dict[int, bytes]]] = [
            (name, SCRAM_SHA_512, ITERATIONS, salt, hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS), {})
            for name, password, salt in self._users
        ]
        return request_struct_class([], upsertions, {})
