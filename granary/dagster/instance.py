"""Dagster's home: `$GRANARY_HOME/dagster` with a dagster.yaml that keeps runs and events in Postgres."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from granary.warehouse.connection import ensure_database
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dagster as dg

    from granary.warehouse.settings import Settings

MODULE, REPOSITORY = "orchestration.definitions", "__repository__"
CODE_LOCATION = {".dagster/repository": f"{REPOSITORY}@{MODULE}"}
"""Tag by which the UI finds the runs of a job; runs that it starts itself have it."""
EVERYTHING, FULL_REFRESH = "everything", "full_refresh"
"""The jobs that every project has."""
IN_PROCESS = "granary/in_process"
"""Tag of a run of the command, which looks after its rest itself."""
LONGEST_RUN_SECONDS = 12 * 3600
"""After which a run is ended, unless its tag `dagster/max_runtime` says otherwise."""
EVENT_BATCH = "1000"
"""Materialisations that Dagster writes at once: a backfill of a year makes one per day and asset."""


def prepare_instance(settings: Settings) -> Path:
    """Write dagster.yaml, create the database of Dagster's own storage, and return the home.

    Raises:
        GranaryError: the server does not answer.
    """
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(configuration(settings), sort_keys=False)
    path = home / "dagster.yaml"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    ensure_database(settings, settings.dagster_database, private=True)
    return home


def configuration(settings: Settings) -> dict[str, Any]:
    """Return dagster.yaml. The password of an external server stays in PGPASSWORD; the file only names the variable."""
    # A power cut may cost the log's last second; waiting for the disk costs 1.5 ms an event, of 1,500 in a run.
    params = settings.parameters(settings.dagster_database, application="dagster", options="-c synchronous_commit=off")
    port = params.pop("port")
    if "," in params["host"]:  # SQLAlchemy takes a port from each host
        params["host"] = ",".join(f"{host}:{port}" for host in params["host"].split(","))
    database: dict[str, Any] = {
        "username": params.pop("user"),
        "hostname": "",
        "port": int(port),
        "db_name": params.pop("dbname"),
        "params": params,
        # SQLAlchemy 2.1 takes psycopg 3 when no driver is named; dagster-postgres brings psycopg2.
        "scheme": "postgresql+psycopg2",
    }
    if settings.password:
        database["password"] = {"env": "PGPASSWORD"}
    home = settings.home / "dagster"
    return {
        "storage": {"postgres": {"postgres_db": database}},
        "compute_logs": {
            "module": "dagster.core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(home / "logs")},
        },
        "local_artifact_storage": {
            "module": "dagster.core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(home)},
        },
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        # A run whose process was killed is found by the sensor `dead_runs`; this ends what hangs.
        "run_monitoring": {"enabled": True, "start_timeout_seconds": 300, "max_runtime_seconds": LONGEST_RUN_SECONDS},
        # Only runs whose process died. What fails is tried again by its step, if it is of a kind that may pass.
        "run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False},
        # After days of downtime a schedule asks once, for all days that wait, and not once for each.
        "scheduler": {
            "module": "dagster.core.scheduler",
            "class": "DagsterDaemonScheduler",
            "config": {"max_catchup_runs": 1},
        },
        # The sensors look every half a minute, and nearly always find nothing.
        "retention": {
            "schedule": {"purge_after_days": 90},
            "sensor": {"purge_after_days": {"skipped": 1, "failure": 30, "success": 30, "started": 30}},
        },
        # One writer: a run takes the whole machine, and waits for the locks of another one anyway.
        "concurrency": {
            "pools": {"default_limit": 1, "granularity": "run"},
            "runs": {"max_concurrent_runs": 1},
        },
    }


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a Dagster process that works on this warehouse."""
    return settings.environment() | {
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "DAGSTER_EVENT_BATCH_SIZE": os.environ.get("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Open the instance of DAGSTER_HOME for a run in this process, with connections that stay open.

    By default Dagster connects anew two or three times for every event (14 ms an event, measured); with the pool of its
    webserver an event takes 2 ms.
    """
    import dagster as dg  # noqa: PLC0415 - takes 2 s, and must see the environment

    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(statement_timeout=0, pool_recycle=3600, max_overflow=20)
        yield instance


def in_code_location(instance: dg.DagsterInstance, job: str) -> None:
    """Have the runs that this process makes belong to the definitions that the UI shows.

    `execute_in_process` names no origin, and the timeline, which is the UI's first page, leaves out runs without one.
    """
    from dagster._core.remote_origin import (  # noqa: PLC0415 - there is no public name for these
        ManagedGrpcPythonEnvCodeLocationOrigin,
        RemoteJobOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin  # noqa: PLC0415

    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE, working_directory=str(PROJECT))
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name=MODULE)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, REPOSITORY), job)
    instance.create_run_for_job = partial(instance.create_run_for_job, remote_job_origin=origin)  # type: ignore[method-assign]


@contextmanager
def inside(environ: dict[str, str]) -> Iterator[None]:
    """Have this process' environment be `environ` for a while."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environ)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
