"""A real broker with the security settings of ``deploy/kafka/secure.properties``, an authority of its own and users of every kind."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from deploy.kafka.broker import KafkaBroker, free_port

SETTINGS = Path(__file__).resolve().parents[2] / "deploy" / "kafka" / "secure.properties"


class Secure:
    """A broker whose inside is for certificates only and whose outside is for users with passwords."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca = folder, trustme.CA()
        self.authority = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.authority))
        self.keystore = folder / "broker.pem"
        self.issue(self.keystore, "broker")
        self.admin_pem = folder / "admin.pem"
        self.issue(self.admin_pem, "admin")
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

    def issue(self, path: Path, name: str) -> str:
        """A certificate and its key in one PEM file, the key as Java reads it; returns its serial number."""
        leaf = self.ca.issue_cert(
            "127.0.0.1", "localhost", common_name=name, organization_name="test", organization_unit_name="Kafka"
        )  # Kafka renews only what has the same subject
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(pem + b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return self._serial(leaf.cert_chain_pems[0].bytes())

    @staticmethod
    def _serial(pem: bytes) -> str:
        from cryptography.x509 import load_pem_x509_certificate

        return f"{load_pem_x509_certificate(pem).serial_number:X}"

    def shown(self) -> str:
        """Serial number of the certificate that a new client is shown."""
        return self._serial(ssl.get_server_certificate(("127.0.0.1", self.public_port), ca_certs=str(self.authority)).encode())

    def inside(self) -> ssl.SSLContext:
        """Of an administrator."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if self.admin_pem.exists():
            context.load_cert_chain(self.admin_pem)
        return context

    @property
    def admin(self) -> dict[str, Any]:
        """Arguments of aiokafka for an administrator."""
        return {"security_protocol": "SSL", "ssl_context": self.inside()}

    def user(self, name: str, password: str) -> dict[str, Any]:
        """Arguments of aiokafka for a user."""
        return {
            "security_protocol": "SASL_SSL",
            "ssl_context": ssl.create_default_context(cafile=str(self.authority)),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": name,
            "sasl_plain_password": password,
        }

    @property
    def public(self) -> str:
        """Address for users with passwords."""
        return f"127.0.0.1:{self.public_port}"
