"""A city's own table of powertrains, from its file to the records of vehicles."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from connectors.cities import load
from connectors.powertrains import register
from models.emission_records import EmissionVehicle
from models.errors import ConfigError
from streams.emissions import EmissionSettings, Emitter
from tests.streams import kit
from tests.streams.test_emissions import W, emitter, estimate, seen

TABLE = "\ufeffvehicle,powertrain,source,note\r\n0018/00001,electric,HSL register 2026,x\r\n0018/0000[2-9],diesel,by tender,\r\n"


def test_vehicles_of_the_table_have_their_own_powertrain_and_say_how_it_is_known(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_bytes(TABLE.encode())
    toml = (Path(__file__).parents[2] / "connectors" / "cities" / "turku.toml").read_text("utf-8")
    (tmp_path / "town.toml").write_text(toml.replace('name = "turku"', 'name = "town"\npowertrains = "fleet.csv"', 1), "utf-8")
    city = msgspec.structs.replace(kit.city(), powertrains=load(tmp_path / "town.toml").powertrains)
    usual = emitter()
    e = Emitter(city, kit.network(), usual.free_flow_kmh, usual.expected_kmh, EmissionSettings())
    out = e.final(W, seen(W, estimate(30.0), cells=[(0, k, 300, 50, 0) for k in range(3)]))
    mix, electric, diesel = (msgspec.json.decode(o.value, type=EmissionVehicle) for o in out.records["emission-vehicle"])
    assert (mix.powertrain, mix.powertrain_source, mix.powertrain_basis) == ("mix", "fleet_mix", None)
    assert (electric.powertrain, electric.powertrain_source, electric.powertrain_basis) == ("electric", "register", "HSL register 2026")
    assert (diesel.powertrain, diesel.powertrain_basis) == ("diesel", "by tender")
    assert electric.co2_total.value == 0.0
    assert electric.co2_electricity.value > 0.0
    assert diesel.co2_total.value > mix.co2_total.value


def test_the_emission_class_of_an_engine_decides_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text(
        "vehicle,powertrain,source,euro\n0018/00000,diesel,x,Euro III\n0018/00001,diesel,x,Euro VI D/E\n*,diesel,x,\n"
    )
    city = msgspec.structs.replace(kit.city(), powertrains=str(tmp_path / "fleet.csv"))
    usual = emitter()
    e = Emitter(city, kit.network(), usual.free_flow_kmh, usual.expected_kmh, EmissionSettings())
    out = e.final(W, seen(W, estimate(30.0), cells=[(0, k, 300, 50, 0) for k in range(3)]))
    old, new, some = (msgspec.json.decode(o.value, type=EmissionVehicle) for o in out.records["emission-vehicle"])
    assert [(v.powertrain, v.euro) for v in (old, new, some)] == [("diesel", "Euro III"), ("diesel", "Euro VI D/E"), ("diesel", None)]
    assert old.nox.value > 5 * new.nox.value
    assert new.nox.value < some.nox.value < old.nox.value
    assert old.nox.lo95 > new.nox.value


@pytest.mark.parametrize(
    "text",
    [
        "vehicle,powertrain,source,euro\n1,diesel,x,Euro 9\n",
        "vehicle,powertrain,source,euro\n1,electric,x,Euro VI D/E\n",
        "",
        "a,b\n",
        "vehicle,powertrain,source\n1,steam,x\n",
        "vehicle,powertrain,source\n,diesel,x\n",
        "vehicle,powertrain,source\n1,diesel\n",
    ],
)
def test_a_table_that_cannot_be_is_refused_with_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.csv").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"odd\.csv"):
        register(tmp_path / "odd.csv")
    with pytest.raises(ConfigError, match="can be read"):
        register(tmp_path / "none.csv")
