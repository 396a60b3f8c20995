"""What every loader process needs: imported once, in the server from which they are forked."""

from __future__ import annotations

import gc

import aiohttp
import botocore.session
import confluent_kafka
import fsspec.implementations.http
import google.pubsub_v1
import pika
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
    "botocore",
    "confluent_kafka",
    "fsspec",
    "google",
    "granary",
    "pika",
    "pyarrow",
    "sqlalchemy",
    "starlette",
    "tests",
    "uvicorn",
]

gc.freeze()
