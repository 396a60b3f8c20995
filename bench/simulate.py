"""What a warehouse of 1 to 10,000 times the sample takes: rows, storage, hours and money, on one machine and on Spark.

    python -m bench simulate [--into docs/scaling.md]

Arithmetic, not a measurement: what was measured at small factors, carried on by assumptions that are all written here
(`MEASURED`, `ASSUMED`, `CLOUDS`) and shown with the result. Change one and run it again.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from bench.scale_report import COLOURS
from granary.cli import output
from granary.pages.dashboard.theme import CONFIG

FACTORS = (1, 10, 100, 1_000, 10_000)
HOURS = 730
"""Of a month."""
BETWEEN = re.compile(r"(?<=<!-- simulated: begin -->\n)[\s\S]*(?=<!-- simulated: end -->)")


@dataclass(frozen=True)
class Measured:
    """What was measured on the sample, on two cores; where is said in docs/scaling.md."""

    rows: float = 22.4e6
    """Raw rows of the sample's year."""
    home_gb: float = 8.1
    """The warehouse's home with raw, built and published marts, history and log."""
    backup_gb: float = 1.0
    lake_gb: float = 0.075
    """The largest table as Parquet; raw and marts have it once each."""
    refresh_core_hours: float = 206 * 2 / 3600
    """All loads and a full refresh: 206 s of two cores."""
    day_core_seconds: float = 23.4 + 16.5
    """One more day: of the server and of Python."""
    day_per_row: float = 0.4
    """How much of a day's cost follows the day's rows; the rest is the same however many there are."""
    question_seconds: float = 0.1
    """A sum over 1.4 million receipt lines, on one core."""


@dataclass(frozen=True)
class Assumed:
    """What nobody has measured here. A team's own numbers go in their place."""

    efficiency: float = 0.7
    """What each further core of one machine brings, against the first two."""
    memory: float = 0.05
    """What of the home a machine should hold in memory, of which a core has 8 GB."""
    machine_cores: int = 96
    machine_gb: int = 64_000
    """The largest machine: cores, and disk that one server is given."""
    night_hours: float = 8
    """What a full refresh may take, and the loads that come before it."""
    room: float = 1.5
    """Disk against what is there: a rebuild holds the largest marts twice."""
    spark_cost: float = 1.5
    """Core seconds of Spark for one of Postgres: a shuffle serializes, sends and writes what memory had."""
    spark_efficiency: float = 0.8
    spark_hours: float = 2
    """How long a full refresh on Spark may take: what is asked of its cluster."""
    day_cluster: float = 1 / 8
    """What of that cluster a day's build runs on."""
    start_hours: float = 0.3
    """What a build on Spark takes before it does anything: the cluster's start, and 85 models' own."""
    refreshes: float = 1
    """Full refreshes a month, besides thirty days."""
    users: int = 200
    questions: int = 30
    """Questions of a user in the busiest hour."""
    year_share: float = 0.25
    """What of a year a question reads: both kinds of storage find rows by their day."""
    scan_rows: float = 50e6
    """Rows a second and core of a columnar scan with a filter and a sum."""


@dataclass(frozen=True)
class Cloud:
    """List prices in US dollars, on demand, without any discount: a core with 8 GB, one with 4 GB, Spark's charge."""

    name: str
    region: str
    read_on: str
    machine: str
    vcpu_hour: float
    worker: str
    worker_hour: float
    spark_hour: float
    """What the provider's managed Spark adds for a vCPU and hour."""
    disk: str
    disk_gb_month: float
    object_gb_month: float


CLOUDS = (
    Cloud("AWS", "us-east-1", "2026-06", "r7g", 0.05355, "m7g", 0.0408, 0.0102, "EBS gp3", 0.08, 0.023),
    Cloud("Google Cloud", "us-central1", "2025-06", "n2-highmem", 0.06551, "n2-standard", 0.04856, 0.01,
          "balanced disk", 0.10, 0.020),
    Cloud("Azure", "East US", "2025-06", "Esv5", 0.063, "Dsv5", 0.048, 0.0, "Premium SSD v2", 0.081, 0.0208),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """What a factor takes. `cores` None: no machine is large enough."""

    factor: int
    rows: float
    home_gb: float
    lake_gb: float
    day_minutes: float | None
    refresh_hours: float | None
    cores: int | None
    spark_cores: int
    spark_core_hours: float
    """Of a month."""
    query_cores: int
    year_gb: float
    """The home of the last year, which people read: it stays in Postgres."""

    def one_machine(self, cloud: Cloud, assumed: Assumed) -> float | None:
        """Return dollars a month of a machine that is never off, its disk, and backups in object storage."""
        if self.cores is None:
            return None
        disk = self.home_gb * assumed.room * cloud.disk_gb_month
        backups = self.home_gb * MEASURED.backup_gb / MEASURED.home_gb * 2 * cloud.object_gb_month
        return self.cores * cloud.vcpu_hour * HOURS + disk + backups

    def spark(self, cloud: Cloud) -> float:
        """Return dollars a month of a lake, clusters that run for builds only, and a machine that answers questions."""
        builds = self.spark_core_hours * (cloud.worker_hour + cloud.spark_hour)
        storage = ASSUMED.room * (self.lake_gb * cloud.object_gb_month + self.year_gb * cloud.disk_gb_month)
        return builds + self.query_cores * cloud.vcpu_hour * HOURS + storage


MEASURED, ASSUMED = Measured(), Assumed()


def simulate(factor: int, measured: Measured = MEASURED, assumed: Assumed = ASSUMED) -> Point:
    """Return what so many times the sample take: customers and years, so that days grow as well as history.

    A factor is split evenly: `sqrt(factor)` times the customers, and as many times the years.
    """
    width = math.sqrt(factor)
    home, lake = measured.home_gb * factor, measured.lake_gb * 2 * factor
    refresh = measured.refresh_core_hours * factor
    day = measured.day_core_seconds / 3600 * (1 - measured.day_per_row + measured.day_per_row * width)
    asking = assumed.users * assumed.questions / 3600
    heap_questions = asking * measured.question_seconds * width * assumed.year_share
    wanted = max(2.0, _cores(refresh / assumed.night_hours, assumed), heap_questions, home * assumed.memory / 8)
    cores = next((c for c in (2, 4, 8, 16, 32, 48, 64, 96) if c >= wanted and c <= assumed.machine_cores), None)
    if home * assumed.room > assumed.machine_gb:
        cores = None
    speed = None if cores is None else _speed(cores, assumed)
    working = assumed.spark_cost * (day * 30 + refresh * assumed.refreshes) / assumed.spark_efficiency
    cluster = max(4, math.ceil(assumed.spark_cost * refresh / assumed.spark_hours / assumed.spark_efficiency))
    starting = assumed.start_hours * (30 * max(4, cluster * assumed.day_cluster) + assumed.refreshes * cluster)
    scanned = measured.rows * width * assumed.year_share
    return Point(
        factor,
        measured.rows * factor,
        home,
        lake,
        None if speed is None else day / speed * 60,
        None if speed is None else refresh / speed,
        cores,
        cluster,
        working + starting,
        max(
            4, math.ceil(asking * scanned / assumed.scan_rows), math.ceil(measured.home_gb * width * assumed.memory / 8)
        ),
        measured.home_gb * width,
    )


def _speed(cores: int, assumed: Assumed) -> float:
    """Return what cores of one machine are worth, in cores that lose nothing to each other."""
    return min(2, cores) + max(0, cores - 2) * assumed.efficiency


def _cores(wanted: float, assumed: Assumed) -> float:
    return wanted if wanted <= 2 else 2 + (wanted - 2) / assumed.efficiency  # noqa: PLR2004 - the two of _speed


COLUMNS = (
    "times the sample", "rows, millions", "Postgres, GB", "lake, GB", "one machine, cores", "one more day, min",
    "full refresh, h", "Spark, cores", "Spark, core hours a month",
)  # fmt: skip


def sizes(points: list[Point]) -> list[tuple[Any, ...]]:
    """Return a row per factor: what there is, and how long it takes."""
    return [
        (p.factor, p.rows / 1e6, p.home_gb, p.lake_gb, p.cores, p.day_minutes, p.refresh_hours, p.spark_cores,
         p.spark_core_hours)
        for p in points
    ]  # fmt: skip


def prices(points: list[Point]) -> list[tuple[Any, ...]]:
    """Return a row per factor: dollars a month by provider, on one machine and on Spark."""
    return [
        (p.factor, *(cost for cloud in CLOUDS for cost in (p.one_machine(cloud, ASSUMED), p.spark(cloud))))
        for p in points
    ]


def shown(cell: object) -> str:
    """Return a number as a page has it: as many digits as mean something."""
    if cell is None:
        return "none"
    if not isinstance(cell, (int, float)):
        return str(cell)
    return f"{cell:,.0f}" if isinstance(cell, int) or cell >= 10 else f"{cell:.1f}"  # noqa: PLR2004


def markdown(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Return a table as a page has it."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---:|' * len(columns)}"]
    lines += [f"| {' | '.join(map(shown, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def picture(points: list[Point], path: Path) -> None:
    """Draw dollars a month against the factor, both on logarithmic axes: where the lines cross is when to move."""
    cloud = CLOUDS[0]
    values = [
        {"factor": p.factor, "dollars": cost, "where": where}
        for p in points
        for where, cost in (("one machine", p.one_machine(cloud, ASSUMED)), ("lake and Spark", p.spark(cloud)))
        if cost is not None
    ]
    log, ticks = alt.Scale(type="log"), [10**power for power in range(1, 6)]
    chart = (
        alt.Chart(alt.InlineData(values=values), title=f"Dollars a month ({cloud.name})", width=520, height=280)
        .mark_line(point={"size": 60})
        .encode(
            x=alt.X("factor:Q", title="times the sample", scale=log, axis=alt.Axis(values=list(FACTORS), format=",")),
            y=alt.Y("dollars:Q", title="dollars a month", scale=log, axis=alt.Axis(values=ticks, format=",")),
            color=alt.Color("where:N", title=None),
        )
    )
    config = json.dumps(CONFIG)
    for name, colour in COLOURS.items():
        config = config.replace(name, colour)
    spec = chart.to_dict() | {"config": json.loads(config)}
    path.write_text(vl_convert.vegalite_to_svg(spec) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Print both tables; with `--into`, write them and the picture into a page."""
    parser = argparse.ArgumentParser(prog="bench simulate", description=__doc__)
    parser.add_argument("--into", type=Path, help="the page, with a place for them")
    into: Path | None = parser.parse_args(arguments).into
    points = [simulate(factor) for factor in FACTORS]
    money = ("times the sample", *(f"{cloud.name}, {where}" for cloud in CLOUDS for where in ("one machine", "Spark")))
    output.table("Rows, storage and hours", COLUMNS, [tuple(map(shown, row)) for row in sizes(points)])
    output.table("Dollars a month", money, [tuple(map(shown, row)) for row in prices(points)])
    if into:
        text = into.read_text(encoding="utf-8")
        if not BETWEEN.search(text):
            sys.exit(f"bench simulate: {into} has no place for what is simulated")
        made = f"\n{markdown(COLUMNS, sizes(points))}\nDollars a month:\n\n{markdown(money, prices(points))}\n"
        made += f"![Dollars a month against the factor, on one machine and on Spark]({into.stem}.svg)\n\n"
        into.write_text(BETWEEN.sub(lambda _: made, text), encoding="utf-8")
        picture(points, into.with_suffix(".svg"))
