"""`granary serve` with a warehouse of its own, and the tills of the shop: it is killed piece by piece, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.supervisor import groups, state
from granary.warehouse.connection import connect, execute, lock, query
from granary.warehouse.layout import plan
from granary.warehouse.server import postmaster
from granary.warehouse.settings import Settings
from tests.python.support.business import BUSINESS
from tests.python.support.stream_servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.supervisor.state import ServiceState

DEFINITIONS = """
import dagster as dg
from granary.dagster.arrivals import landing_zone
from granary.dagster.instance import EVERYTHING
from granary.dagster.loader_assets import loaders, partitions
from granary.dagster.resources import Warehouse
from granary.dagster.sensors import dead_runs

@dg.definitions
def defs():
    return dg.Definitions(
        assets=loaders(partitions(None)), jobs=[dg.define_asset_job(EVERYTHING, dg.AssetSelection.all())],
        sensors=[dead_runs, landing_zone], resources={"warehouse": Warehouse()}, executor=dg.in_process_executor,
    )
"""
"""The loads of the shop, without a dbt project to parse."""
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
SECONDS = 240
"""How long a machine with much else to do may take."""
PAID = datetime(2017, 3, 12, 12, tzinfo=timezone.utc).replace(tzinfo=None)


@dataclass
class Shop:
    """A project with its warehouse and its landing zone, and the port of its pages."""

    settings: Settings
    project: Path
    port: int
    metrics_port: int

    def granary(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return subprocess.run(
            [sys.executable, "-c", "from granary.cli.main import main; main()", *arguments],
            cwd=self.project, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return self.settings.environment() | {
            "GRANARY_PROJECT": str(self.project),
            "GRANARY_TILL_LANDING": str(self.project / "landing"),
        }

    def states(self) -> dict[str, ServiceState]:
        return {one.name: one for one in state.read(self.settings)}

    def is_up(self) -> bool:
        states = self.states().values()
        return bool(states) and all(one.status == "up" for one in states)

    def deliver(self, day: date, lines: int) -> None:
        """Put a day's file of so many lines where the tills put theirs."""
        columns = ("member_id", "shop_id", "receipt_id", "article_id", "quantity", "week")
        table = pa.table(
            {name: list(range(1, lines + 1)) if name != "week" else [11] * lines for name in columns}
            | {name: [1.5] * lines for name in ("amount", "discount")}
            | {"paid_at": pa.array([PAID] * lines, pa.timestamp("us"))}
        )
        folder = self.project / "landing" / "receipts"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f".{day}.parquet")
        (folder / f".{day}.parquet").rename(folder / f"{day}.parquet")

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with connect(self.settings) as connection:
            return query(connection, sql)

    def runs(self) -> list[tuple[str, str]]:
        """Return the runs that there were and their states, the first one first."""
        return [
            (str(run), str(status)) for run, status in self.of_dagster("select run_id, status from runs order by id")
        ]

    def of_dagster(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        with connect(self.settings, self.settings.dagster_database) as connection:
            return query(connection, sql, *parameters)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """Return the shop, served in the background."""
    base = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))
    base.chmod(0o755)
    project = base / "shop"
    shutil.copytree(BUSINESS, project)
    (project / "orchestration" / "definitions.py").write_text(DEFINITIONS)
    for name in ("events.py", "office.py"):
        (project / "ingestion" / name).unlink()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PG")]:
            patch.delenv(name)
        patch.setenv("GRANARY_HOME", str(base / "home"))
        shop = Shop(Settings.load(), project, free_port(), free_port())
        try:
            served = shop.granary(
                "serve", "--detach", "--port", str(shop.port), "--metrics-port", str(shop.metrics_port)
            )  # fmt: skip
            assert (served.returncode, served.stderr) == (0, "")
            assert f"http://127.0.0.1:{shop.port}" in served.stdout
            yield shop
        finally:
            shop.granary("serve", "--stop")
            shop.granary("down")
            shutil.rmtree(base, ignore_errors=True)


def test_a_second_one_refuses_and_the_warehouse_is_not_taken_away(shop: Shop) -> None:
    states = shop.states()
    assert list(states) == ["supervisor", "guard", "warehouse", "code", "webserver", "daemon", "alerts", "metrics"]
    assert all(one.memory for one in states.values())
    for arguments in (("serve",), ("serve", "--detach")):
        second = shop.granary(*arguments)
        assert second.returncode == 1
        words = f"granary: another process is serving this warehouse: pid {states['supervisor'].pid} (granary serve)"
        assert second.stderr.startswith(words)
    down = shop.granary("down")
    assert (down.returncode, "`granary serve --stop` stops both" in down.stderr) == (1, True)


def test_status_shows_them(shop: Shop) -> None:
    said = shop.granary("status").stdout
    for one in shop.states().values():
        lines = [[cell.strip() for cell in line.split("│")] for line in said.splitlines()]
        (cells,) = [cells for cells in lines if cells[1:2] == [one.name]]
        assert cells[2] == "up"
        assert str(one.pid) in cells


def test_prometheus_reads_its_metrics(shop: Shop) -> None:
    with urlopen(f"http://127.0.0.1:{shop.metrics_port}/metrics") as answer:
        assert "\ngranary_up 1.0\n" in answer.read().decode()


def test_one_of_them_is_asked_and_is_started_alone(shop: Shop) -> None:
    port = ("--port", str(shop.port))
    assert shop.granary("serve", "--ask", "webserver", *port).returncode == 0
    assert shop.granary("serve", "--ask", "webserver", "--port", str(free_port())).returncode == 1
    unknown = shop.granary("serve", "--only", "deamon")
    assert (unknown.returncode, "did you mean daemon?" in unknown.stderr) == (2, True)
    command = [sys.executable, "-c", "from granary.cli.main import main; main()", "serve", "--only", "alerts"]
    with subprocess.Popen(command, cwd=shop.project, env=shop.environment) as alone:
        wait_until(lambda: "granary.supervisor.alerts" in psutil.Process(alone.pid).cmdline(), SECONDS, "the service")
        alone.terminate()


def test_a_run_whose_worker_is_killed_is_no_zombie_and_is_run_again_once(shop: Shop) -> None:
    """The file starts a run; its load waits for us when its process is killed."""
    day = date(2017, 3, 12)
    with connect(shop.settings) as blocker:
        execute(blocker, "insert into ops.locks values ('load.till') on conflict do nothing")
        blocker.commit()
        lock(blocker, "load.till", 60)
        shop.deliver(day, 3)
        wait_until(lambda: workers(shop) and shop.runs(), SECONDS, "a run")
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        wait_until(lambda: shop.rows(waits) != [(0,)], SECONDS, "the load")
        for worker in workers(shop):
            worker.kill()
        ((killed, _),) = shop.runs()
        wait_until(lambda: shop.runs()[0][1] in ENDED, SECONDS, "the end of the killed run")
        blocker.rollback()
    wait_until(lambda: len(shop.runs()) > 1 and shop.runs()[1][1] in ENDED, SECONDS, "the second attempt")
    (first, first_state), (again, state_of_again) = shop.runs()
    assert (first, first_state, state_of_again) == (killed, "FAILURE", "SUCCESS")
    parent = "select value from run_tags where run_id = $1 and key = 'dagster/parent_run_id'"
    assert shop.of_dagster(parent, again) == [(first,)]
    assert shop.rows("select count(*) from raw_till.receipts") == [(3,)]


def test_whatever_is_killed_is_up_again_and_the_next_file_lands_once(shop: Shop) -> None:
    before = shop.states()
    server = postmaster(plan(shop.settings.home))
    assert server
    for pid in (server, *(int(one.pid or 0) for one in before.values() if one.name != "supervisor")):
        os.kill(pid, signal.SIGKILL)

    def again() -> bool:
        new = postmaster(plan(shop.settings.home)) not in (None, server)
        return new and shop.is_up() and all(one.restarts for name, one in shop.states().items() if name != "supervisor")

    wait_until(again, SECONDS, "all of them")
    after = shop.states()
    assert {name: one.pid for name, one in after.items() if one.pid == before[name].pid} == {
        "supervisor": before["supervisor"].pid
    }
    shop.deliver(date(2017, 3, 13), 2)
    wait_until(lambda: shop.rows("select count(*) from raw_till.receipts") == [(5,)], SECONDS, "the next load")
    wait_until(lambda: shop.runs()[-1][1] in ENDED, SECONDS, "the next run")
    assert [status for _, status in shop.runs()][2:] == ["SUCCESS"]


def test_nothing_is_left_when_the_supervisor_is_killed(shop: Shop) -> None:
    states = shop.states()
    server = postmaster(plan(shop.settings.home))
    os.kill(int(states["supervisor"].pid or 0), signal.SIGKILL)
    left = [int(one.pid or 0) for one in states.values()]
    wait_until(lambda: not any(groups.members(pid) for pid in left), SECONDS, "the end of all")
    assert server
    assert not postmaster(plan(shop.settings.home))
    assert not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE
    assert shop.states() == {}


def workers(shop: Shop) -> list[psutil.Process]:
    """Return the processes that execute runs."""
    code = shop.states()["code"].pid
    return [one for one in groups.members(int(code or 0)) if "spawn_main" in " ".join(one.cmdline())]
