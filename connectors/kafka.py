"""The one way in which this project makes a Kafka producer: connectors, workers and replays alike."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.codec import has_lz4, has_zstd

from models.errors import ConfigError
from models.topics import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)
#: ``on`` or ``off``. Off only for brokers that cannot do it (the embedded tansu): a retry may then write a message twice.
IDEMPOTENCE = "TILANNEKUVA_IDEMPOTENCE"


def idempotent(env: Mapping[str, str] = os.environ) -> bool:
    """Whether producers number their messages, so that the broker drops what a retry sends twice. On unless the environment says off, loudly.

    Raises:
        ConfigError: neither ``on`` nor ``off``.

    >>> idempotent({}), idempotent({"TILANNEKUVA_IDEMPOTENCE": "off"})
    (True, False)
    """
    wanted = env.get(IDEMPOTENCE, "on")
    if wanted not in ("on", "off"):
        raise ConfigError("environment", IDEMPOTENCE, wanted, "on or off")
    if wanted == "off":
        log.warning("%s=off: a retry may write a message twice; only for a broker that has no idempotent producer", IDEMPOTENCE)
    return wanted == "on"


def make_producer(
    bootstrap: str,
    client_id: str,
    *,
    max_batch_bytes: int = 256 * 1024,
    max_request_bytes: int = MAX_MESSAGE_BYTES,
    request_timeout_ms: int = 30_000,
    security: Mapping[str, Any] | None = None,
    env: Mapping[str, str] = os.environ,
) -> AIOKafkaProducer:
    """Idempotent where the broker can, acks from all in-sync replicas, packed with zstd.

    Args:
        bootstrap: ``HOST:PORT`` of the broker.
        client_id: how this process is called in the broker's logs and quotas.
        max_batch_bytes: a batch leaves when it is so large, before compression; larger costs memory a partition.
        max_request_bytes: largest request; at least the largest message.
        request_timeout_ms: a message that the broker has not taken by then has failed, and its sender must end the process.
        security: further arguments of aiokafka's producer: ``security_protocol``, ``ssl_context``, ``sasl_...``.
        env: where ``TILANNEKUVA_IDEMPOTENCE`` is looked up.
    """
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        enable_idempotence=idempotent(env),
        acks="all",
        compression_type="zstd" if has_zstd() else "lz4" if has_lz4() else None,
        linger_ms=20,
        max_batch_size=max_batch_bytes,
        max_request_size=max_request_bytes,
        request_timeout_ms=request_timeout_ms,
        **(security or {}),
    )
