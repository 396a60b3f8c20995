"""A signal in the middle of a step is heard, even where Python loses the exception that Dagster raises for it."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from granary.dagster.signals import stoppable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lost_signals() -> Iterator[None]:
    """Let the handlers of both signals do nothing, as if their exceptions had been lost."""
    before = {sign: signal.signal(sign, lambda *_: None) for sign in (signal.SIGINT, signal.SIGTERM)}
    yield
    for sign, handler in before.items():
        signal.signal(sign, handler)


@pytest.fixture
def context() -> Any:
    """Give what `stoppable` asks of a step's context; the run is STARTED, and `canceled` counts the reports."""
    run = SimpleNamespace(status=dg.DagsterRunStatus.STARTED, run_id="r")
    instance = SimpleNamespace(canceled=0)

    def cancel(_: object) -> None:
        instance.canceled += 1
        run.status = dg.DagsterRunStatus.CANCELING

    instance.get_run_by_id = lambda _: run
    instance.report_run_canceling = cancel
    return SimpleNamespace(instance=instance, run=run)


@pytest.mark.usefixtures("lost_signals")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_lost_signal_still_stops_the_step(context: Any, sign: signal.Signals) -> None:
    stopped: list[float] = []

    def work() -> None:
        os.kill(os.getpid(), sign)
        deadline = time.monotonic() + 5
        while not context.instance.canceled and time.monotonic() < deadline:
            time.sleep(0.01)

    with pytest.raises(dg.DagsterExecutionInterruptedError), stoppable(context, lambda: stopped.append(1)):
        work()
    assert stopped == [1]
    assert context.instance.canceled == 1


@pytest.mark.usefixtures("lost_signals")
def test_an_error_caused_by_stopping_is_an_interruption(context: Any) -> None:
    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        raise RuntimeError("dbt ended with code 2")

    with pytest.raises(dg.DagsterExecutionInterruptedError) as caught, stoppable(context):
        work()
    assert str(caught.value.__cause__) == "dbt ended with code 2"


def test_an_interruption_that_was_not_lost_cancels_the_run_too(context: Any) -> None:
    with pytest.raises(dg.DagsterExecutionInterruptedError), stoppable(context):
        raise dg.DagsterExecutionInterruptedError
    assert context.instance.canceled == 1


def test_without_a_signal_nothing_happens_and_errors_pass(context: Any) -> None:
    before = signal.set_wakeup_fd(-1)
    with pytest.raises(ValueError, match="as it was"), stoppable(context, lambda: pytest.fail("stopped")):
        raise ValueError("as it was")
    with stoppable(context):
        pass
    assert context.instance.canceled == 0
    assert signal.set_wakeup_fd(before) == -1
