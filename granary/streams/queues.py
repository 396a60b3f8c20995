"""Queues without positions, as the loop reads them: messages are held until they have landed, then acknowledged.

Whatever is not acknowledged is delivered again by the queue, after a restart, a lost connection or a deadline. Which
messages have landed the warehouse knows by their ids (`granary.streams.known`), so this may forget all it holds at any
moment. What a queue is asked, and how, is in its own module: `rabbitmq`, `sqs`, `pubsub`.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from granary.load.newest import sent_at
from granary.streams.log import Lag, Message, Run
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BATCH_BYTES = 32 * 1_048_576
"""A batch that has as many bytes takes no more messages."""
PAUSE_SECONDS = 0.02
"""Between two questions of which the first brought nothing."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Received:
    """One delivery of a message: what it is known by (None: nothing), and the receipt that acknowledges it.

    `again` as of a `Message`.
    """

    id: str | None
    value: bytes
    at: float
    receipt: Any
    again: bool = True


class Queues(ABC):
    """The queues of one source, by the names that its stream gives as topics; a `Log` whose runs have ids.

    `deadline` is after how many seconds the queue delivers a message again that was not acknowledged; None: only when
    the connection ends. While a batch is held for longer than a third of it, a thread asks for more time. Where a
    server gives no more than so many messages before it hears of them (`most`), a batch does not wait for others.
    """

    kind: str
    deadline: float | None = None
    most: int | None = None

    def __init__(self, topics: Sequence[str]) -> None:
        """Hold nothing yet."""
        self.topics = list(topics)
        self._held: dict[str, list[Any]] = {}
        self._since = 0.0
        self._newest: dict[str, str] = {}
        self._heard = time.monotonic()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._keeper: threading.Thread | None = None

    # -- what a queue is asked -----------------------------------------------------------------------------------

    @abstractmethod
    def _connect(self) -> None:
        """Find the queues.

        Raises:
            GranaryError: the server does not answer, denies access, or has no such queue.
        """

    @abstractmethod
    def _receive(self, topic: str, most: int, seconds: float) -> list[Received]:
        """Return what a queue has, waiting for it at most about so long.

        Raises:
            UnavailableError: the server does not answer now.
            GranaryError: it denies access, or the queue is gone.
        """

    @abstractmethod
    def _acknowledge(self, topic: str, receipts: Sequence[Any]) -> None:
        """Tell the queue that messages are done with.

        Raises:
            GranaryError: it did not hear of it, or not of all.
        """

    def _extend(self, topic: str, receipts: Sequence[Any]) -> None:  # noqa: B027 - where there is no deadline
        """Ask for `deadline` seconds more."""

    @abstractmethod
    def _give_back(self, topic: str, receipts: Sequence[Any]) -> None:
        """Have messages delivered again at once, to whomever."""

    @abstractmethod
    def _waiting(self, topic: str) -> int | None:
        """Return how many messages wait, those that are held by us not counted; None where it is not known."""

    @abstractmethod
    def at_end(self) -> bool:
        """Return whether everything that was there has been polled."""

    @abstractmethod
    def _hang_up(self) -> None:
        """Close the connections."""

    # -- what the loop asks --------------------------------------------------------------------------------------

    def open(self, positions: Callable[[], Mapping[str, str]]) -> None:
        """Begin to read.

        Raises:
            GranaryError: the server does not answer, denies access, or has no such queue.
        """
        self._newest = dict(positions())
        self._connect()
        self._heard = time.monotonic()
        if self.deadline is not None:
            self._keeper = threading.Thread(target=self._keep, args=(self.deadline / 3,), daemon=True)
            self._keeper.start()

    def poll(self, rows: int, seconds: float) -> list[Run]:
        """Return what arrives within so many seconds, a run for each queue; it is held until it has landed.

        What is held from before goes back first: it was polled and not returned, since another queue did not answer.
        """
        self.rewind({})
        ends = time.monotonic() + seconds
        rows = min(rows, self.most or rows)
        found: dict[str, list[Received]] = {}
        count = size = 0
        while True:
            before = count
            for topic in self.topics:
                if count >= rows or size >= BATCH_BYTES:
                    break
                left = max(0.0, ends - time.monotonic()) / len(self.topics)
                for one in self._receive(topic, rows - count, left):
                    found.setdefault(topic, []).append(one)
                    self._hold(topic, one.receipt)
                    count, size = count + 1, size + len(one.value)
            left = ends - time.monotonic()
            if count >= rows or size >= BATCH_BYTES or left <= 0:
                break
            if count == before:
                time.sleep(min(left, PAUSE_SECONDS))
        if found:
            self._heard = time.monotonic()
        return [self._run(topic, received) for topic, received in found.items()]

    def _hold(self, topic: str, receipt: Any) -> None:
        with self._lock:
            if not any(self._held.values()):
                self._since = time.monotonic()
            self._held.setdefault(topic, []).append(receipt)

    def _run(self, topic: str, received: Sequence[Received]) -> Run:
        newest = sent_at(one.at for one in received) or datetime.now(timezone.utc)
        end = newest.isoformat(timespec="milliseconds")
        messages = tuple(Message(one.value, None, one.at, one.again) for one in received)
        return Run(topic, topic, None, end, messages, tuple(one.id for one in received))

    def landed(self, runs: Sequence[Run]) -> None:
        """Acknowledge what is in the warehouse; what the queue does not hear of comes again, and is known then."""
        for run in runs:
            self._newest[run.partition] = max(run.end, self._newest.get(run.partition, ""))
            receipts = self._release(run.topic)
            try:
                self._acknowledge(run.topic, receipts)
            except GranaryError as error:
                log.warning("%s: not acknowledged, and will come again: %s", run.topic, error)
        fault_point("stream-acknowledged")

    def _release(self, topic: str) -> list[Any]:
        with self._lock:
            return self._held.pop(topic, [])

    def _keep(self, pause: float) -> None:
        """Ask for more time for what is held for long, until the end."""
        while not self._closing.wait(pause):
            with self._lock:
                late = time.monotonic() - self._since >= pause
                held = {topic: list(receipts) for topic, receipts in self._held.items() if receipts and late}
            for topic, receipts in held.items():
                try:
                    self._extend(topic, receipts)
                except GranaryError as error:
                    log.warning("%s: no more time: %s", topic, error)

    def rewind(self, positions: Mapping[str, str]) -> None:
        """Give back what has not landed."""
        del positions
        for topic in list(self._held):
            if receipts := self._release(topic):
                try:
                    self._give_back(topic, receipts)
                except GranaryError as error:
                    log.warning("%s: not given back, and will come again later: %s", topic, error)

    def wait(self, seconds: float) -> None:
        """Keep what is held without reading more."""
        time.sleep(seconds)

    def lag(self) -> list[Lag]:
        """Return how many messages wait in each queue, and how old the newest that landed is if there are any."""
        lags = []
        for topic in self.topics:
            try:
                waiting = self._waiting(topic)
            except GranaryError:
                waiting = None
            lags.append(Lag(topic, self._newest.get(topic), waiting, self._age(topic, waiting)))
        return lags

    def _age(self, topic: str, waiting: int | None) -> float:
        newest = self._newest.get(topic)
        if newest is None or waiting == 0:
            return 0.0
        return round(max(0.0, time.time() - datetime.fromisoformat(newest).timestamp()), 3)

    def look(self, positions: Mapping[str, str]) -> list[Lag]:
        """Return the same without taking a message; the queues are not read afterwards."""
        self._newest = dict(positions)
        self._connect()
        return self.lag()

    def close(self) -> None:
        """Give back what has not landed, and hang up."""
        self._closing.set()
        if self._keeper is not None:
            self._keeper.join()
        self.rewind({})
        self._hang_up()
