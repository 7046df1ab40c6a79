"""The gateway's figures for Prometheus, read from what is there when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from serve.door import Door
from serve.reader import Reader
from serve.rest import Served


class GatewayCollector(Collector):
    """Figures of the reader, the pictures and the streams."""

    def __init__(self, reader: Reader | None, cities: dict[str, Served], door: Door | None = None) -> None:
        self.reader, self.cities, self.door = reader, cities, door

    def collect(self) -> Iterable[Metric]:
        if self.reader is not None:
            yield GaugeMetricFamily("tilannekuva_gateway_lag_records", "Records in the log that were not read yet", self.reader.lag())
            yield GaugeMetricFamily("tilannekuva_gateway_ready", "1: pictures are whole and current", float(self.reader.problem() is None))
            yield CounterMetricFamily("tilannekuva_gateway_records", "Records read since the start", self.reader.records)
        if self.door is not None:
            yield CounterMetricFamily("tilannekuva_gateway_connections_refused", "Connections beyond the limits", self.door.refused)
            yield CounterMetricFamily("tilannekuva_gateway_connections_stuck", "Connections ended because nobody read", self.door.stuck)
        held = GaugeMetricFamily("tilannekuva_gateway_held", "Keys held in memory", labels=["city", "product"])
        refused = CounterMetricFamily(
            "tilannekuva_gateway_refused", "Records that break their topic's contract", labels=["city", "product"]
        )
        stale = CounterMetricFamily("tilannekuva_gateway_older", "Records older than what was held", labels=["city", "product"])
        clients = GaugeMetricFamily("tilannekuva_gateway_stream_clients", "Clients of the event stream", labels=["city"])
        cut = CounterMetricFamily("tilannekuva_gateway_stream_cut", "Clients cut because they read too slowly", labels=["city"])
        gaps = CounterMetricFamily("tilannekuva_gateway_stream_gaps", "Times that a client could not be told everything", labels=["city"])
        resumed = CounterMetricFamily("tilannekuva_gateway_stream_resumed", "Clients that came back with an id", labels=["city"])
        log_time = GaugeMetricFamily("tilannekuva_gateway_log_time_seconds", "Newest log time seen, Unix time", labels=["city"])
        for name, s in self.cities.items():
            p = s.picture
            for product, keys in (
                ("segment", len(p.segments)),
                ("segment-state", len(p.states)),
                ("vehicle-position", len(p.vehicles)),
                ("feed-health", len(p.health)),
                *((product, len(keys)) for product, keys in p.others.items()),
            ):
                held.add_metric([name, product], keys)
                refused.add_metric([name, product], p.refused[product])
                stale.add_metric([name, product], p.stale[product])
            clients.add_metric([name], len(s.hub.listeners))
            cut.add_metric([name], s.hub.cut)
            gaps.add_metric([name], s.hub.gaps)
            resumed.add_metric([name], s.hub.resumed)
            log_time.add_metric([name], p.log_ms / 1000)
        yield from (held, refused, stale, clients, cut, gaps, resumed, log_time)


def registry(reader: Reader | None, cities: dict[str, Served], door: Door | None = None) -> CollectorRegistry:
    """A registry of this gateway's own."""
    out = CollectorRegistry(auto_describe=False)
    out.register(GatewayCollector(reader, cities, door))
    return out
