"""A standalone Spark on this machine: a master, two workers, and one long-lived Connect server that dbt asks.

All listen on the loopback address only, on ports of the system's choice, and know one another by a secret. What belongs
to a cluster is known by the folder that its processes name, not by what a command remembers: so a command that was
killed leaves nothing that the next one does not find.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from granary.spark.java import java_home, scala_version, spark_home
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

WORKERS = 2
SECONDS = 90
"""How long a process of the cluster may take to start; on a busy machine Java alone takes ten."""
STOP_SECONDS = 20
HEAPS = {"master": "192m", "worker": "192m", "connect": "768m"}
EXECUTOR_HEAP = "576m"
"""Java's heaps: 2.5 GB for all, with two executors of one core each."""
MARK = "-Dgranary.spark="
"""Names the cluster's folder in the command line of each of its processes."""


@dataclass(frozen=True)
class Cluster:
    """Where the cluster of a warehouse is: a folder in its home."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> Cluster:
        """Return that of a warehouse, whether it is up or not."""
        return cls(settings.home / "spark")

    @property
    def state(self) -> Path:
        """The file with the ports and secrets of a cluster that is up; only its owner reads it."""
        return self.folder / "cluster.json"

    @property
    def warehouse(self) -> Path:
        """The folder of the tables' Parquet files."""
        return self.folder / "warehouse"

    @property
    def mark(self) -> str:
        """What a process of this cluster has among its arguments."""
        return f"{MARK}{self.folder}"


@dataclass(frozen=True)
class Process:
    """A process of a cluster: its role, such as `worker-1`, its pid, and its memory in bytes."""

    role: str
    pid: int
    memory: int


def status(cluster: Cluster) -> list[Process]:
    """Return the processes of a cluster that are there, the executors included."""
    found = []
    for process in _processes(cluster):
        with suppress(psutil.Error):
            role = next((word[len("-Dgranary.role=") :] for word in process.cmdline() if "-Dgranary.role=" in word), "")
            found.append(Process(role or "executor", process.pid, process.memory_info().rss))
    return sorted(found, key=lambda process: process.role)


def is_up(cluster: Cluster) -> bool:
    """Tell whether master, workers and server are there, and the server answers."""
    roles = {process.role for process in status(cluster)}
    wanted = {"master", "connect", *(f"worker-{number}" for number in range(1, WORKERS + 1))}
    return wanted <= roles and cluster.state.exists() and _answers(_state(cluster)["connect"])


def address(cluster: Cluster) -> str:
    """Return the address of the Connect server, token included, as pyspark's SPARK_REMOTE takes it.

    Raises:
        GranaryError: the cluster is not up.
    """
    if not is_up(cluster):
        raise GranaryError("Spark is not up", str(cluster.folder), "start it: granary spark up")
    state = _state(cluster)
    return f"sc://localhost:{state['connect']}/;token={state['token']}"


def up(cluster: Cluster) -> bool:
    """Start what is not there; return whether anything was started.

    Raises:
        GranaryError: there is no Java or no pyspark, or a process ends or does not answer in time; its log is named.
    """
    cluster.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(cluster.folder / "lock", "starting Spark"):
        if is_up(cluster):
            return False
        _stop(cluster)  # what an `up` that was killed has left
        home, java = spark_home(), java_home()
        ports = dict(zip(("master", "connect"), _free_ports(2), strict=True))
        state = {**ports, "token": secrets.token_hex(24), "secret": secrets.token_hex(24)}
        cluster.state.touch(mode=0o600)
        cluster.state.write_text(json.dumps(state))
        try:
            _start(cluster, home, java, "master", *_master(ports["master"]))
            _wait(cluster, "master", ports["master"])
            for number in range(1, WORKERS + 1):
                _start(cluster, home, java, f"worker-{number}", *_worker(cluster, ports["master"], number))
            _start(cluster, home, java, "connect", *_connect(cluster, home, state))
            _wait(cluster, "connect", ports["connect"])
        except BaseException:
            _stop(cluster)
            raise
    return True


def down(cluster: Cluster) -> int:
    """Stop every process of the cluster; return how many there were. Tables and logs stay."""
    if not cluster.folder.exists():
        return 0
    with locked(cluster.folder / "lock", "stopping Spark"):
        return _stop(cluster)


def _master(port: int) -> tuple[str, ...]:
    return "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"


def _worker(cluster: Cluster, master: int, number: int) -> tuple[str, ...]:
    work = cluster.folder / "work" / str(number)
    work.mkdir(parents=True, exist_ok=True)
    return (
        "org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", EXECUTOR_HEAP,
        "--webui-port", "0", "--work-dir", str(work), f"spark://127.0.0.1:{master}",
    )  # fmt: skip


def _connect(cluster: Cluster, home: Path, state: dict[str, object]) -> tuple[str, ...]:
    config = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": state["connect"],
        "spark.connect.grpc.maxInboundMessageSize": 134217728,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": HEAPS["connect"],
        "spark.executor.cores": 1,
        "spark.executor.memory": EXECUTOR_HEAP,
        "spark.executor.extraJavaOptions": cluster.mark,
        "spark.driver.extraJavaOptions": f"{cluster.mark} -Dderby.stream.error.file={cluster.folder}/log/derby.log",
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={cluster.folder}/catalog;create=true",
        "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
        "spark.hadoop.hive.metastore.schema.verification": "false",
        "spark.local.dir": cluster.folder / "local",
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": 4,
        "spark.sql.sources.partitionOverwriteMode": "dynamic",
        "spark.sql.warehouse.dir": cluster.warehouse,
        "spark.ui.enabled": "false",
    }
    return (
        "org.apache.spark.deploy.SparkSubmit", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
        "--master", f"spark://127.0.0.1:{state['master']}", "--name", "granary",
        *(word for key, value in config.items() for word in ("--conf", f"{key}={value}")),
        *next(([str(jar)] for jar in sorted((home / "jars").glob("spark-connect_*.jar"))), ["spark-internal"]),
    )  # fmt: skip


def _start(cluster: Cluster, home: Path, java: Path, role: str, main: str, *arguments: str) -> None:
    """Start a process of its own session, which outlives the command; what it says goes to its log."""
    log = cluster.folder / "log"
    log.mkdir(exist_ok=True)
    (cluster.folder / "local").mkdir(exist_ok=True)
    state = _state(cluster)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))},
        "JAVA_HOME": str(java),
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SCALA_VERSION": scala_version(home),
        "SPARK_LOCAL_DIRS": str(cluster.folder / "local"),
        "SPARK_CONF_DIR": str(_written_config(cluster, str(state["secret"]), str(state["token"]))),
    }
    options = (
        f"-Xmx{HEAPS[role.split('-', maxsplit=1)[0]]}",
        "-XX:+UseSerialGC",
        cluster.mark,
        f"-Dgranary.role={role}",
    )
    opens = (
        "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util",
        "java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref", "sun.nio.ch", "sun.nio.cs",
        "sun.security.action", "sun.util.calendar",
    )  # fmt: skip
    command = [
        str(java / "bin" / "java"), "-cp", f"{env['SPARK_CONF_DIR']}:{home}/jars/*", *options,
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in opens),
        "-Djdk.reflect.useDirectMethodHandle=false", "-Dio.netty.tryReflectionSetAccessible=true", main, *arguments,
    ]  # fmt: skip
    with (log / f"{role}.log").open("ab") as said:
        subprocess.Popen(
            command, cwd=cluster.folder, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip


def _written_config(cluster: Cluster, secret: str, token: str) -> Path:
    """Return the folder of the configuration with the secrets, which no command line shows."""
    folder = cluster.folder / "conf"
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / "spark-defaults.conf").write_text(
        f"spark.authenticate true\nspark.authenticate.secret {secret}\nspark.connect.authenticate.token {token}\n"
    )
    (folder / "log4j2.properties").write_text(
        "rootLogger.level = warn\nrootLogger.appenderRef.stderr.ref = console\nappender.console.type = Console\n"
        "appender.console.name = console\nappender.console.target = SYSTEM_ERR\n"
        "appender.console.layout.type = PatternLayout\nappender.console.layout.pattern = %d{ISO8601} %p %c: %m%n%ex\n"
    )
    return folder


def _wait(cluster: Cluster, role: str, port: int) -> None:
    """Wait until a process listens."""
    until = time.monotonic() + SECONDS
    while not _answers(port):
        there = role in {process.role for process in status(cluster)}
        if not there or time.monotonic() > until:
            log = cluster.folder / "log" / f"{role}.log"
            what = f"Spark's {role} does not answer after {SECONDS} s" if there else f"Spark's {role} has ended"
            raise GranaryError(what, str(log), "its log says why")
        time.sleep(0.1)


def _stop(cluster: Cluster) -> int:
    """End all, the server first, so that its tables are closed; kill what does not end."""
    found = list(_processes(cluster))
    order = {"connect": 0, "": 1}
    for process in sorted(found, key=lambda process: order.get(_role(process), 2)):
        with suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
        if _role(process) == "connect":
            psutil.wait_procs([process], timeout=STOP_SECONDS)
    _, alive = psutil.wait_procs(found, timeout=STOP_SECONDS)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)
    cluster.state.unlink(missing_ok=True)
    return len(found)


def _role(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        for word in process.cmdline():
            if word.startswith("-Dgranary.role="):
                return str(word).partition("=")[2]
    return ""


def _processes(cluster: Cluster) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid() and cluster.mark in process.cmdline():
                yield process


def _state(cluster: Cluster) -> dict[str, int | str]:
    found: dict[str, int | str] = json.loads(cluster.state.read_text())
    return found


def _answers(port: int | str) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=1):
        return True
    return False


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with_sockets = [socket.socket() for _ in range(count)]
    try:
        for one in with_sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in with_sockets]
    finally:
        for one in with_sockets:
            one.close()
