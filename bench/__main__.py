"""`make bench`: the load seam against the server's own COPY, with audit, checks and ledger on.

The reference is the server reading a ready binary file that it wrote itself: no client, no contract, no ledger, which
is the fastest way that Postgres has. Both fill an empty table in one transaction. A run takes about two minutes and
3 GB in a temporary folder.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

from demo import retailer
from granary import show
from ingestion.load import load_table
from warehouse import server
from warehouse.connection import connect, execute
from warehouse.settings import Settings

ROUNDS = 3
TABLES = ("transactions", "promotions")


def main() -> None:
    """Measure and print a table."""
    base = Path(tempfile.mkdtemp(prefix="granary-bench-"))
    base.chmod(0o755)
    os.environ["GRANARY_HOME"] = str(base / "home")
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    settings = Settings.load()
    try:
        server.up(settings)
        retailer.open_for_business(settings)
        retailer.advance(settings, date(2017, 12, 31))
        rows = [measure(settings, table) for table in TABLES]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        columns = ("table", "rows", "load, s", "server's COPY, s", "ratio", "million rows/s")
        show.table(f"Loading Parquet into raw, median of {ROUNDS} rounds", columns, rows)
        show.line(f"Peak memory of the loader: {peak} MB")
    finally:
        server.down(settings)
        shutil.rmtree(base, ignore_errors=True)


def measure(settings: Settings, table: str) -> tuple[object, ...]:
    """Return a row of the result: seconds of our load and of the server's COPY, in turns, and their ratio."""
    loaded = load_table(settings, "pos", table).rows_loaded
    file = settings.home / "data" / f"{table}.bin"
    ours, reference = [], []
    with connect(settings, autocommit=True) as connection:
        execute(connection, f"copy raw_pos.{table} to '{file}' (format binary)")
        execute(connection, f"create table public.copied (like raw_pos.{table} including indexes)")
        for _ in range(ROUNDS):
            began = time.perf_counter()
            load_table(settings, "pos", table, full_refresh=True)
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            execute(connection, "truncate public.copied")
            execute(connection, f"copy public.copied from '{file}' (format binary)")
            reference.append(time.perf_counter() - began)
        execute(connection, "drop table public.copied")
    file.unlink()
    ratio = median(a / b for a, b in zip(ours, reference, strict=True))
    return table, loaded, median(ours), median(reference), round(ratio, 2), round(loaded / median(ours) / 1e6, 2)


if __name__ == "__main__":
    main()
