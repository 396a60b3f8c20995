"""How soon a change is in the warehouse while the source commits 10,000 rows a second, each in a transaction.

    python -m bench.latency [ROWS A SECOND [SECONDS]]

Source, capture and warehouse share the machine and its clock. A change's clock starts at its commit, as the source's
log has it, and ends when the transaction of the warehouse that brings it has returned.
"""

from __future__ import annotations

import sys
import threading
import time
from statistics import quantiles
from typing import TYPE_CHECKING

from bench.changes import captured_shop
from bench.peak import peak_mb
from granary.cdc.capture import opened
from granary.cdc.capturing import CaptureResult
from granary.cli import output
from granary.warehouse.connection import connect, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings

RATE, SECONDS, STEP = 10_000, 20, 0.01
COLUMNS = ("commits", "commits/s", "p50 ms", "p95 ms", "p99 ms", "slowest ms", "batches", "peak MB")
WRITE = """
do $$
declare
    began constant timestamptz := clock_timestamp();
    number bigint := 1000;
begin
    for step in 1 .. {steps} loop
        for n in 1 .. {rows} loop
            insert into articles values (number, 'article number ' || number, 1.5, true, '2020-01-01', now(), 0.5);
            number := number + 1;
            commit;
        end loop;
        perform pg_sleep(greatest(0, extract(epoch from began + step * interval '{step} s' - clock_timestamp())));
    end loop;
end $$
"""


def measure(rate: int, seconds: int) -> tuple[object, ...]:
    """Return a row with these `COLUMNS`, of so many commits a second for so many seconds."""
    with captured_shop() as (settings, shop):

        def write() -> None:
            shop.sql(WRITE.format(steps=round(seconds / STEP), rows=round(rate * STEP), step=STEP))

        moments = (
            "select extract(epoch from cdc_committed_at)::float8 from raw_shop.articles_changes"
            " where cdc_op = 'insert' order by _load_id, _row"
        )
        return followed(settings, shop.source, rate * seconds, write, moments)


def followed(
    settings: Settings, source: Source, total: int, write: Callable[[], None], moments: str
) -> tuple[object, ...]:
    """Follow a source while `write` commits so many rows to it, and return a row with these `COLUMNS`.

    `moments` asks for the moments from which their clocks run (seconds since 1970), in the order in which they landed.
    """
    landed: list[tuple[float, int]] = []
    took = [0.0]

    def noted(result: CaptureResult) -> None:
        landed.append((time.time(), result.changes))
        if result.changes >= total:
            raise KeyboardInterrupt

    def timed() -> None:
        began = time.monotonic()
        write()
        took[0] = time.monotonic() - began

    with opened(settings, source) as capturing:
        capturing.once()
        writing = threading.Thread(target=timed)
        threading.Timer(1.0, writing.start).start()
        try:
            capturing.follow(progress=noted)
        except KeyboardInterrupt:
            writing.join()
    most = peak_mb()
    with connect(settings) as connection:
        commits = query(connection, moments)
    assert len(commits) == total
    waits, first = [], 0
    for at, last in landed:
        waits += [(at - float(str(commit))) * 1000 for (commit,) in commits[first:last]]
        first = last
    parts = quantiles(waits, n=100)
    spread = (round(parts[49]), round(parts[94]), round(parts[98]), round(max(waits)))
    return (total, round(total / took[0]), *spread, len(landed), most)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    output.table("From commit to queryable", COLUMNS, [measure(*(given + [RATE, SECONDS][len(given) :]))])
