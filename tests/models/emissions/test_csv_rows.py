"""Factors by row, as the command line gives them."""

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.emissions import csv_rows, tables, typical
from tilannekuva import cli

HEADER = ",".join(csv_rows.COLUMNS)


def run(*lines: str) -> list[dict[str, str]]:
    out = io.StringIO()
    csv_rows.run(io.StringIO("\n".join([HEADER, *lines]) + "\n"), out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def test_every_table_row_comes_back_with_its_control_value_and_its_id():
    source = [*tables.rows("hot_factors"), *tables.rows("hot_factors_slope_load")]
    asked = [{**{c: row.get(c, "") for c in csv_rows.COLUMNS}, "speed_kmh": row["check_v"]} for row in source]
    answers = list(csv_rows.evaluate_csv(asked))
    assert len(answers) == len(source)
    for row, answer in zip(source, answers, strict=True):
        electric = "electric_mode" in row["fuel"] and row["pollutant"] != "EC"
        assert float(answer["value"]) == pytest.approx(0.0 if electric else float(row["check_ef"]), rel=1e-6)
        assert answer["unit"] == row["unit"]
        if not (row["row_id"].startswith("S") and row["road_slope"] == "0" and row["load"] == "0.5"):  # in both tables
            assert answer["row_id"] == row["row_id"]
        assert answer["guard"] == ""


def test_co2_is_energy_times_carbon_and_no2_is_nox_times_its_share():
    ec, co2, nox, no2 = run(*(f"passenger_car,diesel,Medium,Euro 5,DPF,{p},50,,," for p in ("EC", "CO2", "NOx", "NO2")))
    assert float(co2["value"]) == pytest.approx(float(ec["value"]) * 74.22)
    assert co2["row_id"] == ec["row_id"]
    assert co2["unit"] == "g/km"
    assert float(no2["value"]) == pytest.approx(float(nox["value"]) * 0.33)
    assert no2["row_id"] == nox["row_id"] + "+P0015"


def test_electric_answers_zero_at_the_tailpipe_energy_and_wear():
    co2, ec, tyre, wear = run(*(f"passenger_car,electric,,,,{p},50,,," for p in ("CO2", "EC", "tyre", "pm_nonexhaust")))
    assert (co2["value"], co2["guard"]) == ("0.0", "electric_tailpipe_zero")
    assert float(ec["value"]) == pytest.approx(0.504, abs=0.001)
    assert (ec["unit"], tyre["row_id"]) == ("MJ/km", "N0015")
    assert float(wear["value"]) > float(tyre["value"]) > 0.0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("spaceship,petrol,,,,NOx,50,,,", "category"),
        ("passenger_car,coal,,,,NOx,50,,,", "fuel"),
        ("passenger_car,petrol,Huge,,,NOx,50,,,", "segment"),
        ("passenger_car,petrol,Medium,Euro 9,,NOx,50,,,", "euro"),
        ("passenger_car,petrol,Medium,Euro 4,magic,NOx,50,,,", "technology"),
        ("passenger_car,petrol,Medium,Euro 4,PFI,lead,50,,,", "pollutant"),
        ("passenger_car,petrol,Medium,Euro 4,PFI,NOx,fast,,,", "speed_kmh"),
        ("passenger_car,petrol,Medium,Euro 4,PFI,NOx,-5,,,", "speed_kmh"),
        ("passenger_car,petrol,Medium,Euro 4,PFI,NOx,nan,,,", "speed_kmh"),
        ("passenger_car,petrol,Medium,Euro 4,PFI,NOx,50,0.04,,", "road_slope"),
        ("urban_bus,diesel,,Euro VI D/E,,NOx,20,steep,,", "road_slope"),
        ("urban_bus,diesel,,Euro VI D/E,,NOx,20,,0.7,", "load"),
        ("passenger_car,petrol,Medium,Euro 4,PFI,NOx,50,,,Rural", "mode"),
        ("two_wheeler,petrol,,,,brake_pm25,50,,,", None),
        ("hovercraft,petrol,,,,brake,50,,,", "wear"),
    ],
)
def test_a_row_that_does_not_exist_has_no_value_and_a_reason(line: str, reason: str | None):
    (answer,) = run(line)
    if reason is None:
        assert answer["value"]
    else:
        assert answer["value"] == ""
        assert reason in answer["guard"]


def test_guards_are_named():
    slow, pole, negative = run(
        "urban_bus,diesel,Urban Buses Standard 15 - 18 t,Euro VI D/E,DPF+SCR,NOx,2,,,",
        "articulated_truck,diesel,Articulated 40 - 50 t,Euro VI D/E,DPF+SCR,NOx,11.3,-0.04,0.5,",
        "passenger_car,diesel,Small,Euro 6 a/b/c,DPF,CO,128,,,",
    )
    assert [row["guard"] for row in (slow, pole, negative)] == ["below_v_min", "pole_bridged", "negative_floored"]
    assert 3.0 < float(pole["value"]) < 8.0


def test_other_columns_pass_through_in_order():
    out = io.StringIO()
    missing = csv_rows.run(io.StringIO("mine,category,fuel,pollutant\na,passenger_car,petrol,NOx\nb,x,y,z\n"), out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["mine"] for row in rows] == ["a", "b"]
    assert list(rows[0]) == ["mine", "category", "fuel", "pollutant", *csv_rows.ADDED]
    assert missing == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xef\xbb\xbfcategory,fuel,pollutant\r\n\r\n\"passenger_car\",petrol,CO2\r\n", 0),
        (b"category,fuel,pollutant\npassenger_car,petrol,CO2,too,many\npassenger_car\n", 0),
        (b"", 78), (b"category;fuel;pollutant\n", 78), (b"fuel,x\na,b\n", 78), (b"category,pollutant\n\xe4,CO2\n", 78), (b"category,pollutant\n" + b"a" * 200_000, 78),
    ],
)  # fmt: skip
def test_odd_files_are_read_or_refused_with_their_name_and_are_never_our_own_bug(tmp_path, content, code):
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    done = CliRunner().invoke(cli, ["factors", "--csv", str(file)])
    assert done.exit_code == code, done.output
    if code == 0:
        assert float(next(csv.DictReader(io.StringIO(done.stdout)))["value"]) > 100.0


def test_a_file_without_the_columns_is_refused():
    with pytest.raises(ValueError, match="column category is missing"):
        csv_rows.run(io.StringIO("a,b\n1,2\n"), io.StringIO())


def test_the_table_in_the_docs_is_the_generated_one():
    page = (Path(__file__).parents[3] / "docs" / "emissions.md").read_text(encoding="utf-8")
    assert typical.with_table(page) == page


def test_typical_values_are_where_the_literature_has_them():
    values = typical.typical_values()
    assert 120 < values["car, diesel Euro 6 d"]["co2_total"][2] < 180
    assert values["car, petrol Euro 6 d"]["co2_total"][1:] == pytest.approx([213, 176, 166], abs=1)
    assert values["bus 15-18 t, Euro VI D/E"]["co2_total"][1:] == pytest.approx([863, 687, 627], abs=1)
    assert values["bus 15-18 t, Euro VI D/E"]["nox"][2:] == pytest.approx([0.20, 0.085], abs=0.01)
    assert values["truck 20-26 t, Euro VI D/E"]["co2_total"][1:] == pytest.approx([877, 690, 587], abs=1)
    assert [x / 3.6 for x in values["car, battery"]["energy"]][1:] == pytest.approx([0.17, 0.14, 0.15], abs=0.01)
