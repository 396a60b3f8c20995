"""The driver by which rows of a Postgres come as Arrow.

It imports pyarrow.dataset for what it can write, which looks for pandas and imports that where it finds one: 0.2 s of
each command. It also imports Polars where it finds that, which takes Ctrl-C to itself from then on.
"""

from __future__ import annotations

from granary.warehouse.stand_ins import empty, missing

__all__ = ["ArrowConnection", "dbapi"]

with missing("polars"), empty("pyarrow.dataset"):
    from adbc_driver_manager.dbapi import Connection as ArrowConnection
    from adbc_driver_postgresql import dbapi
