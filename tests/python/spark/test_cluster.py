"""A cluster starts, says what it is, stops, and leaves nothing, whatever became of the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from granary.spark import cluster as clusters
from granary.spark.cluster import Cluster
from granary.spark.java import java_home, java_release
from granary.spark.session import connect
from granary.warehouse.project import PROJECT
from tests.python.spark.conftest import GRANARY

if TYPE_CHECKING:
    from tests.python.project.pipeline.conftest import Pipeline


def test_master_workers_and_server_are_up_on_the_loopback_address_only(spark: Cluster) -> None:
    roles = [process.role for process in clusters.status(spark)]
    assert roles == ["connect", "executor", "executor", "master", "worker-1", "worker-2"]
    for process in clusters.status(spark):
        for one in psutil.Process(process.pid).net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN:
                assert one.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1"), (process.role, one.laddr)
    assert sum(process.memory for process in clusters.status(spark)) < 4 << 30


def test_nobody_without_the_token_is_answered(spark: Cluster) -> None:
    from pyspark.sql.connect.session import SparkSession  # noqa: PLC0415 - only where it is installed

    assert connect(spark).sql("select 1 as x").collect() == [(1,)]
    without = clusters.address(spark).partition("/;")[0]
    with pytest.raises(Exception, match=r"(?i)unauthenticated|token"):
        SparkSession.builder.remote(f"{without}/;user_id=other").create().sql("select 1").collect()
    secrets = [spark.state, spark.folder / "conf"]
    assert [path.stat().st_mode & 0o077 for path in secrets] == [0, 0]
    words = " ".join(" ".join(psutil.Process(one.pid).cmdline()) for one in clusters.status(spark))
    assert clusters.address(spark).partition("token=")[2] not in words


def test_up_again_starts_nothing(spark: Cluster) -> None:
    before = clusters.status(spark)
    assert not clusters.up(spark)
    assert [(one.role, one.pid) for one in clusters.status(spark)] == [(one.role, one.pid) for one in before]


def test_a_command_killed_while_it_starts_leaves_what_the_next_one_stops(loaded: Pipeline, tmp_path: Path) -> None:
    environment = os.environ | {"GRANARY_HOME": str(tmp_path)}
    started = subprocess.Popen(
        [sys.executable, *GRANARY, "spark", "up"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    found = Cluster(tmp_path / "spark")
    until = time.monotonic() + 60
    while not clusters.status(found) and time.monotonic() < until:
        assert started.poll() is None
    started.send_signal(signal.SIGKILL)
    started.wait()
    left = clusters.status(found)
    assert left
    assert not clusters.is_up(found)
    assert clusters.down(found) >= len(left)
    assert clusters.status(found) == []
    assert clusters.down(found) == 0


def test_java_17_is_found() -> None:
    assert java_release(java_home()) in range(17, 22)
