"""When the certificate that a broker shows will end, as a figure for Prometheus: a certificate that nobody renewed stops a city one night."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)
#: A certificate is looked at so often, seconds.
EVERY_S = 3600.0


def shown(address: str, context: ssl.SSLContext, timeout_s: float = 3.0) -> float:
    """End of the certificate that ``HOST:PORT`` shows, Unix time, seconds.

    Raises:
        OSError: nobody answers, or what is shown is not trusted (it may have ended already).
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
        certificate = tls.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))


class BrokerCertificate(Collector):
    """``tilannekuva_broker_certificate_expiry_seconds``, by broker of the bootstrap list; nothing where the way to it has no TLS.

    Args:
        bootstrap: ``HOST:PORT``, several with commas.
        security: arguments of aiokafka's clients (``connectors.kafka.security``).
        now_s: monotonic clock.
    """

    def __init__(self, bootstrap: str, security: Mapping[str, Any], now_s: Callable[[], float] = time.monotonic) -> None:
        self._brokers = bootstrap.split(",")
        self._context: ssl.SSLContext | None = security.get("ssl_context")
        self._now_s, self._looked_s = now_s, -EVERY_S
        self._found: dict[str, float] = {}

    def describe(self) -> Iterable[Metric]:
        """Without a look at the brokers."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        if self._context is not None and self._now_s() - self._looked_s >= EVERY_S:
            self._looked_s = self._now_s()
            for broker in self._brokers:
                try:
                    self._found[broker] = shown(broker, self._context)
                except (OSError, ValueError, KeyError) as e:  # what was seen before stays: it still ends then
                    log.warning("the certificate of %s could not be looked at: %s", broker, e)
        family = self._family()
        for broker, end in self._found.items():
            family.add_metric([broker], end)
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "tilannekuva_broker_certificate_expiry_seconds", "End of the certificate that a broker shows, Unix time", labels=["broker"]
        )
