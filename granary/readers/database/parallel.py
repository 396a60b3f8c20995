"""Several readers at once, as one stream: bounded memory, one error, and nobody left behind."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import Full, Queue
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

T = TypeVar("T")
WAITING_PER_READER = 2
"""Chunks that may wait to be taken, for each reader: so many are in memory at most, beside those being built."""
POLL_SECONDS = 0.1
FAREWELL_SECONDS = 10.0
"""How long readers are waited for that are to end. One that hangs in a dead network is left to its time limits."""


class _Done:
    """A reader's last word."""


def interleaved(streams: Sequence[Generator[T, None, None]], cancel: Callable[[], None]) -> Iterator[T]:
    """Yield what the streams yield, each run by a thread of its own, in the order in which it comes.

    The first error ends all of them and is raised. So does leaving the iteration early: then `cancel` breaks off what
    the streams are waiting for, and each stream is closed by its own thread.
    """
    queue: Queue[T | _Done | BaseException] = Queue(WAITING_PER_READER * len(streams))
    stopped = threading.Event()

    def put(item: T | _Done | BaseException) -> None:
        while not stopped.is_set():
            with suppress(Full):
                queue.put(item, timeout=POLL_SECONDS)
                return

    def run(stream: Generator[T, None, None]) -> None:
        try:
            for item in stream:
                put(item)
                if stopped.is_set():
                    break
            put(_Done())
        except BaseException as error:
            put(error)
        finally:
            with suppress(Exception):
                stream.close()

    threads = [threading.Thread(target=run, args=(stream,), daemon=True) for stream in streams]
    working = len(threads)
    try:
        for thread in threads:
            thread.start()
        while working:
            item = queue.get()
            if isinstance(item, _Done):
                working -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stopped.set()
        if working:
            # In a thread of its own, since it too may hang in a dead network.
            threads.append(threading.Thread(target=cancel, daemon=True))
            threads[-1].start()
        deadline = monotonic() + FAREWELL_SECONDS
        for thread in threads:
            if thread.ident:
                thread.join(max(0.0, deadline - monotonic()))
