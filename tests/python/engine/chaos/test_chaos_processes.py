"""Deaths are told apart, also when several threads let processes die at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from granary.warehouse.faults import fault_point
from granary.warehouse.settings import Settings
from tests.python.engine.chaos import loader_process
from tests.python.engine.chaos.loader_process import IDLE, Child, run
from tests.python.support.stream_servers import wait_until

NOWHERE = Settings(home=Path("/nowhere"), external=False, host="/nowhere")


@dataclass(frozen=True)
class Passing:
    """Passes a point three times, or fails before it."""

    fails: bool = False

    def load(self, settings: Settings) -> None:
        del settings
        if self.fails:
            raise ValueError("no")
        for _ in range(3):
            fault_point("here")


def test_ends_are_told_apart() -> None:
    done, killed, failed = run(Passing(), NOWHERE), run(Passing(), NOWHERE, "here:3"), run(Passing(fails=True), NOWHERE)
    assert (done.done, done.killed, done.passes) == (True, False, {"here": 3})
    assert (killed.done, killed.killed) == (False, True)
    assert (failed.done, failed.killed) == (False, False)
    assert failed.error is not None
    assert "ValueError: no" in failed.error
    assert run(Passing(), NOWHERE, "here:4").done


@dataclass(frozen=True)
class Endless:
    """Comes to no end, at work or not."""

    works: bool

    def load(self, settings: Settings) -> None:
        del settings
        while self.works:
            pass
        threading.Event().wait()


def test_a_loader_that_works_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    works, waits = Child(Endless(works=True), NOWHERE).go(), Child(Endless(works=False), NOWHERE).go()
    before = loader_process._worked(works)
    wait_until(lambda: loader_process._worked(works) > before + IDLE, what="its work")
    monkeypatch.setattr(loader_process, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(TimeoutError, match=r"said nothing, and used 0\.0"):
        waits.end()
    works.kill()
    assert works.end().killed


def test_every_kill_is_counted_whichever_thread_waits() -> None:
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: run(Passing(), NOWHERE, "here"), range(100)))
    assert all(outcome.killed for outcome in outcomes)
