"""The end of the certificate that a broker shows is known before it comes."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
import trustme
from prometheus_client import CollectorRegistry, generate_latest

from streams.certificates import EVERY_S, BrokerCertificate

END = datetime.datetime(2031, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)


@pytest.fixture
def broker() -> Iterator[tuple[str, ssl.SSLContext, list[int]]]:
    """Address of something that speaks TLS, a context that trusts it, and how often it was asked."""
    ca = trustme.CA()
    server, client, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(), list[int]()
    ca.issue_cert("127.0.0.1", not_after=END).configure_cert(server)
    ca.configure_trust(client)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                asked.append(1)
                with plain:
                    try:
                        with server.wrap_socket(plain, server_side=True) as tls:
                            tls.recv(1)
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", client, asked
        listener.close()


def test_the_end_is_told_and_looked_at_once_an_hour(broker: tuple[str, ssl.SSLContext, list[int]]) -> None:
    address, context, asked = broker
    now = [0.0]
    registry = CollectorRegistry()
    registry.register(BrokerCertificate(address, {"ssl_context": context}, now_s=lambda: now[0]))
    assert asked == []  # registering is no reason to connect
    for at, times in ((0.0, 1), (EVERY_S - 1, 1), (EVERY_S, 2)):
        now[0] = at
        assert registry.get_sample_value("tilannekuva_broker_certificate_expiry_seconds", {"broker": address}) == END.timestamp()
        assert len(asked) == times


def test_a_broker_that_is_not_trusted_or_away_or_without_tls_has_no_figure(broker: tuple[str, ssl.SSLContext, list[int]]) -> None:
    address, _, _ = broker
    for security in ({"ssl_context": ssl.create_default_context()}, {}):
        registry = CollectorRegistry()
        registry.register(BrokerCertificate(f"{address},127.0.0.1:1", security))
        assert b"expiry_seconds{" not in generate_latest(registry)
