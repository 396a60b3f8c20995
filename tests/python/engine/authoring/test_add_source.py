"""Another business's 20 CSV files become tested staging models, in a new project, by three commands."""

from __future__ import annotations

import json
import random
import runpy
import time
from dataclasses import dataclass
from datetime import date
from datetime import time as time_of_day
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.python.support.business import REPOSITORY
from tests.python.support.made_project import MadeProject, make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings

SURVEY = (
    'Asked on;Score;Would "come" again?;Budget;Took;share: {{ x }};1.5e25;Station_ID',
    '{0:02d}/12/2023;NA;yes;"$1,{1:03d}.50";09:30;5%;1.5e25;101\n{0:02d}/11/2023;7;no;$5.00;18:05;7.5%;2.5e24;102',
)
"""A file as people make them: its days, amounts and answers are text, which staging reads."""
DAGSTER = """
import json
from orchestration.definitions import defs
graph = defs().resolve_asset_graph()
checks = [key.name for key in graph.asset_check_keys if key.asset_key.path[-1].startswith("stg_bikes__")]
print(json.dumps({"assets": ["/".join(key.path) for key in graph.get_all_asset_keys()], "checks": checks}))
"""


@dataclass
class Copy(MadeProject):
    """A new project, with a warehouse of its own, and a folder that files are delivered to."""

    @property
    def deliveries(self) -> Path:
        return self.folder / "deliveries"


@pytest.fixture(scope="module")
def copy(make_warehouse: Callable[[str], Settings], tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = make(tmp_path_factory.mktemp("copy"), make_warehouse("bikes"), "rides", date(2023, 1, 1))
    copy = Copy(made.folder, made.settings)
    runpy.run_path(str(REPOSITORY / "docs/engine/examples/bike_rental.py"))["make"](copy.deliveries)
    (copy.deliveries / "surveys.csv").write_text(
        "\n".join([SURVEY[0], *(SURVEY[1].format(n % 28 + 1, n) for n in range(40))])
    )
    return copy


def test_a_trial_prints_the_files_and_writes_nothing(copy: Copy) -> None:
    done = copy.granary("add-source", "bikes", str(copy.deliveries), "--table", "rentals", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "select * from {{ source('bikes', 'rentals') }}" in done.stdout
    assert not (copy.folder / "ingestion/bikes.py").exists()
    assert not (copy.settings.home / "sources.env").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("../evil", "."), 1, "cannot be the name of a source"),
        (("bikes", "nowhere"), 1, "there is no such file or folder"),
        (("bikes", "deliveries", "--table", "trams"), 2, "there is no table 'trams'"),
        (("bikes", "deliveries", "--key", "rentals=nothing"), 1, "nothing is not among the columns of rentals"),
        (("bikes", "deliveries", "--key", "trams=id"), 2, "there is no table 'trams'"),
        (("bikes", "deliveries", "--key", "=id"), 2, "is written [TABLE=]COLUMN"),
        (("bikes", "deliveries", "--key", "rentals=channel"), 1, "the given key channel does not identify a row"),
        (("bikes", "deliveries", "--null", "trams=NA"), 2, "there is no table 'trams'"),
        (("bikes", "postgresql://me:s3cret@127.0.0.1:1/x"), 1, "granary: "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(copy: Copy, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = copy.granary("add-source", *arguments)
    assert done.returncode == code
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "s3cret" not in done.stdout + done.stderr
    assert not (copy.folder / "ingestion/bikes.py").exists()


def test_twenty_files_become_tested_staging_models(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    done = copy.granary("add-source", "bikes", str(copy.deliveries))
    assert done.returncode == 0, done.stderr
    assert "granary load bikes" in done.stdout
    added = time.monotonic()
    loaded = copy.granary("load", "bikes", "--json")
    assert loaded.returncode == 0, loaded.stderr
    rows = {result["table"]: result["rows_loaded"] for result in json.loads(loaded.stdout)}
    assert rows == {
        "bikes": 400, "depots": 4, "members": 300, "payments": 3000, "rentals": 3000, "repairs": 300, "stations": 60,
        "surveys": 80, "tariffs": 3, "weather": 182, "zones": 5,
    }  # fmt: skip
    there = time.monotonic()
    results = copy.dbt("build", "--select", "staging.bikes")
    tests = {name: status for name, status in results.items() if name.startswith("bikes_")}
    assert set(results.values()) == {"success", "pass"}
    assert len(tests) >= 60
    with capsys.disabled():
        spent = (
            f"{added - began:.1f} s to add, {there - added:.1f} s to load, {time.monotonic() - there:.1f} s to build"
        )
        print(f"\n20 files, {len(rows)} tables, {len(tests)} tests: {spent}")

    # What a person would check first: umlauts, leading zeros, cents, and times.
    assert copy.sql("select zone_value, postcode from staging.stg_bikes__zones order by 2 desc")[0] == (
        "Universität",
        "04104",
    )
    assert copy.sql("select count(*), min(amount), pg_typeof(min(amount))::text from staging.stg_bikes__payments") == [
        (3000, *copy.sql("select min(amount) from raw_bikes.payments")[0], "numeric")
    ]
    assert copy.sql("select count(*) from staging.stg_bikes__rentals where rental_end is null")[0][0] in range(10, 60)
    read = "asked_on_date, score, would_come_again_boolean, budget_number, took_time, share_x_percent, column_1_5e25"
    assert copy.sql(f"select {read} from staging.stg_bikes__surveys order by load_row limit 2") == [
        (date(2023, 12, 1), None, True, Decimal("1000.50"), time_of_day(9, 30), 5, 1.5e25),
        (date(2023, 11, 1), 7, False, 5, time_of_day(18, 5), Decimal("7.5"), 2.5e24),
    ]
    assert results["bikes_surveys_station_id_in_stations"] == "pass"


def test_the_files_pass_the_projects_linters(copy: Copy) -> None:
    rules = (copy.folder / ".yamllint").read_text().replace("ignore-from-file: .gitignore", "")
    for command in (
        ("ruff", "check", "--no-cache", "ingestion/bikes.py"),
        ("ruff", "format", "--no-cache", "--check", "ingestion/bikes.py"),
        ("sqlfluff", "lint", "models/staging/bikes"),
        ("yamllint", "--strict", "-d", rules, "models/staging/bikes"),
    ):  # fmt: skip
        done = copy.run("-m", *command)
        assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_the_assets_and_their_checks_appear_by_themselves(copy: Copy) -> None:
    done = copy.run("-c", DAGSTER)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"bikes/rentals", "bikes/zones", "staging/stg_bikes__rentals", "staging/stg_bikes__zones"} <= set(
        found["assets"]
    )
    assert "bikes_rentals_channel_known" in found["checks"]


def test_planted_faults_fail(copy: Copy) -> None:
    copy.sql(
        "insert into raw_bikes.rentals select * from raw_bikes.rentals where rental_id = 1",
        "update raw_bikes.rentals set channel = 'fax' where rental_id = 2",
        "update raw_bikes.payments set amount = -5 where rental_id = 3",
        "update raw_bikes.stations set name = null where station_id = 101",
        "update raw_bikes.weather set day = '1950-01-01' where day = '2024-02-01'",
        "select 1",
    )
    results = copy.dbt("test", "--select", "staging.bikes")
    bad = {name: status for name, status in results.items() if status != "pass"}
    assert bad == {
        "bikes_rentals_rental_id_unique": "fail",
        "bikes_rentals_channel_known": "fail",
        "bikes_payments_amount_in_range": "warn",
        "bikes_stations_station_name_present": "fail",
        "bikes_weather_weather_day_in_range": "warn",
    }


def test_a_month_more_is_loaded_by_the_same_pattern(copy: Copy) -> None:
    later = runpy.run_path(str(REPOSITORY / "docs/engine/examples/bike_rental.py"))
    ((name, (header, rows)), _) = later["month"](random.Random(1), 7).items()
    text = "\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n"
    (copy.deliveries / name).write_text(text)
    done = copy.granary("load", "bikes.rentals", "--json")
    (result,) = json.loads(done.stdout)
    assert (result["rows_loaded"], result["units_loaded"]) == (500, ["rentals_2024-07.csv"])
