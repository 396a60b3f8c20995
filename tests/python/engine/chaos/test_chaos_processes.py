"""Deaths are told apart, also when several threads let processes die at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from granary.warehouse.faults import fault_point
from granary.warehouse.settings import Settings
from tests.python.engine.chaos.loader_process import run

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


def test_every_kill_is_counted_whichever_thread_waits() -> None:
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: run(Passing(), NOWHERE, "here"), range(100)))
    assert all(outcome.killed for outcome in outcomes)
