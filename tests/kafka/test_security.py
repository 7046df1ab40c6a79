"""The same processes against a broker that wants TLS and a password: the environment says how, and nothing else changes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from connectors.kafka import KAFKA
from deploy.kafka.broker import KafkaBroker, free_port
from models.topics import open_topic
from serve.reader import Reader
from serve.state import Picture
from tests.kafka.harness import PATIENCE_S, ROOT, Town, compare, process, produce, written
from tests.streams import world

pytestmark = pytest.mark.kafka
PASSWORD = "hunter2-canary"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, dict[str, str]]]:
    """A broker with a second listener: its plain address, its address with TLS and SASL, and the environment that opens that one."""
    folder = tmp_path_factory.mktemp("secure")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)  # Java wants PKCS #8
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    (folder / "broker.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
    plain, outside, controller = free_port(), free_port(), free_port()
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_tilannekuva="{PASSWORD}";'
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},OUTSIDE://127.0.0.1:{outside},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},OUTSIDE://127.0.0.1:{outside}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,OUTSIDE:SASL_SSL",
        "listener.name.outside.ssl.keystore.type": "PEM",
        "listener.name.outside.ssl.keystore.location": folder / "broker.pem",
        "listener.name.outside.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.outside.plain.sasl.jaas.config": login,
    }
    env = {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "CA_FILE": str(folder / "ca.pem"),
        "SASL_MECHANISM": "PLAIN",
        "SASL_USERNAME": "tilannekuva",
        "SASL_PASSWORD": PASSWORD,
    }
    with KafkaBroker(folder / "broker", port=plain, properties=properties) as broker:
        yield broker.address, f"127.0.0.1:{outside}", {KAFKA + key: value for key, value in env.items()}


async def test_a_recording_a_worker_and_a_gateway_pass_through_tls_and_a_password(
    secure: tuple[str, str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, outside, env = secure
    town = Town(tmp_path, lines=world.recording(vehicles=2, seconds=120))
    with monkeypatch.context() as within:
        for name, value in env.items():
            within.setenv(name, value)
        prefix = await produce(town, outside, "secure")
        await process(town, outside, prefix)
        picture = Picture("toytown", prefix)
        stop = asyncio.Event()
        reader = Reader([picture], outside, lambda *_: None, stop.set)
        await asyncio.wait_for(reader.run(stop), PATIENCE_S)
        assert picture.states
    compare(town.offline(prefix), await written(town, plain, prefix))


def test_a_wrong_password_fails_with_exit_code_1_and_is_not_shown(secure: tuple[str, str, dict[str, str]]) -> None:
    _, outside, env = secure
    wrong = f"wrong-{PASSWORD}"
    command = [sys.executable, "-m", "tilannekuva", "tail", open_topic("toytown", "segment-state"), "--broker", outside, "--count", "1"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **env, f"{KAFKA}SASL_PASSWORD": wrong},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "uthentication" in done.stderr
    assert wrong not in done.stdout + done.stderr
