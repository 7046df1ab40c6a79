"""A real broker with the security settings of ``deploy/kafka/secure.properties``, an authority of its own and users of every kind."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import load_pem_x509_certificate

from deploy.kafka.broker import KafkaBroker, free_port
from models.access import password_env

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SETTINGS = DEPLOY / "kafka" / "secure.properties"


class Secure:
    """A broker whose inside is for certificates only and whose outside is for users with passwords; certificates and passwords by ``deploy/compose/secrets.sh``."""

    def __init__(self, folder: Path, city: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.city = folder, city
        shutil.copy(DEPLOY / "compose" / "secrets.sh", folder)
        self.make_secrets()
        secrets = folder / "secrets"
        self.authority, self.keystore, self.admin_pem = secrets / "ca.pem", secrets / "broker.pem", secrets / "admin.pem"
        lines = (secrets / "passwords.env").read_text().splitlines()
        self.passwords = dict(line.split("=", 1) for line in lines)
        self.public_port, controller = free_port(), free_port()
        settings = dict(
            line.split("=", 1) for line in SETTINGS.read_text().splitlines() if "=" in line and not line.startswith("#")
        )  # as Java's Properties reads it
        inside = free_port(but=controller)
        listeners = f"INTERNAL://127.0.0.1:{inside},PUBLIC://127.0.0.1:{self.public_port}"
        settings |= {
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": listeners,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "ssl.keystore.location": str(self.keystore),
            "ssl.truststore.location": str(self.authority),
        }
        self.broker = KafkaBroker(folder / "kafka", inside, settings, tls=self.inside())

    def make_secrets(self) -> None:
        """Those that are missing."""
        subprocess.run([self.folder / "secrets.sh", self.city], check=True, capture_output=True, timeout=120)

    def renew(self) -> str:
        """A new certificate in the place of the broker's; returns its serial number."""
        self.keystore.unlink()
        self.make_secrets()
        return self._serial(self.keystore.read_bytes())

    @staticmethod
    def _serial(pem: bytes) -> str:
        return f"{load_pem_x509_certificate(pem[pem.index(b'-----BEGIN CERT') :]).serial_number:X}"

    def shown(self) -> str:
        """Serial number of the certificate that a new client is shown."""
        return self._serial(ssl.get_server_certificate(("127.0.0.1", self.public_port), ca_certs=str(self.authority)).encode())

    def inside(self) -> ssl.SSLContext:
        """Of an administrator."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.admin_pem)
        return context

    @property
    def admin(self) -> dict[str, Any]:
        """Arguments of aiokafka for an administrator."""
        return {"security_protocol": "SSL", "ssl_context": self.inside()}

    def user(self, name: str, password: str | None = None) -> dict[str, Any]:
        """Arguments of aiokafka for a user."""
        return {
            "security_protocol": "SASL_SSL",
            "ssl_context": ssl.create_default_context(cafile=str(self.authority)),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": name,
            "sasl_plain_password": password if password is not None else self.passwords[password_env(name)],
        }

    @property
    def public(self) -> str:
        """Address for users with passwords."""
        return f"127.0.0.1:{self.public_port}"


def started(folder: Path, city: str) -> Iterator[Secure]:
    """A secure broker while a module's tests run, or a skip with the reason."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: it makes the certificates")
    made = Secure(folder, city)
    with made.broker:
        yield made
