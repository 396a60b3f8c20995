"""Eight analysts query without pause while one more day is run, and all marts are rebuilt: what they wait for and see.

    python -m bench.publishing

Each query adds up two facts and answers the same twice, from different tables: a row whose halves differ was read from
a mixed state. Nobody may wait more than 250 ms for a lock; a query that would fails.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from demo import retailer
from granary.cli import output
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings
from tests.python.support.readers import TOTALS, Readers

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET_ROUNDS = 3
PUBLISH_SECONDS = """
    select extract(epoch from finished_at - started_at)::float8 from ops.publishes order by publish_id desc limit 1
"""


def run(settings: Settings, command: str, *arguments: str) -> None:
    """Run a command of the environment to its end, without its output.

    Raises:
        CalledProcessError: it failed.
    """
    path = str(Path(sys.executable).with_name(command))
    quiet = subprocess.DEVNULL
    subprocess.run([path, *arguments], cwd=PROJECT, env=settings.environment(), stdout=quiet, check=True)


def measure(settings: Settings, what: str, work: Callable[[Readers], object]) -> tuple[object, ...]:
    """Return a row of the result: what eight analysts met while `work` was done."""
    began = time.perf_counter()
    with Readers(settings, (TOTALS,)) as readers:
        work(readers)
    seconds = time.perf_counter() - began
    with connect(settings) as connection:
        published = query(connection, PUBLISH_SECONDS)
    waits = sum("lock timeout" in failure for failure in readers.failures)
    return (
        what, seconds, published[0][0] if published else None, len(readers.seconds), str(len(readers.failures)),
        str(waits), str(len(readers.mixed)), len(readers.states), f"{readers.p95:.2f}", f"{max(readers.seconds):.2f}",
    )  # fmt: skip


def quiet(readers: Readers) -> None:
    """Do nothing but let everybody read."""
    for _ in range(QUIET_ROUNDS):
        readers.everybody_reads()


def table(rows: list[tuple[object, ...]]) -> None:
    """Print the result."""
    output.table(
        "Eight analysts read meanwhile (seconds)",
        (
            "meanwhile", "s", "publish", "queries", "failed", "waited", "mixed", "states", "p95", "longest",
        ),
        rows,
    )  # fmt: skip


def main() -> None:
    """Make the year but its last day, unless it is there, then run that day, and build everything anew."""
    settings = Settings.load()
    server.up(settings)
    retailer.open_for_business(settings)
    retailer.advance(settings, date(2017, 12, 30))
    run(settings, "granary", "run")
    rows = [measure(settings, "nothing", quiet)]
    retailer.advance(settings, date(2017, 12, 31))
    rows.append(measure(settings, "one more day", lambda _: run(settings, "granary", "run")))
    refresh = ("build", "--full-refresh", "--exclude-resource-type", "unit_test")
    rows.append(measure(settings, "a full refresh", lambda _: run(settings, "dbt", "--quiet", *refresh)))
    table(rows)


if __name__ == "__main__":
    main()
