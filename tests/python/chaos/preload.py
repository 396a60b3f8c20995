"""What every loader process needs: imported once, in the server from which they are forked."""

from __future__ import annotations

import gc

import pyarrow.parquet
import sqlalchemy

import ingestion.load
import tests.python.chaos.kinds
import tests.python.chaos.nursery

__all__ = ["ingestion", "pyarrow", "sqlalchemy", "tests"]

gc.freeze()
