"""`make bench`: Granary against references in the same run, as ratios; `python -m bench files` for one part.

Loading is measured against the server reading a ready binary file that it wrote itself: no client, no contract, no
ledger, which is the fastest way that Postgres has. Both fill a new table in one transaction, in turns, and each of our
loads is a process of its own, so that its memory can be told. CSV is measured against the server's own COPY of the
same file. Everything is thrown away at the end; a run takes some minutes and 6 GB in a temporary folder. Only the part
`answers`, the last one, needs a warehouse that is there: it asks `GRANARY_HOME`, and changes nothing. Others run only
by their name, `python -m bench NAME`: `scale`, what history costs, which takes hours (also `make bench scale`);
`memory`, what a load takes; `anomalies`, what is noticed of planted faults; `alerts`, whether each becomes one
incident; `connectors`, taps and dlt sources beside their native targets, which come from the package index; `logs`,
each kind of log and queue beside its client; `twin`, how much quicker the columnar twin answers than the heap;
`simulate`, what far larger warehouses take, by reckoning.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench import alerts, anomalies, answers, rivals, scale, simulate, tables
from demo import retailer
from granary.cli import output
from granary.warehouse import server
from granary.warehouse.connection import connect, execute
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.connection import Connection

ROUNDS = 3
APART = ("connectors", "logs", "memory", "twin")
"""Parts that have a process, and options, of their own."""


def main() -> None:
    """Run the parts that are named, or all of these; the others only by their name."""
    name, words = (sys.argv[1], sys.argv[2:]) if sys.argv[1:] else ("", [])
    if name == "scale":
        scale.main(words)
        return
    if name == "simulate":
        simulate.main(words)
        return
    if name == "anomalies":
        anomalies.main()
        return
    if name == "alerts":
        parts = [part for part in alerts.PARTS if part in words] or alerts.PARTS
        for part in parts:
            apart("bench.alerts", part, *(word for word in words if word not in alerts.PARTS))
        return
    if name in APART:
        apart(f"bench.{name}", *words)
        return
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        sys.exit(f"there is no part {min(unknown)}; parts are {', '.join(PARTS)}")
    for part in chosen:
        PARTS[part]()


@contextmanager
def own_home() -> Iterator[Settings]:
    """Have a warehouse of its own, not yet started; stop it and throw it away at the end."""
    base = Path(tempfile.mkdtemp(prefix="granary-bench-"))
    base.chmod(0o755)
    environment = dict(os.environ)
    os.environ["GRANARY_HOME"] = str(base / "home")
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    settings = Settings.load()
    try:
        yield settings
    finally:
        server.down(settings)
        os.environ.clear()
        os.environ.update(environment)
        shutil.rmtree(base, ignore_errors=True)


def files() -> None:
    """Measure Parquet and CSV: our load, the server's COPY, dlt and sling."""
    rows = []
    with own_home() as settings:
        server.up(settings)
        retailer.open_for_business(settings)
        retailer.advance(settings, date(2017, 12, 31))
        connection = connect(settings, autocommit=True)
        for kind, table in (("pos", "transactions"), ("pos", "promotions"), ("csv", "transactions")):
            if kind == "csv":
                tables.csv(settings, table)
            rows.append(_compare(settings, connection, kind, table))
        connection.close()
    output.table(
        f"Loading into raw, median of {ROUNDS} rounds; ratios are to the server's own COPY",
        ("rows", "count", "load, s", "COPY, s", "ratio", "peak MB", "dlt, s", "dlt / load", "sling, s", "sling / load"),
        rows,
    )


def _compare(settings: Settings, connection: Connection, source: str, table: str) -> tuple[object, ...]:
    """Return a row of the result, with our load and the server's COPY in turns."""
    copied = settings.home / "data" / f"{table}.bin"
    options = "(format binary)"
    ours, reference, peaks, count = [], [], [], 0
    for number in range(ROUNDS):
        execute(connection, f"drop table if exists raw_{source}.{table}")
        execute(connection, "truncate ops.load_audit, ops.raw_tables")
        execute(connection, "checkpoint")
        seconds, count, peak = _load(source, table)
        ours.append(seconds)
        peaks.append(peak)
        if not number and source == "pos":
            execute(connection, f"copy raw_pos.{table} to '{copied}' {options}")
        elif source == "csv":
            copied, options = tables.csv(settings, table), "(format csv, header)"
        reference.append(_copy(connection, f"raw_{source}.{table}", source == "csv", f"from '{copied}' {options}"))
    load = median(ours)
    uri = f"postgresql://granary:unused@{{}}/granary?host={settings.host}&sslmode=disable"
    dlt = sling = None
    if source == "pos":
        # dlt wants a host here as well; sling would take that one.
        dlt = rivals.dlt(table, uri.format("localhost:5432"), tables.parquet(settings, table), settings.home)
        sling = rivals.sling(table, uri.format(""), tables.csv(settings, table), settings.home)
        execute(connection, "drop schema if exists dlt_bench cascade")
        execute(connection, f"drop table if exists public.sling_{table}")
        copied.unlink()
    name = f"{'CSV' if source == 'csv' else 'Parquet'}, {table}"
    ratio = median(a / b for a, b in zip(ours, reference, strict=True))
    return (
        name, count, load, median(reference), f"{ratio:.2f}", max(peaks), dlt, dlt and f"{dlt / load:.1f}",
        sling, sling and f"{sling / load:.1f}",
    )  # fmt: skip


def _copy(connection: Connection, like: str, bare: bool, what: str) -> float:
    """Return the seconds in which the server copies into a new table, with its commit; `bare`: no load columns."""
    execute(connection, "checkpoint")
    began = time.perf_counter()
    execute(connection, "begin")
    execute(connection, f"create table public.copied (like {like} including indexes)")
    if bare:
        execute(connection, "alter table public.copied drop column _load_id, drop column _row")
    execute(connection, f"copy public.copied {what}")
    execute(connection, "commit")
    seconds = time.perf_counter() - began
    execute(connection, "drop table public.copied")
    return seconds


def _load(source: str, table: str) -> tuple[float, int, int]:
    """Return seconds, rows and peak memory in MB of a load in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.child", source, table], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, rows, peak = done.stdout.split()
    return float(seconds), int(rows), int(peak)


def apart(module: str, *arguments: str) -> None:
    """Run a benchmark that prints its own result in a process and a warehouse of its own."""
    with own_home() as settings:
        subprocess.run([sys.executable, "-m", module, *arguments], env=settings.environment(), check=True)


PARTS: dict[str, Callable[[], None]] = {
    "files": files,
    "pages": partial(apart, "bench.pages"),
    "changes": partial(apart, "bench.changes", "1000000"),
    "latency": partial(apart, "bench.latency"),
    "binlog": partial(apart, "bench.binlog"),
    "streams": partial(apart, "bench.streams"),
    "publishing": partial(apart, "bench.publishing"),
    "answers": answers.main,
}


if __name__ == "__main__":
    main()
