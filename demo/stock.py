"""All deliveries: made once, when the retailer opens, and handed over as the clock moves.

The promotions are one run of 20.9 million rows, which takes half a second and more to read through; but a
day should cost a day.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from demo import crm, events, pos
from demo.clock import days_between, weeks_between
from demo.files import put
from demo.progress import Step
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from demo.data import Data


def prepare(data: Data, stock: Path) -> Iterator[Step]:
    """Make every file, and the changes of the CRM, in `stock`; yield a step for each."""
    return chain(crm.prepare(data, stock), events.prepare(data, stock), pos.prepare(data, stock))


def deliver(stock: Path, landing: Path, after: date, until: date) -> Iterator[Step]:
    """Copy the files between two clocks into `landing`, yielding a step for each that is in place.

    They are copies, not links: what somebody writes into a delivered file must not reach the stock.

    Raises:
        GranaryError: there is no stock, or a file cannot be written.
    """
    if not stock.is_dir():
        raise GranaryError("the sample retailer has lost its stock", str(stock), "forget it and run `make demo`")
    names = [f"pos/promotions/week-{week:02}.parquet" for week in weeks_between(after, until)]
    for day in days_between(after, until):
        names += [f"pos/transactions/{day}.parquet", f"events/coupon_redemptions/{day}.jsonl"]
    for name in names:
        path = stock / name
        if path.exists():  # no sales on Christmas Day, no redemptions on a hundred days
            content = path.read_bytes()
            put(landing / name, content)
            rows = content.count(b"\n") if path.suffix == ".jsonl" else pq.read_metadata(path).num_rows
            yield Step(name.partition("/")[0], name, rows)
