"""What every capture does, whatever log it reads: state and ledger, copying and taking changes, following."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from threading import Event
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import psycopg

from granary.load.captured import check_held
from granary.sources.capture import changes_table
from granary.warehouse.connection import query, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.run_ledger import Recorder
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from granary.sources.spec import Source, Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.run_ledger import Lag
    from granary.warehouse.settings import Settings

STATE = "@capture"
"""The name under which ops.watermarks keeps the state of a source's capture; no table can have it."""

HEARTBEAT = timedelta(seconds=10)
"""How often a capture to which nothing comes says in the warehouse that its copy is complete."""
COMMIT_SECONDS = 0.05
"""What lies at least between two commits of a capture that follows: each has its rows in the ledger."""
LOOK_SECONDS = 1.0
"""How often it looks at the source's catalogue and at the run ledger."""


class State(Protocol):
    """What the warehouse knows of a capture; it moves only with the rows, in their transaction."""

    @property
    def phase(self) -> str:
        """Return stream, or snapshot while a copy has yet to be made."""

    @property
    def lsn(self) -> str:
        """Return how far the log is stored, as the source writes it."""

    @property
    def as_of(self) -> str:
        """Return the source's clock when the copy was last known to be complete (ISO 8601)."""

    @property
    def tables(self) -> Mapping[str, object]:
        """Return what is known of each table that has been copied."""

    def dump(self) -> str:
        """Return the state as JSON."""


S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class CaptureResult:
    """What a capture did: rows copied, changes stored, changes refused (in the quarantine), and how far it came."""

    source: str
    rows_copied: int
    changes: int
    refused: int
    lsn: str
    seconds: float


@contextmanager
def user_errors(source: str) -> Iterator[None]:
    """Turn an error of the warehouse into one that a person can act on."""
    try:
        yield
    except psycopg.Error as error:
        raise GranaryError(
            f"the capture was interrupted by the warehouse: {reason(error)}",
            source,
            "nothing of the batch has landed; fix the cause and capture again",
        ) from None


def stored_text(connection: Connection, source: Source) -> str | None:
    """Return the state of a source's capture as JSON, None if there is none."""
    rows = query(
        connection, "select value from ops.watermarks where source = $1 and table_name = $2", source.name, STATE
    )
    return str(rows[0][0]) if rows else None


def check_rows(connection: Connection, source: Source) -> None:
    """Refuse to go on from raw tables that do not hold what was captured: changes alone do not make it up.

    Raises:
        LostSlotError: somebody dropped or emptied one, or deleted rows of it.
    """
    for table in source.tables:
        for contract in (table, changes_table(table)):
            check_held(connection, source, contract)


def is_old(as_of: str, now: datetime | None = None) -> bool:
    """Return whether it is time to say again that the copy is complete; `now` is the source's clock, if it is known."""
    return (now or datetime.now(timezone.utc)) - datetime.fromisoformat(as_of) >= HEARTBEAT


class Capturing(ABC, Generic[S]):
    """A capture that is open: `once` takes what there is, `follow` goes on until it is interrupted."""

    def __init__(self, settings: Settings, source: Source, connection: Connection, run_id: str) -> None:
        self.settings, self.source = settings, source
        self.connection = connection
        self.ledger = Recorder(settings, "capture", source.name, run_id)
        self.run_id = self.ledger.run.run_id
        self.copied = self.changes = self.refused = 0
        self.started = time.perf_counter()
        self.checked = False
        self.following = False
        self.stopped = Event()
        self.state = self._stored()

    # -- what each kind of log has of its own ----------------------------------------------------------------

    @abstractmethod
    def load_state(self, text: str) -> S:
        """Return the state that its `dump` wrote."""

    @abstractmethod
    def snapshot(self, *, take_over: bool) -> None:
        """Replace the current tables by a copy that changes continue; `take_over`: whatever there is at the source."""

    @abstractmethod
    def add(self, added: tuple[Table, ...]) -> None:
        """Copy tables that the contract has gained."""

    @abstractmethod
    def take(self) -> bool:
        """Store some of the changes that there are; return whether there may be more."""

    @abstractmethod
    def store_sent(self, progress: Callable[[CaptureResult], None] | None) -> None:
        """Store changes as the source sends them, until `stopped`; or wait a while where it does not send them."""

    @abstractmethod
    def lags(self) -> Sequence[Lag]:
        """Return for the run ledger how far the copy is behind; nothing if the source is away."""

    @abstractmethod
    def cancel(self) -> None:
        """Break off what the source is doing for us, if anything; from another thread."""

    @abstractmethod
    def drop(self) -> list[str]:
        """Remove what the capture has at the source; return what was done, a sentence each."""

    @abstractmethod
    def close(self) -> None:
        """Leave the source."""

    # -- what they have in common ----------------------------------------------------------------------------

    def result(self) -> CaptureResult:
        """Return what was done so far."""
        lsn = self.state.lsn if self.state else ""
        seconds = time.perf_counter() - self.started
        return CaptureResult(self.source.name, self.copied, self.changes, self.refused, lsn, seconds)

    def end(self, error: BaseException | None = None) -> None:
        """Keep in the run ledger how the capture ended; Ctrl-C is how one that follows does."""
        if self.following and isinstance(error, KeyboardInterrupt):
            error = None
        self.ledger.count(self.copied + self.changes)
        self.ledger.end(error, () if error else self.lags())

    def beat(self) -> None:
        """Say once a minute in the run ledger what was done so far; its rows are in the ledger of loads."""
        self.ledger.count(self.copied + self.changes)
        self.ledger.beat(time.monotonic(), self.lags)

    def once(self, *, anew: bool = False, progress: Callable[[CaptureResult], None] | None = None) -> CaptureResult:
        """Take everything that the source has committed until now; begin with a snapshot if there is none.

        Args:
            anew: copy everything again, whatever the source still has.
            progress: called after each commit.

        Raises:
            LostSlotError: changes were lost; nothing is stored.
            GranaryError: the source or the warehouse failed; what was stored before stays.
        """
        with user_errors(self.source.name):
            if anew or self.state is None or self.state.phase == "snapshot":
                self.snapshot(take_over=anew)
                if progress:
                    progress(self.result())
            elif not self.checked:
                with self.transaction() as tx:
                    check_rows(tx.connection, self.source)
                self.add(tuple(table for table in self.source.tables if table.name not in self.state.tables))
            self.checked = True
            more = True
            while more:
                before, more = self.state, self.take()
                if progress and self.state is not before:
                    progress(self.result())
        return self.result()

    def follow(self, *, progress: Callable[[CaptureResult], None] | None = None) -> None:
        """Take changes as they come, until an exception (Ctrl-C) ends it.

        The work is done in a thread of its own: in the main thread the source's driver takes each Ctrl-C to itself, and
        one that comes as an answer arrives is lost.
        """
        with ThreadPoolExecutor(1, "granary-capture") as worker:
            try:
                worker.submit(self._follow, progress).result()
            except BaseException:
                self.stopped.set()
                self.cancel()
                self.connection.cancel_safe()
                raise

    def _follow(self, progress: Callable[[CaptureResult], None] | None) -> None:
        """Catch up, then store what the source sends."""
        self.following = True
        while not self.stopped.is_set():
            self.once(progress=progress)
            self.beat()
            with user_errors(self.source.name):
                self.store_sent(progress)

    @contextmanager
    def transaction(self) -> Iterator[LoadTransaction]:
        """Begin a transaction of the warehouse.

        Raises:
            GranaryError: another process has moved the capture since.
        """
        with LoadTransaction(self.settings, self.source.name, self.connection) as tx:
            text = tx.watermark(STATE)
            if (self.load_state(text) if text else None) != self.state:
                raise GranaryError("another process has moved this capture", self.source.name, "capture again")
            yield tx

    def store(self, tx: LoadTransaction, state: S) -> None:
        """Keep a state, with the rows of its transaction."""
        tx.set_watermark(STATE, state.dump(), tx.next_load_ids(1)[0])

    def _stored(self) -> S | None:
        with LoadTransaction(self.settings, self.source.name, self.connection) as tx:
            text = tx.watermark(STATE)
        return self.load_state(text) if text else None
