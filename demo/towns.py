"""The towns that the demo invents: where they lie, what drives there, and what their vehicles say over MQTT. What is polled of them: ``demo/documents.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from connectors import cities
from connectors.borders import border
from demo import wire
from demo.roadside import Roadside
from demo.traffic import Traffic
from geo.generated import generate
from geo.network import Network

#: Login of the demo's own Waltti and Fingrid, in the environment variables that the city files name. No secret: it opens nothing else.
LOGIN = ("simulated", "simulated")
SECRETS = {f"{city}_WALTTI_{part}": word for city in ("TAMPERE", "OULU") for part, word in zip(("ID", "SECRET"), LOGIN, strict=True)}
SECRETS["FINGRID_API_KEY"] = LOGIN[1]
#: Seconds between two messages of a vehicle on the Digitransit broker, by feed id: where it is the first source, and where another one is.
DIGITRANSIT_S = {"OULU": 2, "tampere": 5, "FOLI": 5}
#: Town, feed id, how its vehicles are called, what is put after its route ids.
DIGITRANSIT = (
    ("tampere", "tampere", wire.NYSSE_VEHICLE, wire.NYSSE_OPERATOR),
    ("turku", "FOLI", wire.FOLI_VEHICLE, ""),
    ("oulu", "OULU", "{}", ""),
)


@dataclass(frozen=True, slots=True)
class Town:
    """One invented town."""

    name: str
    centre: tuple[float, float]  #: railway station: latitude, longitude
    lines: tuple[str, ...]
    trams: tuple[str, ...] = ()
    vehicles: int = 32
    number: int = 1  #: of its stations and vehicles: number * 100 …

    def network(self, seed: int = 1) -> Network:
        """Its streets, inside the municipality's border. A second or so."""
        city = cities.load(self.name)
        area = border(cities.FOLDER / "municipalities.geojson", city.title).polygon
        return generate(self.name, area, seed=seed, centre=self.centre, crs=city.crs, lines=self.lines, trams=self.trams)


TOWNS = {
    t.name: t
    for t in (
        Town("espoo", (60.2055, 24.6560), ("2901", "2902", "2903", "2904", "2905", "2906"), vehicles=24, number=901),
        Town("vantaa", (60.2925, 25.0440), ("4901", "4902", "4903", "4904", "4905", "4906"), vehicles=24, number=902),
        Town("tampere", (61.4986, 23.7730), ("1", "3", "2", "4", "8", "20", "25", "33"), trams=("1", "3"), number=903),
        Town("turku", (60.4540, 22.2530), ("1", "6", "8", "18", "32", "42", "99", "220"), number=904),
        Town("oulu", (65.0110, 25.4840), ("1", "3", "5", "8", "14", "20", "41", "56"), number=905),
    )
}


class Living:
    """Towns with their traffic under way, and what is told of it."""

    def __init__(self, networks: Mapping[str, Network], now_ms: int, seed: int = 1) -> None:
        """
        Args:
            networks: of the towns, by name.
        """
        self.traffic = {
            n: Traffic(net, seed=seed, start_ms=now_ms - 120_000, vehicles=TOWNS[n].vehicles, first_number=TOWNS[n].number % 100 * 100)
            for n, net in networks.items()
        }
        self.roadside = {n: Roadside(n, t, TOWNS[n].number) for n, t in self.traffic.items()}
        self.of_hsl = [self.traffic[n] for n in ("espoo", "vantaa") if n in self.traffic]

    def advance(self, now_ms: int) -> None:
        """Everybody drives on."""
        for traffic in self.traffic.values():
            traffic.advance(now_ms)

    # -------------------------------------------------------------------- MQTT

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """What the vehicles say in this second: topic and payload."""
        for traffic in self.of_hsl:
            for fix in traffic.fixes:
                yield wire.hfp(fix, traffic.now_ms)
                for event in fix.events:
                    yield wire.hfp(fix, traffic.now_ms, event)
        for name, feed_id, vehicle_id, route_end in DIGITRANSIT:
            if (there := self.traffic.get(name)) is None:
                continue
            for fix in there.fixes:
                if (fix.number + there.now_ms // 1000) % DIGITRANSIT_S[feed_id] == 0:
                    mode = "TRAM" if fix.route_id in TOWNS[name].trams else "BUS"
                    yield wire.digitransit(there, fix, feed_id, vehicle_id, route_end, mode)
