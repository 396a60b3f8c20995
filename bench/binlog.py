"""Changes a second, and how soon a change is there, of a capture by the binary log of a MariaDB.

    python -m bench.binlog [CHANGES [COMMITS A SECOND [SECONDS]]]

First the source commits single rows, and a change's clock runs from its statement, as the source's clock has it, until
the transaction of the warehouse that brings it has returned. Then changes are there before the clock starts: 60 %
insert, 30 % update, 10 % delete, in transactions of 1,000. Source, capture and warehouse share the machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.latency import COLUMNS, STEP, followed
from bench.peak import peak_mb
from granary.cdc.capture import opened
from granary.cli import output
from granary.warehouse import server
from granary.warehouse.settings import Settings
from tests.python.support import mariadb
from tests.python.support.binlog_shop import SETTING, BinlogShop

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANGES, RATE, SECONDS = 500_000, 5_000, 20
INSERT = (
    "insert into articles select seq, concat('article number ', seq), seq % 9999 / 100.0, seq % 2,"
    " date '2020-01-01' + interval seq % 999 day, now(6), seq / 7.0 from seq_{first}_to_{last}"
)


@contextmanager
def captured_shop() -> Iterator[tuple[Settings, BinlogShop]]:
    """Have a warehouse and a source of its own, with tables that are empty; both are thrown away at the end."""
    base = Path(tempfile.mkdtemp(prefix="g-binlog-", dir="/tmp"))
    base.chmod(0o755)
    os.environ |= {"GRANARY_HOME": str(base / "w"), "PGDATABASE": "granary"}
    program = mariadb.binary()
    assert program, f"install the Debian package {mariadb.PACKAGE}"
    settings, origin = Settings.load(), mariadb.start(program, *mariadb.BINLOG)
    server.up(settings)
    try:
        shop = BinlogShop(origin, "stall")
        shop.create(rows=0)
        os.environ[SETTING] = shop.uri
        yield settings, shop
    finally:
        origin.stop()
        server.down(settings)
        shutil.rmtree(base, ignore_errors=True)


def backlog(changes: int) -> None:
    """Say how fast a backlog of so many changes is caught up."""
    with captured_shop() as (settings, shop):
        with opened(settings, shop.source) as capturing:
            capturing.once()
            for n in range(1, changes // 1000 + 1):
                first = n * 600 + 1000
                shop.sql(
                    "begin",
                    INSERT.format(first=first, last=first + 599),
                    "update articles set price = price + 1, seen_at = now(6)"
                    f" where id between {first} and {first + 299}",
                    f"delete from articles where id between {first - 600} and {first - 501}",
                    "commit",
                )
            before, began = capturing.changes, time.perf_counter()
            capturing.once()
            seconds, done = time.perf_counter() - began, capturing.changes - before
        most = peak_mb()
        assert shop.differences(settings) == {}
    print(f"{done:,} changes in {seconds:.1f} s: {done / seconds:,.0f} changes/s, peak {most:,.0f} MB")


def latency(rate: int, seconds: int) -> tuple[object, ...]:
    """Return a row with these `COLUMNS`, of so many commits a second for so many seconds."""
    with captured_shop() as (settings, shop):

        def write() -> None:
            began = time.monotonic()
            with closing(shop.server.connect()) as session, session.cursor() as cursor:
                cursor.execute(f"use {shop.database}")
                cursor.execute("set time_zone = '+00:00'")
                number = 0
                for step in range(round(seconds / STEP)):
                    for _ in range(round(rate * STEP)):
                        number += 1
                        cursor.execute(f"insert into articles values ({number}, 'article', 1.5, 1, null, now(6), 0.5)")
                    time.sleep(max(0.0, began + (step + 1) * STEP - time.monotonic()))

        moments = (
            "select extract(epoch from seen_at)::float8 from raw_stall.articles_changes where cdc_op = 'insert'"
            " order by _load_id, _row"
        )
        return followed(settings, shop.source, rate * seconds, write, moments)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    changes, rate, seconds = given + [CHANGES, RATE, SECONDS][len(given) :]
    output.table("From statement to queryable", COLUMNS, [latency(rate, seconds)])
    backlog(changes)  # last: the comparison of all rows with the source takes more memory than the capture
