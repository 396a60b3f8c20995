"""Reading ahead: while the load encodes and sends one batch, the next is read, parsed and checked."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

T = TypeVar("T")

DEPTH = 2
"""Items that wait: enough to bridge a pause of either side, few enough to keep memory flat."""

PATIENCE_SECONDS = 5.0

_END = object()


def prefetch(source: Iterator[T]) -> Generator[T, None, None]:
    """Yield what `source` yields, from a thread that is up to `DEPTH` items ahead; its errors are raised here.

    Arrow parses and the driver sends without the interpreter's lock, so both halves of a load share two cores: a CSV
    of 1.47 M rows took a quarter less time. When the consumer stops early, the thread ends with the item at hand; one
    that waits for a silent source is not waited for longer than `PATIENCE_SECONDS`.
    """
    waiting: queue.Queue[object] = queue.Queue(DEPTH)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # raised again where the consumer is
            put(_Raised(error))
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="granary-read", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join(PATIENCE_SECONDS)


class _Raised:
    """An error on its way to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
