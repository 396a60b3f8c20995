"""Changes a second through the whole path: peek, decode, contract, change table, current table, commit, advance.

    python -m bench.changes [CHANGES]

The changes are there before the clock starts; 60 % insert, 30 % update, 10 % delete, in transactions of 1,000.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peak import peak_mb
from granary.cdc.capture import opened
from granary.warehouse import server
from granary.warehouse.settings import Settings
from tests.python.support.captured_shop import SETTING, Shop
from tests.python.support.origin_server import OriginServer

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITE = """
do $$
begin
    for n in 1 .. {blocks} loop
        insert into articles select i, 'article number ' || i, i % 9999 / 100.0, i % 2 = 0, date '2020-01-01' + i % 999,
            now(), i / 7.0 from generate_series(n * 600 + 1000, n * 600 + 1599) as i;
        update articles set price = price + 1, seen_at = now() where id between n * 600 + 1000 and n * 600 + 1299;
        delete from articles where id between n * 600 + 400 and n * 600 + 499;
        commit;
    end loop;
end $$
"""


@contextmanager
def captured_shop() -> Iterator[tuple[Settings, Shop]]:
    """Have a warehouse and a source of its own, with a table that is empty; both are thrown away at the end."""
    base = Path(tempfile.mkdtemp(prefix="g-speed-", dir="/tmp"))
    base.chmod(0o755)
    os.environ |= {"GRANARY_HOME": str(base / "w"), "PGDATABASE": "granary"}
    settings, origin = Settings.load(), OriginServer(base / "s")
    server.up(settings)
    origin.create()
    try:
        shop = Shop(origin, "shop")
        shop.create(rows=0)
        os.environ[SETTING] = shop.uri
        yield settings, shop
    finally:
        origin.remove()
        server.down(settings)
        shutil.rmtree(base, ignore_errors=True)


def measure(changes: int) -> dict[str, float]:
    """Return changes, seconds, changes a second and peak memory in MB of a capture of so many changes."""
    with captured_shop() as (settings, shop):
        with opened(settings, shop.source) as capturing:
            capturing.once()
            shop.sql(WRITE.format(blocks=changes // 1000))
            before, began = capturing.changes, time.perf_counter()
            capturing.once()
            seconds = time.perf_counter() - began
            done = capturing.changes - before
        most = peak_mb()
        assert shop.differences(settings) == {}
    return {"changes": done, "seconds": seconds, "changes_per_second": done / seconds, "peak_mb": most}


if __name__ == "__main__":
    done = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 500_000)
    speed = f"{done['changes_per_second']:,.0f} changes/s"
    print(f"{done['changes']:,} changes in {done['seconds']:.1f} s: {speed}, peak {done['peak_mb']:,.0f} MB")
