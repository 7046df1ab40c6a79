"""Oulunliikenne's side of the wire: one GraphQL question a minute for everything that only Oulu knows.

What Oulunliikenne passes on from Digitraffic (TMS, road weather, bicycle counters) is asked of Digitraffic, which has it first and with sensor numbers; a city
file that asks for it with a ``body`` of its own is understood all the same.
"""

from __future__ import annotations

import json

import msgspec

from connectors.cities import FeedSettings, Http, Mqtt
from models.errors import ConfigError

_TEXTS = "{ fi sv en }"
QUERY = (
    "query { carParks { carParkId name lat lon maxCapacity spacesAvailable } "
    "bikeRentalStations { stationId name bikesAvailable spacesAvailable state allowDropoff lat lon } "
    "trafficFluencyFeatureCollection { features { geometry properties { id type measuredTime trafficFlow name trafficDirection "
    "trafficDirectionName speedLimit averageSpeed detName giveWayDelay maxWaitCycles } } } "
    f"trafficAnnouncements {{ id announcementId title {_TEXTS} description {_TEXTS} severity status startTime endTime geojson url }} "
    f"roadworks {{ id roadworkId description {_TEXTS} severity status startTime endTime geojson }} }}"
)


def sources(feed: FeedSettings, file: str) -> tuple[Mqtt | None, tuple[Http, ...]]:
    """The settings, with the question where the city file has none.

    Raises:
        ConfigError: MQTT, which this service does not have.
    """
    if feed.mqtt is not None:
        raise ConfigError(file, f"feeds.{feed.name}.mqtt", feed.mqtt.url, "no such table: Oulunliikenne is polled")
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    return None, tuple(
        msgspec.structs.replace(h, method="POST", body=h.body or json.dumps({"query": QUERY}), headers=headers | h.headers)
        for h in feed.http
    )
