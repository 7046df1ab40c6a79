"""A broker that takes only so much of one client: its own quota, which aiokafka has no request for.

It answers a request at once, and then reads nothing more of the connection until the rate, over the last 11 s, is kept again (KIP-219).
"""

from __future__ import annotations

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

from connectors.kafka import make_admin


class _Altered(Response):
    """https://kafka.apache.org/protocol#The_Messages_AlterClientQuotas, version 0."""

    API_KEY, API_VERSION = 49, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "entries",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("entity", Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8")))),
            ),
        ),
    )


class _Alter(RequestStruct):
    API_KEY, API_VERSION = 49, 0
    RESPONSE_TYPE = _Altered
    SCHEMA = Schema(
        (
            "entries",
            Array(
                ("entity", Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8")))),
                ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _AlterQuota(Request[_Alter]):
    API_KEY = 49

    def __init__(self, client_id: str, bytes_s: float) -> None:
        self.entry = ([("client-id", client_id)], [("producer_byte_rate", float(round(bytes_s)), False)])

    def build(self, request_struct_class: type[_Alter]) -> _Alter:
        return request_struct_class([self.entry], False)


async def limit(bootstrap: str, client_id: str, bytes_s: float) -> None:
    """From now on the broker takes so much a second of what this client produces.

    Raises:
        RuntimeError: the broker would not.
    """
    admin = make_admin(bootstrap)
    await admin.start()
    try:
        answer = await admin._send_request(_AlterQuota(client_id, bytes_s))
    finally:
        await admin.close()
    if any(code for code, _, _ in answer.entries):
        raise RuntimeError(f"no quota: {answer.entries}")
