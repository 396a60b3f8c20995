"""Asking Spark, and telling dbt where it is."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from granary.spark.cluster import Cluster, address
from granary.spark.java import INSTALL
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

REMOTE = "SPARK_REMOTE"
"""The variable of pyspark with the address of a Connect server: that of somebody else's Spark, where it is set."""


def connect(cluster: Cluster) -> Any:
    """Return a session (`pyspark.sql.connect.session.SparkSession`).

    Raises:
        GranaryError: pyspark is not installed, or Spark is not up.
    """
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")  # of which nothing is used
    try:
        from pyspark.sql.connect.session import SparkSession  # noqa: PLC0415 - an extra, and 0.5 s
    except ImportError:
        raise GranaryError("pyspark is not installed", todo=INSTALL) from None
    return SparkSession.builder.remote(os.environ.get(REMOTE) or address(cluster)).getOrCreate()


def tell_dbt(settings: Settings) -> None:
    """Have dbt's sessions in this process reach the warehouse's Spark, unless another one is named.

    Raises:
        GranaryError: it is not up.
    """
    if not os.environ.get(REMOTE):
        os.environ[REMOTE] = address(Cluster.of(settings))
