"""How the broker is reached is said in the environment: checked before anything is touched, never shown, renewed without a stop."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from connectors.kafka import KAFKA, security
from models.errors import ConfigError

CANARY = "hunter2-canary"


def env(**settings: str) -> dict[str, str]:
    return {KAFKA + key.upper(): value for key, value in settings.items()}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"security_protocol": "TLS"}, "SECURITY_PROTOCOL"),
        ({"security_protocl": "SSL"}, "SECURITY_PROTOCL"),
        ({"sasl_password": CANARY}, "SECURITY_PROTOCOL"),
        ({"ca_file": "/nowhere"}, "SECURITY_PROTOCOL"),
        ({"security_protocol": "SSL", "ca_file": "/nowhere"}, "CA_FILE"),
        ({"security_protocol": "SSL", "ca_file": __file__}, "CA_FILE"),
        ({"security_protocol": "SSL", "key_file": __file__}, "CERT_FILE"),
        ({"security_protocol": "SSL", "sasl_username": "gateway"}, "SECURITY_PROTOCOL"),
        ({"security_protocol": "SASL_SSL", "sasl_password": CANARY}, "SASL_USERNAME"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "gateway"}, "SASL_PASSWORD"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "x", "sasl_password": CANARY, "sasl_mechanism": "GSSAPI"}, "SASL_MECHANISM"),
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "x", "sasl_password": CANARY, "ca_file": "/nowhere"},
            "SECURITY_PROTOCOL",
        ),
    ],
)
def test_a_setting_that_is_wrong_or_without_effect_is_named_and_its_secret_is_not(settings: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError) as e:
        security(env(**settings))
    assert KAFKA + key in e.value.key
    assert CANARY not in str(e.value)


def test_a_password_may_come_from_a_mounted_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{CANARY}\n")
    found = security(env(security_protocol="SASL_PLAINTEXT", sasl_username="gateway", sasl_password_file=str(tmp_path / "password")))
    assert found == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "gateway",
        "sasl_plain_password": CANARY,
    }


def test_tls_checks_host_names_and_takes_no_old_version() -> None:
    context = security(env(security_protocol="SSL"))["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_certificates_that_are_renewed_on_disk_hold_from_the_next_connection_on(tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    ca_file, cert_file = tmp_path / "ca.pem", tmp_path / "cert.pem"
    first.cert_pem.write_to_path(ca_file)
    first.issue_cert("old.client").private_key_and_cert_chain_pem.write_to_path(cert_file)
    context = security(env(security_protocol="SSL", ca_file=str(ca_file), cert_file=str(cert_file)))["ssl_context"]

    async def connect(authority: trustme.CA) -> str:
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(str(writer.get_extra_info("peercert")["subjectAltName"]))
            writer.close()

        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(ours)
        authority.configure_trust(ours)
        ours.verify_mode = ssl.CERT_REQUIRED
        server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=ours)
        try:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=context)
            writer.close()
            return await asyncio.wait_for(heard, 10)
        finally:
            server.close()

    assert "old.client" in await connect(first)
    with pytest.raises(ssl.SSLError):
        await connect(second)
    cert_file.write_text("half wri")
    assert "old.client" in await connect(first)  # what cannot be read yet changes nothing
    second.cert_pem.write_to_path(ca_file)
    second.issue_cert("new.client").private_key_and_cert_chain_pem.write_to_path(cert_file)
    assert "new.client" in await connect(second)
