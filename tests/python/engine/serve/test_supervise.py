"""The supervisor with small services: order, what dies, what does not answer, and what is left of it: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from granary.supervisor import groups, state, supervise
from granary.supervisor.services import Service, folder
from granary.supervisor.state import ServiceState
from granary.warehouse.filelock import FileLockedError
from granary.warehouse.project import PROJECT
from tests.python.support.stream_servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

WAITS = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w').close(); signal.pause()"
SUPERVISOR = f"""
import os, signal, sys
from granary.supervisor.services import Service
from granary.supervisor.supervise import Supervisor
from granary.warehouse.settings import Settings
signal.signal(signal.SIGTERM, signal.default_int_handler)
service = Service("one", (sys.executable, "-c", {WAITS!r}), lambda _: True)
Supervisor(Settings.load(), [service], os.environ, lambda words: print(words, flush=True)).run()
"""


def service(name: str, code: str = WAITS, is_healthy: Any = lambda _: True) -> Service:
    return Service(name, (sys.executable, "-c", code), is_healthy)


class Running:
    """A supervisor in this process, stepped by the test: no clock decides what it sees."""

    def __init__(self, settings: Settings, *services: Service) -> None:
        self.said: list[str] = []
        folder(settings).mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.supervisor = supervise.Supervisor(settings, services, os.environ, self.said.append)

    def until(self, **status: str) -> dict[str, ServiceState]:
        """Have the supervisor look until services have these states; return all states by name."""

        def holds() -> bool:
            self.supervisor._look()
            return status.items() <= {name: one.status for name, one in self.states().items()}.items()

        wait_until(holds, what=str(status))
        return self.states()

    def states(self) -> dict[str, ServiceState]:
        kept = json.loads((folder(self.settings) / "state.json").read_text())
        return {one["name"]: ServiceState(**one) for one in kept}


@pytest.fixture
def running(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that makes a supervisor of some services, ended with the test; nobody waits for long."""
    monkeypatch.setattr(supervise, "STARTING_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(supervise, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(supervise, "LONGEST_PAUSE_SECONDS", 0)
    made: list[Running] = []

    def make(*services: Service) -> Running:
        made.append(Running(warehouse, *services))
        return made[-1]

    yield make
    for one in made:
        with one.supervisor._all_ended():
            pass


def test_a_service_begins_when_those_before_it_are_healthy(running: Any) -> None:
    healthy: set[str] = set()
    one = running(*(service(name, is_healthy=lambda _, name=name: name in healthy) for name in ("first", "second")))
    states = one.until(first="starting")
    assert states["second"].status == "waiting"
    assert states["second"].pid is None
    healthy.add("first")
    states = one.until(first="up", second="starting")
    assert states["guard"].pid != states["first"].pid != states["second"].pid
    assert one.said == [f"first is up (pid {states['first'].pid})"]


def test_what_dies_is_started_again_alone_and_told_with_its_end(running: Any) -> None:
    one = running(service("first"), service("second"), service("third"))
    before = one.until(first="up", second="up", third="up")
    for name in ("first", "guard"):
        os.kill(before[name].pid, signal.SIGKILL)
    wait_until(lambda: one.supervisor._look() or all(one.states()[name].restarts for name in ("first", "guard")))
    after = one.until(first="up", second="up", third="up", guard="up")
    changed = {name for name in before if after[name].pid != before[name].pid}
    assert changed == {"first", "guard"}
    assert {name: after[name].restarts for name in after} == {
        "supervisor": 0, "guard": 1, "first": 1, "second": 0, "third": 0,
    }  # fmt: skip
    assert "first was killed by signal 9; starting it again in 0 s" in one.said[3]


def test_one_that_ends_again_and_again_is_tried_more_seldom(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "LONGEST_PAUSE_SECONDS", 20)
    one = running(service("broken", "raise SystemExit(3)", lambda _: False))
    for times in range(1, 8):
        wait_until(lambda times=times: one.supervisor._look() or len(one.said) == times)
        one.supervisor._look()
        assert one.states()["broken"].status == "waiting", "the pause is over when the test says so"
        one.supervisor._kept[0].due = 0.0
    pauses = [words.partition(" in ")[2].partition(" s ")[0] for words in one.said]
    assert pauses == ["1", "2", "4", "8", "16", "20", "20"]
    assert "broken ended with code 3" in one.said[0]


def test_one_that_does_not_answer_is_killed_and_started_again(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [True]

    def is_healthy(_: object) -> bool:
        if not answers[0]:
            raise TimeoutError("nobody there")
        return True

    one = running(service("stuck", is_healthy=is_healthy))
    before = one.until(stuck="up")["stuck"]
    answers[0] = False
    one.supervisor._look()
    assert one.states()["stuck"].pid == before.pid, "it has time"
    monkeypatch.setattr(supervise, "PATIENCE_SECONDS", -1.0)
    one.supervisor._look()
    answers[0] = True
    wait_until(lambda: one.supervisor._look() or one.states()["stuck"].restarts == 1)
    assert "stuck does not answer" in one.said


def test_what_does_not_end_when_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "PATIENCE_SECONDS", 0.2)
    ready = tmp_path / "ready"
    code = f"import sys; {DEAF}"
    deaf = subprocess.Popen([sys.executable, "-c", code, str(ready)], start_new_session=True)
    wait_until(ready.exists)
    groups.end([deaf.pid])
    assert deaf.wait() == -signal.SIGKILL
    groups.end([deaf.pid])  # once more does nothing


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_however_the_supervisor_ends(warehouse: Settings, how: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR], cwd=PROJECT, env=warehouse.environment(), stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    pid = int(child.stdout.readline().partition("pid ")[2].rstrip(")\n"))
    assert state.is_served(warehouse)
    wait_until(lambda: state.read(warehouse)[-1].status == "up")
    (_, guard, one) = state.read(warehouse)
    assert one.pid == pid
    assert (one.memory or 0) > 1_000_000
    with pytest.raises(FileLockedError, match=f"another process is serving this warehouse: pid {child.pid} "):
        state.refuse_second(warehouse)
    child.send_signal(how)
    child.wait()
    wait_until(lambda: not groups.members(pid) and not groups.members(int(guard.pid or 0)))
    assert state.read(warehouse) == ()
    assert not state.stop(warehouse)


def test_stop_ends_the_supervisor(warehouse: Settings) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR], cwd=PROJECT, env=warehouse.environment(), stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    pid = int(child.stdout.readline().partition("pid ")[2].rstrip(")\n"))
    assert state.stop(warehouse)
    assert child.wait() == 0
    assert not groups.members(pid)
