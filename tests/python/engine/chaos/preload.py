"""What every loader process needs: imported once, in the server from which they are forked."""

from __future__ import annotations

import gc

import aiohttp
import confluent_kafka
import fsspec.implementations.http
import pyarrow.parquet
import sqlalchemy
import starlette.applications
import starlette.responses
import starlette.routing
import uvicorn

import granary.load.api
import tests.python.engine.chaos.kinds
import tests.python.engine.chaos.loader_process

__all__ = [
    "aiohttp",
    "confluent_kafka",
    "fsspec",
    "granary",
    "pyarrow",
    "sqlalchemy",
    "starlette",
    "tests",
    "uvicorn",
]

gc.freeze()
