"""Ctrl-C and SIGTERM in the middle of a step: heard for certain, and the run marked as canceled.

Dagster raises an exception from its signal handler, and two things can happen to it. Raised while Python collects
garbage it is lost ("Exception ignored in"; here a third of the signals that met `lineage` at work). Raised while
Dagster writes an event, it never enters the step's own code. So the interpreter also writes each signal to a pipe
(`set_wakeup_fd`), and a thread that reads it does what must be done.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = frozenset({int(signal.SIGINT), int(signal.SIGTERM)})


@contextmanager
def stoppable(context: dg.AssetExecutionContext, on_stop: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Run a step's work; on a signal call `on_stop` in another thread, and leave with Dagster's interruption.

    Raises:
        DagsterExecutionInterruptedError: a signal came, whatever else went wrong because of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    requested = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while signs := os.read(reader, 64):
            if SIGNALS & set(signs) and not requested.is_set():
                requested.set()
                on_stop()
                _mark(context)

    watcher = threading.Thread(target=watch, name="stoppable", daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        _mark(context)  # the driver of Postgres hears signals by a pipe of its own while it waits for the server
        raise
    except Exception as error:
        if requested.is_set():
            raise dg.DagsterExecutionInterruptedError from error
        raise
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        watcher.join()
        os.close(reader)
    if requested.is_set():
        raise dg.DagsterExecutionInterruptedError


def _mark(context: dg.AssetExecutionContext) -> None:
    """Tell Dagster that the run is being canceled; an interruption that nobody announced counts as a failure."""
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.status == dg.DagsterRunStatus.STARTED:
        context.instance.report_run_canceling(run)
