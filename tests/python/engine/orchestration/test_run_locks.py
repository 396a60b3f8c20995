"""A run whose process is gone is known to be, however it went; one that works is left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from granary.dagster.resources import Warehouse
from granary.dagster.run_locks import DIED, fail_dead_runs, folder, held, hold

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

WORKS = """
import sys
from pathlib import Path
from granary.dagster.run_locks import hold
from types import SimpleNamespace
hold(SimpleNamespace(home=Path(sys.argv[1])), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


class Instance:
    """What is asked of Dagster, with runs of these states; `reports` keeps what is told to it."""

    def __init__(self, **states: str) -> None:
        self.states, self.reports = states, []  # type: ignore[var-annotated]

    def get_run_by_id(self, run_id: str) -> Any:
        state = self.states.get(run_id)
        finished = state in ("SUCCESS", "FAILURE")
        return state and SimpleNamespace(run_id=run_id, is_finished=finished, status=SimpleNamespace(value=state))

    def report_run_failed(self, run: Any, words: str) -> None:
        self.reports.append((run.run_id, "failed", words))

    def report_run_canceled(self, run: Any, words: str) -> None:
        self.reports.append((run.run_id, "canceled", words))


def worker(settings: Settings, run_id: str) -> subprocess.Popen[str]:
    """Start a process that works on a run."""
    command = [sys.executable, "-c", WORKS, str(settings.home), run_id]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "held\n"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()


def test_the_run_of_a_killed_process_is_failed_and_that_of_a_living_one_is_not(warehouse: Settings) -> None:
    killed, stopping, alive = (worker(warehouse, name) for name in ("killed", "stopping", "alive"))
    end(killed)
    end(stopping)
    instance: Any = Instance(killed="STARTED", stopping="CANCELING", alive="STARTED", elsewhere="STARTED")
    try:
        assert fail_dead_runs(warehouse, instance) == ["killed", "stopping"]
        assert instance.reports == [("killed", "failed", DIED), ("stopping", "canceled", DIED)]
        assert [path.name for path in folder(warehouse).iterdir()] == ["alive"]
    finally:
        end(alive)
    assert fail_dead_runs(warehouse, instance) == ["alive"]


def test_a_run_that_ended_by_itself_is_not_told_of_again(warehouse: Settings) -> None:
    end(worker(warehouse, "done"))
    instance: Any = Instance(done="SUCCESS")
    assert fail_dead_runs(warehouse, instance) == []
    assert instance.reports == []
    assert list(folder(warehouse).iterdir()) == []


def test_our_own_run_is_at_work_until_it_ends(warehouse: Settings) -> None:
    instance: Any = Instance(ours="STARTED")
    with held(warehouse, "ours"):
        hold(warehouse, "ours")  # as the steps do once more
        assert fail_dead_runs(warehouse, instance) == []
    assert list(folder(warehouse).iterdir()) == []


def test_the_steps_of_a_run_that_the_daemon_started_say_so_too(warehouse: Settings) -> None:
    context: Any = SimpleNamespace(run=SimpleNamespace(run_id="scheduled"))
    Warehouse().setup_for_execution(context)
    assert [path.name for path in folder(warehouse).iterdir()] == ["scheduled"]
    Warehouse().setup_for_execution(SimpleNamespace(run=None))  # type: ignore[arg-type] - of a schedule: no run
