"""The steps that are measured at each factor, in their order, as a person would do them: by `granary` and by dbt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench import answers, scaled_project
from demo import retailer
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from demo.copies import Scale
    from granary.warehouse.settings import Settings

HELD_BACK = 3
"""Business days that are not loaded with the history: the one more day, and those of measurements cut short."""
BACKFILL = timedelta(days=29)
ROUNDS = 5
LEDGER = "select coalesce(sum(rows_loaded), 0)::bigint from ops.load_audit where status = 'loaded' and load_id > $1"
NEWEST = "select coalesce(max(load_id), 0) from ops.load_audit"
WORDS = 2000
"""Characters that are shown of what a command that failed said last."""


@dataclass(frozen=True)
class Measured:
    """Seconds of a step, the rows that it was about, the peak memory of its process, and what else was seen."""

    seconds: float
    rows: int
    peak_mb: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """A command that succeeded: its seconds, its peak memory, and what it printed."""

    seconds: float
    peak_mb: int
    printed: str


@dataclass(frozen=True)
class Site:
    """A warehouse of so many times the sample, with a copy of the project that knows of as many years."""

    settings: Settings
    place: Path
    scale: Scale
    households: int | None

    @property
    def project(self) -> Path:
        """The copy of the project."""
        return self.place / "project"

    @property
    def landing(self) -> Path:
        """Where the tills deliver."""
        return self.settings.home / "demo" / "landing" / "pos"

    def prepare(self) -> None:
        """Have the copy of the project, and the server up if there is one."""
        if not self.project.exists():
            scaled_project.make(self.project, self.scale)
        if self.settings.home.exists():
            server.up(self.settings)

    def run(self, command: list[str], folder: Path) -> Done:
        """Run a command to its end in a process of its own.

        Raises:
            SystemExit: it failed; its last words are in the message.
        """
        environment = self.settings.environment() | {"GRANARY_PROJECT": str(folder)}
        log = self.place / "stderr.log"
        began = time.perf_counter()
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as child,
        ):
            assert child.stdout
            printed = child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if child.returncode:
            said = log.read_text(encoding="utf-8", errors="replace")[-WORDS:] or printed[-WORDS:]
            raise SystemExit(f"bench scale: {' '.join(command[:4])} failed in {folder}\n{said}")
        return Done(seconds, usage.ru_maxrss // 1024, printed)

    def granary(self, *arguments: str) -> Done:
        """Run the command `granary` in the copy of the project."""
        return self.run([str(Path(sys.executable).with_name("granary")), *arguments], self.project)

    def ask(self, sql: str, *values: object) -> Any:
        """Return the one value that a query answers."""
        with connect(self.settings) as connection:
            return query(connection, sql, *values)[0][0]

    def pipeline(self, *arguments: str, rows: int | None = None) -> Measured:
        """Measure a run; it is about the rows that it loaded, if it is not said."""
        before = self.ask(NEWEST)
        done = self.granary("run", "--json", *arguments)
        outcome = json.loads(done.printed)
        models = {asset["name"]: round(asset["seconds"], 3) for asset in outcome["assets"]}
        loaded = self.ask(LEDGER, before) if rows is None else rows
        return Measured(done.seconds, loaded, done.peak_mb, {"run_s": round(outcome["seconds"], 1), "models": models})

    @property
    def all_rows(self) -> int:
        """Rows of the raw tables, as the ledger has them."""
        return int(self.ask(f"{LEDGER} and superseded_by is null", 0))

    @property
    def middle(self) -> date:
        """A business date in the middle of the history that has sales."""
        days = sorted(path.stem for path in (self.landing / "transactions").iterdir())
        return date.fromisoformat(days[len(days) // 2])


def deliver(site: Site) -> Measured:
    """Make the deliveries of the whole history; the CRM is kept as history once before they begin."""
    command = [sys.executable, "-m", "demo.scale", str(site.scale.factor), "--years", str(site.scale.years)]
    command += ["--promotions", str(site.scale.promotions)]
    done = site.run(command + (["--households", str(site.households)] if site.households else []), PROJECT)
    rows = sum(pq.read_metadata(path).num_rows for path in (site.settings.home / "demo/stock/pos").glob("*/*.parquet"))
    site.granary("run", "--json", "--job", "crm_snapshots")
    return Measured(done.seconds, rows, done.peak_mb)


def load(site: Site) -> Measured:
    """Load the history but its last days."""
    retailer.advance(site.settings, site.scale.last_day - timedelta(days=HELD_BACK))
    done = site.granary("load", "--json")
    tables = {f"{one['source']}.{one['table']}": round(one["seconds"], 2) for one in json.loads(done.printed)}
    return Measured(done.seconds, site.all_rows, done.peak_mb, {"tables": tables})


def build(site: Site) -> Measured:
    """Build, test and publish every mart for the first time."""
    done = site.pipeline(rows=site.all_rows)
    size = sum(path.lstat().st_size for path in site.settings.home.rglob("*") if path.is_file())
    return Measured(done.seconds, done.rows, done.peak_mb, {**done.detail, "home_gb": round(size / 1e9, 2)})


def nothing_new(site: Site) -> Measured:
    """Run without anything new."""
    return site.pipeline()


def one_more_day(site: Site) -> Measured:
    """Have the next business day delivered, and run."""
    retailer.advance(site.settings, retailer.clock(site.settings) + timedelta(days=1))
    return site.pipeline()


def corrected_day(site: Site) -> Measured:
    """Have a day in the middle of the history delivered again, its first line a cent dearer, and run."""
    path = site.landing / "transactions" / f"{site.middle}.parquet"
    lines = pq.read_table(path)
    cent = pa.array([0.01] + [0.0] * (len(lines) - 1))
    place = lines.schema.get_field_index("sales_value")
    lines = lines.set_column(place, "sales_value", pc.round(pc.add(lines["sales_value"], cent), 2))
    pq.write_table(lines, path)
    return site.pipeline()


def backfill(site: Site) -> Measured:
    """Overwrite thirty days in the middle of the history."""
    last = site.middle
    first = last - BACKFILL
    sql = "select count(*) from marts.fct_sales where business_date between $1 and $2"
    return site.pipeline("--from", str(first), "--to", str(last), rows=int(site.ask(sql, first, last)))


def ask(site: Site) -> Measured:
    """Ask every query of the dashboard and of the documents; seconds are the sum of their medians."""
    with connect(site.settings, autocommit=True) as connection:
        found = answers.measure(connection, list(answers.questions()), ROUNDS)
    slowest = sorted(found, key=lambda answer: answer.p95, reverse=True)
    return Measured(
        sum(median(answer.seconds) for answer in found),
        int(site.ask("select count(*) from marts.fct_sales")),
        detail={
            "queries": len(found),
            "late": sum(answer.p95 > answers.TARGET for answer in found),
            "p95_s": {answer.question.name: round(answer.p95, 3) for answer in slowest},
        },
    )


def full_refresh(site: Site) -> Measured:
    """Build and test all marts from raw, and publish them."""
    command = [str(Path(sys.executable).with_name("dbt")), "--quiet", "build", "--full-refresh"]
    done = site.run([*command, "--exclude-resource-type", "unit_test"], site.project)
    return Measured(done.seconds, site.all_rows, done.peak_mb)


STEPS: dict[str, Callable[[Site], Measured]] = {
    "deliver": deliver,
    "load": load,
    "first build": build,
    "nothing new": nothing_new,
    "one more day": one_more_day,
    "a corrected day": corrected_day,
    "a backfill of 30 days": backfill,
    "every question": ask,
    "full refresh": full_refresh,
}
ONCE = frozenset({"deliver", "load", "first build"})
"""Steps that can be measured once in a warehouse; cut short, they are measured in a new one."""
GROWING = ONCE | {"every question", "full refresh"}
"""Steps that are expected to cost what all rows cost; the others cost what changed."""
