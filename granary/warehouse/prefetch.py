"""Working ahead: while one stage of a load is busy with an item, a thread has the stage before it make the next.

Arrow decodes and the driver sends without the interpreter's lock, so that reading and checking, encoding, and sending
share the cores: the server, which stores the rows, is what a load waits for.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

DEPTH = 2
"""Items that wait: enough to bridge a pause of either side, few enough to keep memory flat."""

PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.1
"""How often a side that waits looks whether the other one has gone."""

_END = object()


class Prefetch(Generic[T]):
    """Yields what `source` yields, from a thread that is up to `DEPTH` items ahead; its errors are raised here.

    When the consumer closes it early, the thread ends with the item at hand; one that waits for a silent source is not
    waited for longer than `PATIENCE_SECONDS`. It may be closed from another thread than the one that consumes it, as
    where one stage feeds the next.
    """

    def __init__(self, source: Iterator[T]) -> None:
        """Begin."""
        self._source = source
        self._waiting: queue.Queue[object] = queue.Queue(DEPTH)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="granary-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetch[T]:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Return the next item; after the last one, after an error and after `close` there is none."""
        while not self._stopped.is_set():
            try:
                item = self._waiting.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, _Raised):
                self._stopped.set()
                raise item.error
            if item is _END:
                break
            return item  # type: ignore[return-value]
        self._stopped.set()
        raise StopIteration

    def close(self) -> None:
        """Have the thread end, with its source closed."""
        self._stopped.set()
        self._thread.join(PATIENCE_SECONDS)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._waiting.put(item, timeout=LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _work(self) -> None:
        try:
            for item in self._source:
                if not self._put(item):
                    return
            self._put(_END)
        except BaseException as error:  # raised again where the consumer is
            self._put(_Raised(error))
        finally:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()


class _Raised:
    """An error on its way to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
