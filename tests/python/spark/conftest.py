"""One cluster and one slice of the retailer for all tests of this folder; skipped where pyspark is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from typing import TYPE_CHECKING

import pytest

from granary.spark import cluster as clusters
from granary.spark.cluster import Cluster
from granary.warehouse.project import PROJECT
from tests.python.project.pipeline.conftest import Pipeline, opened  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

pytest.importorskip("pyspark", reason="Spark has an environment of its own: make test-spark")
pytest.importorskip("dbt.adapters.spark", reason="Spark has an environment of its own: make test-spark")

GRANARY = ("-c", "from granary.cli.main import main; main()")
"""The command, in this environment."""
EVENING = date(2017, 3, 31)
"""Until when the slice has been loaded and built."""


def granary(settings: Settings, *words: str, succeeds: bool = True) -> str:
    """Run the command on a warehouse, and return what it says."""
    return ran(settings, *GRANARY, *words, succeeds=succeeds)


def dbt(settings: Settings, *words: str, succeeds: bool = True) -> str:
    """Run dbt on Spark, in an artifacts folder of its own, and return what it says."""
    target = settings.home / "spark-target"
    where = ("--target", "spark", "--target-path", str(target), "--log-path", str(target))
    return ran(settings, "-m", "dbt_granary", words[0], *where, *words[1:], succeeds=succeeds)


def ran(settings: Settings, *words: str, succeeds: bool) -> str:
    """Run a Python module on a warehouse."""
    environment = os.environ | settings.environment() | {"COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *words], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is succeeds, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def loaded(opened: Pipeline) -> Pipeline:  # noqa: F811
    """Return the slice as it is on that evening."""
    opened.begin(EVENING)
    return opened


@pytest.fixture(scope="session")
def spark(loaded: Pipeline) -> Iterator[Cluster]:
    """Return a cluster that is up, in the slice's home."""
    found = Cluster.of(loaded.settings)
    clusters.up(found)
    yield found
    clusters.down(found)
