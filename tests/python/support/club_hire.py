"""Hired bikes whose riders are members of a club: two sources, one snapshot, and what follows from both, for runs.

It is as small as a project can be that has a load by the day, a list that is kept as history, facts by the day and by
the month, and jobs: what runs promise holds for it as for any other, at a fifth of the price.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.python.support import bike_hire
from tests.python.support.bike_hire import BikeHire, column

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

CLUB = '''
"""The club's members: one list."""

from datetime import timedelta

import pyarrow as pa

from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Table

MEMBERS = Table(
    name="members",
    description="Members, as they are now.",
    location="members.csv",
    disposition="replace_unit",
    freshness=timedelta(days=9),
    columns=(
        Column("member_id", pa.int64(), "Member.", nullable=False),
        Column("town", pa.string(), "Where the member lives."),
        Column("updated_at", pa.timestamp("us", tz="UTC"), "Last change.", nullable=False),
    ),
)
SOURCE = Source(
    name="club",
    description="A club.",
    owner="club",
    kind="csv",
    settings=("GRANARY_CLUB_LANDING",),
    open_reader=lambda settings: FileReader(settings["GRANARY_CLUB_LANDING"]),
    tables=(MEMBERS,),
)
'''
MEMBERS = """
select member_id, town, updated_at, _load_id as load_id, _row as load_row from {{ source('club', 'members') }}
"""
RIDERS = """
{{ config(materialized='table') }}
select member_id as rider_id, town from {{ ref('snap_club__members') }} where dbt_valid_to is null
"""
FACT = """
{{ config(materialized='incremental', incremental_strategy='overwrite_partitions', on_schema_change='fail',
    meta={'changes': 'int_rides__changed_dates', 'partition_by': 'business_date'},
    pre_hook="{{ granary.follow_watermark(ref('int_rides__changed_dates')) }}") }}
{% set changes = ref('int_rides__changed_dates') %}
select rides.ride_id, rides.rider_id, riders.town, rides.business_date, rides.fare, rides.load_id
from (
    select * from {{ ref('stg_hire__rides') }}
    where {{ granary.in_changed_partitions(changes, 'business_date', 'hire', 'rides') }}
) as rides
left join {{ ref('dim_riders') }} as riders on rides.rider_id = riders.rider_id
"""
DAYS = """
{{ config(materialized='incremental', incremental_strategy='overwrite_partitions', on_schema_change='fail',
    meta={'partition_by': 'business_date', 'changed_by': {'fct_rides': 'business_date'}}) }}
select business_date, count(*) as ride_count, sum(fare) as fare
from {{ ref('fct_rides') }}
where {{ granary.in_partitions('business_date') }}
group by 1
"""
JOBS = '''
"""The jobs of this business, beside `everything` and `full_refresh`."""

from granary.dagster.jobs import job


def jobs(assets):
    """Return the jobs over these assets."""
    club = assets.tables("club")
    return [
        job("rides", assets.everything - assets.only_from(club), "The rides, and all that follows."),
        job("club", club | (assets.snapshots & club.downstream()).upstream(), "What the club says now, as history."),
    ]
'''
DEFINITIONS = '''
"""What Dagster loads."""

import dagster as dg

from granary.dagster.assemble import assemble
from granary.warehouse.settings import Settings
from orchestration.jobs import jobs


@dg.definitions
def defs():
    """Return the definitions of the warehouse that the environment names."""
    return assemble(Settings.load(), jobs)
'''
SNAPSHOT = {
    "snapshots": [
        {
            "name": "snap_club__members",
            "relation": "ref('stg_club__members')",
            "description": "Members as they were.",
            "config": {"unique_key": "member_id", "strategy": "timestamp", "updated_at": "updated_at"},
            "data_tests": [{"unique": {"name": "members_grain", "arguments": {"column_name": "dbt_scd_id"}}}],
        }
    ]
}


def _indexes(name: str, *columns: str) -> dict[str, object]:
    return {"meta": {"declared_indexes": [{"name": name, "columns": list(columns), "unique": True}]}}


def _properties() -> str:
    """Return what is said of sources and models: the hire's, the club's, and the fact's town."""
    told = yaml.safe_load(bike_hire.FILES["models/properties.yml"])
    told["sources"] += [{"name": "club", "schema": "raw_club", "tables": [{"name": "members"}]}]
    fact = next(model for model in told["models"] if model["name"] == "fct_rides")
    fact["columns"].insert(2, column("town", "text"))
    told["models"] += [
        {"name": "stg_club__members", "columns": [column("member_id", "bigint")]},
        {
            "name": "dim_riders",
            "config": _indexes("dim_riders_grain", "rider_id"),
            "columns": [column("rider_id", "bigint", constraints=[{"type": "not_null"}]), column("town", "text")],
        },
        {
            "name": "daily_rides",
            "config": _indexes("daily_rides_grain", "business_date"),
            "columns": [column("business_date", "date"), column("ride_count", "bigint"), column("fare", "numeric")],
        },
    ]
    return yaml.safe_dump(told)


FILES = {
    "ingestion/hire.py": bike_hire.INGESTION.replace("*.csv", "*.parquet").replace('"csv"', '"parquet"'),
    "ingestion/club.py": CLUB,
    "models/staging/stg_club__members.sql": MEMBERS,
    "models/marts/dim_riders.sql": RIDERS,
    "models/marts/fct_rides.sql": FACT,
    "models/marts/daily_rides.sql": DAYS,
    "models/properties.yml": _properties(),
    "snapshots/snap_club__members.yml": yaml.safe_dump(SNAPSHOT),
    "orchestration/__init__.py": '"""What runs when."""\n',
    "orchestration/jobs.py": JOBS,
    "orchestration/definitions.py": DEFINITIONS,
}


class ClubHire(BikeHire):
    """The project in a folder, with a landing zone beside it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Write it."""
        super().__init__(settings, folder)
        for name, text in FILES.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        project = yaml.safe_load((self.folder / "dbt_project.yml").read_text())
        project["snapshots"] = {
            "shop": {"+schema": "snapshots", "+post-hook": "{{ granary.follow_corrections() }}"},
        }
        (self.folder / "dbt_project.yml").write_text(yaml.safe_dump(project))

    def environment(self, archive: Path) -> dict[str, str]:
        """Return what names it to processes."""
        return super().environment(archive) | {"GRANARY_CLUB_LANDING": str(self.landing)}

    def deliver(self, day: str, *rides: tuple[int, int, str]) -> None:
        """Write a day's file: ride, rider, fare."""
        names = ["ride_id", "rider_id", "ridden_on", "fare"]
        rows = [(ride, rider, date.fromisoformat(day), fare) for ride, rider, fare in rides]
        table = pa.table([list(values) for values in zip(*rows, strict=True)], names=names)
        fares = table.column("fare").cast(pa.decimal128(10, 2))
        pq.write_table(table.set_column(3, "fare", fares), self.file(day))

    def file(self, day: str) -> Path:
        """Return where a day's file is."""
        return self.landing / "rides" / f"{day}.parquet"

    def join(self, *members: tuple[int, str, str]) -> None:
        """Write the list of members: number, town, day of the last change."""
        lines = [f"{member},{town},{day}T00:00:00Z" for member, town, day in members]
        (self.landing / "members.csv").write_text("\n".join(["member_id,town,updated_at", *lines, ""]))
