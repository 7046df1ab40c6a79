"""The one way in which this project reaches Kafka: producers, consumers and admin clients of connectors, workers, gateway and commands, with the same security."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.codec import has_lz4, has_zstd

from models.errors import ConfigError
from models.topics import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)
#: ``on`` or ``off``. Off only for brokers that cannot do it (the embedded tansu): a retry may then write a message twice.
IDEMPOTENCE = "TILANNEKUVA_IDEMPOTENCE"
#: What every setting of the way to the broker begins with: ``TILANNEKUVA_KAFKA_SECURITY_PROTOCOL``, ``..._CA_FILE`` and so on (`security`).
KAFKA = "TILANNEKUVA_KAFKA_"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_KEYS = frozenset(
    ("SECURITY_PROTOCOL", "CA_FILE", "CERT_FILE", "KEY_FILE", "KEY_PASSWORD", "SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD", "SASL_PASSWORD_FILE")
)  # fmt: skip


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


class _RenewedContext(ssl.SSLContext):
    """TLS to the broker. Certificates that were renewed on disk are used from the next connection on, so nothing has to be stopped for them."""

    files: tuple[Path, ...] = ()
    load: Callable[[], None] = staticmethod(lambda: None)
    seen: tuple[int, ...] = ()

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        try:
            found = tuple(f.stat().st_mtime_ns for f in self.files)
            if found != self.seen:
                if self.seen:
                    self.load()
                    log.info("certificates were renewed: %s", ", ".join(map(str, self.files)))
                self.seen = found
        except (OSError, ssl.SSLError) as e:  # half written: the old ones hold until the next connection
            log.warning("renewed certificates cannot be read yet: %s", e)
        return super().wrap_bio(*args, **more)


def _file(env: Mapping[str, str], key: str) -> Path | None:
    name = env.get(KAFKA + key, "")
    if name and not os.access(name, os.R_OK):
        raise ConfigError("environment", KAFKA + key, name, "a file that can be read")
    return Path(name) if name else None


def _tls(env: Mapping[str, str]) -> ssl.SSLContext:
    ca, cert, key = _file(env, "CA_FILE"), _file(env, "CERT_FILE"), _file(env, "KEY_FILE")
    if key is not None and cert is None:
        raise ConfigError("environment", f"{KAFKA}CERT_FILE", None, "a certificate, since KEY_FILE is given")
    context = _RenewedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def load() -> None:
        if ca is not None:
            context.load_verify_locations(ca)
        if cert is not None:
            context.load_cert_chain(cert, key, lambda: env.get(f"{KAFKA}KEY_PASSWORD", ""))

    if ca is None:
        context.load_default_certs()
    try:
        load()
    except ssl.SSLError as e:
        raise ConfigError(
            "environment", f"{KAFKA}CA_FILE, CERT_FILE, KEY_FILE", [str(f) for f in (ca, cert, key) if f], f"PEM files ({e})"
        ) from e
    context.files, context.load = tuple(f for f in (ca, cert, key) if f is not None), load
    context.seen = tuple(f.stat().st_mtime_ns for f in context.files)
    return context


def security(env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """How the broker is to be reached, as arguments of aiokafka's clients; empty for a broker without TLS and passwords.

    ``TILANNEKUVA_KAFKA_SECURITY_PROTOCOL``: one of `PROTOCOLS`. ``..._CA_FILE``: whom to trust, PEM; default: the system's. ``..._CERT_FILE``, ``..._KEY_FILE``,
    ``..._KEY_PASSWORD``: the client's own certificate. ``..._SASL_MECHANISM``: one of `MECHANISMS`; ``..._SASL_USERNAME`` with ``..._SASL_PASSWORD`` or
    ``..._SASL_PASSWORD_FILE`` (as secrets are mounted). Host names are always checked.

    Raises:
        ConfigError: a setting that is unknown, wrong, missing, or would have no effect; the message never holds a password.

    >>> security({})
    {}
    >>> security({"TILANNEKUVA_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "TILANNEKUVA_KAFKA_SASL_USERNAME": "x"})
    Traceback (most recent call last):
    models.errors.ConfigError: environment: TILANNEKUVA_KAFKA_SASL_PASSWORD = None, expected a password, or SASL_PASSWORD_FILE
    """
    given = {name.removeprefix(KAFKA) for name in env if name.startswith(KAFKA) and env[name]}
    if unknown := sorted(given - _KEYS):
        raise ConfigError("environment", KAFKA + unknown[0], "…", f"one of {', '.join(sorted(_KEYS))} after {KAFKA}")
    protocol = env.get(f"{KAFKA}SECURITY_PROTOCOL") or "PLAINTEXT"
    if protocol not in PROTOCOLS:
        raise ConfigError("environment", f"{KAFKA}SECURITY_PROTOCOL", protocol, f"one of {', '.join(PROTOCOLS)}")
    sasl, tls = protocol.startswith("SASL"), protocol.endswith("SSL")
    useless = {
        k
        for k in given
        if (k.startswith("SASL") and not sasl) or (k.endswith(("CA_FILE", "CERT_FILE", "KEY_FILE", "KEY_PASSWORD")) and not tls)
    }
    if useless:
        raise ConfigError("environment", f"{KAFKA}SECURITY_PROTOCOL", protocol, f"another one: {KAFKA}{min(useless)} has no effect with it")
    out: dict[str, Any] = {} if protocol == "PLAINTEXT" else {"security_protocol": protocol}
    if tls:
        out["ssl_context"] = _tls(env)
    if sasl:
        mechanism = env.get(f"{KAFKA}SASL_MECHANISM") or "SCRAM-SHA-512"
        if mechanism not in MECHANISMS:
            raise ConfigError("environment", f"{KAFKA}SASL_MECHANISM", mechanism, f"one of {', '.join(MECHANISMS)}")
        out |= {"sasl_mechanism": mechanism, "sasl_plain_username": _user(env), "sasl_plain_password": _password(env)}
    return out


def _user(env: Mapping[str, str]) -> str:
    user = env.get(f"{KAFKA}SASL_USERNAME")
    if not user:
        raise ConfigError("environment", f"{KAFKA}SASL_USERNAME", None, "a user, since the protocol is SASL")
    return user


def _password(env: Mapping[str, str]) -> str:
    file = _file(env, "SASL_PASSWORD_FILE")
    password = file.read_text().strip() if file is not None else env.get(f"{KAFKA}SASL_PASSWORD", "")
    if not password:
        raise ConfigError("environment", f"{KAFKA}SASL_PASSWORD", None, "a password, or SASL_PASSWORD_FILE")
    return password


def make_consumer(*topics: str, bootstrap: str, **settings: Any) -> AIOKafkaConsumer:
    """A consumer that commits nothing by itself. ``settings``: of aiokafka's."""
    return AIOKafkaConsumer(*topics, bootstrap_servers=bootstrap, **{"enable_auto_commit": False, **security(), **settings})


async def learn(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> None:
    """Have a consumer ask for many topics at once, before it is asked for their offsets: it would ask for them one by one, a tenth of a second each, and give up after 100."""
    client = consumer._client
    await client.set_topics(client._topics | set(topics))


def make_admin(bootstrap: str, **settings: Any) -> AIOKafkaAdminClient:
    """An admin client. ``settings``: of aiokafka's."""
    return AIOKafkaAdminClient(bootstrap_servers=bootstrap, **{**security(), **settings})


def make_producer(
    bootstrap: str,
    client_id: str,
    *,
    max_batch_bytes: int = 256 * 1024,
    max_request_bytes: int = MAX_MESSAGE_BYTES,
    request_timeout_ms: int = 30_000,
    env: Mapping[str, str] = os.environ,
) -> AIOKafkaProducer:
    """Idempotent where the broker can, acks from all in-sync replicas, packed with zstd.

    Args:
        bootstrap: ``HOST:PORT`` of the broker.
        client_id: how this process is called in the broker's logs and quotas.
        max_batch_bytes: a batch leaves when it is so large, before compression; larger costs memory a partition.
        max_request_bytes: largest request; at least the largest message.
        request_timeout_ms: a message that the broker has not taken by then has failed, and its sender must end the process.
        env: where ``TILANNEKUVA_IDEMPOTENCE`` and `security` are looked up.
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
        **security(env),
    )
