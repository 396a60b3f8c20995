"""A project of its own for a test: rides of hired bikes by day, staged, logged and added up, built by dbt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from dbt.cli.main import dbtRunner

from granary.warehouse.connection import connect, query
from tests.python.support.business import BUSINESS, REPOSITORY
from tests.python.support.command import granary

if TYPE_CHECKING:
    from typing import Any

    from granary.warehouse.settings import Settings

INGESTION = '''
"""Rides of hired bikes: a file per day."""

from datetime import timedelta

import pyarrow as pa

from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Table

RIDES = Table(
    name="rides",
    description="Rides.",
    location="rides/*.csv",
    disposition="replace_unit",
    partition="day",
    freshness=timedelta(days=9),
    archive_after=timedelta(days=60),
    columns=(
        Column("ride_id", pa.int64(), "Ride.", nullable=False),
        Column("rider_id", pa.int64(), "Rider.", nullable=False, personal="pseudonym", subject="rider"),
        Column("ridden_on", pa.date32(), "Day.", nullable=False),
        Column("fare", pa.decimal128(10, 2), "Fare.", nullable=False),
    ),
)
SOURCE = Source(
    name="hire",
    description="Hired bikes.",
    owner="hire",
    kind="csv",
    settings=("GRANARY_HIRE_LANDING",),
    open_reader=lambda settings: FileReader(settings["GRANARY_HIRE_LANDING"]),
    tables=(RIDES,),
)
'''
STAGING = """
select ride_id, rider_id, ridden_on as business_date, fare, _load_id as load_id, _row as load_row
from {{ source('hire', 'rides') }}
"""
LOG = """
{{ config(materialized='incremental', incremental_strategy='append',
    pre_hook="{{ granary.advance_watermark({'hire': [source('ops', 'load_audit')]}) }}") }}
with
{{ granary.log_changes(relation=ref('stg_hire__rides'), partition='business_date', source_name='hire') }}
"""
FACT = """
{{ config(materialized='incremental', incremental_strategy='overwrite_partitions', on_schema_change='fail',
    meta={'changes': 'int_rides__changed_dates', 'partition_by': 'business_date'},
    pre_hook="{{ granary.follow_watermark(ref('int_rides__changed_dates')) }}") }}
{% set changes = ref('int_rides__changed_dates') %}
select ride_id, rider_id, business_date, fare, load_id
from {{ ref('stg_hire__rides') }}
where {{ granary.in_changed_partitions(changes, 'business_date', 'hire', 'rides') }}
"""
MONTHS = """
{{ config(materialized='incremental', incremental_strategy='overwrite_partitions', on_schema_change='fail',
    meta={'partition_by': 'month', 'changed_by': {'fct_rides': "cast(date_trunc('month', business_date) as date)"}}) }}
select cast(date_trunc('month', business_date) as date) as month, count(*) as ride_count, sum(fare) as fare
from {{ ref('fct_rides') }}
where {{ granary.in_partitions("cast(date_trunc('month', business_date) as date)") }}
group by 1
"""
RECONCILED = """
select load_id, raw.rides, facts.rides
from (
    select _load_id as load_id, count(*) as rides from {{ source('hire', 'rides') }}
    where true {{ granary.and_of_new_loads('fct_rides', 'hire', '_load_id') }} group by 1
) as raw
full outer join (
    select load_id, count(*) as rides from {{ ref('fct_rides') }}
    where true {{ granary.and_of_new_loads('fct_rides', 'hire', 'load_id') }} group by 1
) as facts using (load_id)
where raw.rides is distinct from facts.rides
"""
LEDGER = "{{ granary.ledger_differences([('hire', 'rides', 'fct_rides')]) }}"


def column(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": kind, "description": name} | more


RIDER = {"config": {"meta": {"personal": "pseudonym", "subject": "rider"}}}
PROPERTIES = {
    "sources": [
        {
            "name": "hire",
            "schema": "raw_hire",
            "tables": [{"name": "rides", "columns": [{"name": "rider_id", "description": "Rider."} | RIDER]}],
        }
    ],
    "models": [
        {
            "name": "stg_hire__rides",
            "columns": [column("ride_id", "bigint"), column("rider_id", "bigint", **RIDER)],
        },
        {
            "name": "fct_rides",
            "config": {
                "meta": {
                    "declared_indexes": [{"name": "fct_rides_grain", "columns": ["ride_id"], "unique": True}],
                    "explained_by": [
                        {
                            "model": "stg_hire__rides",
                            "match": ["load_id", "ride_id"],
                            "numbers": {"fare": "sum(fare)"},
                        }
                    ],
                }
            },
            "columns": [
                column("ride_id", "bigint", constraints=[{"type": "not_null"}]),
                column("rider_id", "bigint", **RIDER),
                column("business_date", "date"),
                column("fare", "numeric(10, 2)"),
                column("load_id", "bigint"),
            ],
        },
        {
            "name": "ride_months",
            "config": {
                "meta": {"declared_indexes": [{"name": "ride_months_grain", "columns": ["month"], "unique": True}]}
            },
            "columns": [column("month", "date"), column("ride_count", "bigint"), column("fare", "numeric")],
        },
    ],
}
FILES = {
    "ingestion/__init__.py": '"""Sources."""\n',
    "ingestion/hire.py": INGESTION,
    "models/groups.yml": (BUSINESS / "models/groups.yml").read_text(),
    "models/staging/stg_hire__rides.sql": STAGING,
    "models/intermediate/int_rides__changed_dates.sql": LOG,
    "models/marts/fct_rides.sql": FACT,
    "models/marts/ride_months.sql": MONTHS,
    "models/properties.yml": yaml.safe_dump(PROPERTIES),
    "tests/rides_reconcile.sql": RECONCILED,
    "tests/raw_reconciles.sql": LEDGER,
}


class BikeHire:
    """The project in a folder, with a landing zone beside it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Write it."""
        self.settings, self.folder, self.landing = settings, folder / "project", folder / "landing"
        self.parsed: Any = None
        for name, text in FILES.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        (self.landing / "rides").mkdir(parents=True)
        (self.folder / "profiles.yml").symlink_to(REPOSITORY / "profiles.yml")
        project = yaml.safe_load((BUSINESS / "dbt_project.yml").read_text())
        project |= {
            "macro-paths": [str(REPOSITORY / "granary/scaffold/template/macros")],
            "packages-install-path": str(REPOSITORY / "dbt_packages"),
            "test-paths": ["tests"],
        }
        project["vars"] |= {"first_business_date": "2026-01-01", "data_subjects": {"rider": {"key": "number"}}}
        project["models"]["shop"] |= {
            "staging": {"+schema": "staging", "+materialized": "view"},
            "intermediate": {"+schema": "intermediate"},
        }
        (self.folder / "dbt_project.yml").write_text(yaml.safe_dump(project))

    def environment(self, archive: Path) -> dict[str, str]:
        """Return what names it to processes."""
        return {
            "GRANARY_PROJECT": str(self.folder),
            "GRANARY_HIRE_LANDING": str(self.landing),
            "GRANARY_ARCHIVE": str(archive),
            "GRANARY_LAST_DATE": "2026-04-30",
        }

    def deliver(self, day: str, *rides: tuple[int, int, str]) -> None:
        """Write a day's file: ride, rider, fare."""
        lines = [f"{ride},{rider},{day},{fare}" for ride, rider, fare in rides]
        (self.landing / "rides" / f"{day}.csv").write_text("\n".join(["ride_id,rider_id,ridden_on,fare", *lines, ""]))

    def command(self, *words: str, code: int = 0) -> str:
        """Run the command; return what it says."""
        done = granary(self.settings, *words)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def build(self, *words: str) -> list[str]:
        """Have dbt build it, as it was when it was built first; return what went wrong."""
        places = ("--project-dir", str(self.folder), "--profiles-dir", str(self.folder))
        quiet = ("--target-path", str(self.folder / "target"), "--log-path", str(self.folder), "--log-level", "error")
        if not self.parsed:  # whatever the vars: nothing of the project's shape depends on one
            self.parsed = dbtRunner().invoke(["parse", *places, *quiet, "--no-write-json"]).result
        self.parsed.build_flat_graph()  # what a build has settled for its nodes is kept there
        done = dbtRunner(self.parsed).invoke(["build", *places, *quiet, "--no-write-json", "--threads", "1", *words])
        assert done.result is not None, done.exception
        results = getattr(done.result, "results", [])
        return [str(one.message) for one in results if str(one.status) not in ("success", "pass", "skipped")]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the warehouse."""
        with connect(self.settings) as connection:
            return query(connection, sql)
