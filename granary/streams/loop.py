"""Micro-batches: poll, decode, append, commit. One transaction holds the rows and the positions behind them.

Positions are kept per partition, in the table's watermark. A batch names the position that it began at; if the
warehouse holds another one by the time of the commit, then the partition was read by another process meanwhile, and
the batch is dropped and read again from where the warehouse is. So it does not matter what a group, a broker or a
process that was thought dead believes: rows and positions move together, or not at all.

A queue has no positions: the ids of its messages commit with the rows, and only then are they acknowledged. What is
delivered again, because nobody heard of the acknowledgement, is known by its id and acknowledged once more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from granary.load.contract import ContractBrokenError
from granary.streams.landing import FencedError, Landing
from granary.streams.log import Positions, StreamStoppedError, UnavailableError
from granary.streams.positions import of_kind, watermark_of
from granary.streams.registry import RegistryUnavailableError
from granary.warehouse.connection import connect, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.ledger import record_changes
from granary.warehouse.run_ledger import Lag as LedgerLag
from granary.warehouse.run_ledger import Recorder
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from granary.sources.spec import Source, Table
    from granary.streams.debezium.landing import CapturedLanding
    from granary.streams.landing import Done, Lands
    from granary.streams.log import Decoder, Lag, Log, Run
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

MAX_ROWS = 10_000
"""Messages of a batch: a seam that refuses more rows at once gives up, so a batch that is all poison still passes."""

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.2, 10.0
REPORT_SECONDS = 30.0
WAITABLE = ("08", "40", "53", "57", "58", "")
"""Classes of SQLSTATE that pass: connection, serialization, resources (a full disk), shutdown, I/O, and no state."""

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


@dataclass
class Counts:
    """What a stream has done."""

    batches: int = 0
    rows_read: int = 0
    rows_loaded: int = 0
    rows_quarantined: int = 0
    known: int = 0
    fenced: int = 0
    retries: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Limits:
    """How large a batch may grow, how long it gathers, and how long the warehouse may be away before we give up."""

    rows: int = 5_000
    seconds: float = 0.25
    patience_seconds: float = 600.0


@dataclass
class StreamLoop:
    """One source's log on its way into the warehouse, in one process."""

    settings: Settings
    source: Source
    tables: Mapping[str, Table]
    log: Log
    decoders: Mapping[str, Decoder]
    limits: Limits = field(default_factory=Limits)
    run_id: str = ""
    report: Callable[[Counts, Sequence[Lag]], None] = lambda counts, lags: None
    counts: Counts = field(default_factory=Counts)
    stopping: threading.Event = field(default_factory=threading.Event)
    captured: CapturedLanding | None = None
    _connection: Connection | None = None

    def __post_init__(self) -> None:
        """Take note of when it began, for the run ledger; its batches are in the ledger of loads."""
        self.ledger = Recorder(self.settings, "stream", self.source.name, self.run_id)

    def stop(self) -> None:
        """Ask the stream to end after its current batch; may be called from a signal handler or another thread."""
        self.stopping.set()

    def run(self, *, once: bool = False) -> Counts:
        """Read until stopped; with `once`, until everything that is there now has landed.

        Raises:
            GranaryError: the log or the data cannot be read, or the warehouse is away for longer than our patience.
        """
        began = reported = time.monotonic()
        opened = False
        failure: BaseException | None = None
        try:
            self._patiently(self.check, self.stopping.wait)
            if self.captured is not None:
                self._patiently(self._check_rows, self.stopping.wait)
            self.log.open(self.positions)
            opened = True
            while not self.stopping.is_set():
                runs = self._patiently(self._poll, self.stopping.wait)
                fault_point("stream-polled")
                if runs:
                    self._land(runs)
                elif once and self.log.at_end():
                    break
                self.counts.seconds = time.monotonic() - began
                if time.monotonic() - reported >= REPORT_SECONDS:
                    reported = time.monotonic()
                    lags = self._report()
                    self.ledger.beat(reported, lambda: lags)  # noqa: B023 - called at once, or not at all
        except StreamStoppedError:
            pass  # what was polled has not landed; the next process reads it again
        except BaseException as error:
            failure = error
            if isinstance(error, ContractBrokenError):
                self._record(error)
            raise
        finally:
            lags = self._report() if opened else []
            self._disconnect()
            self.log.close()
            self.ledger.end(failure, lags)
        return self.counts

    def _poll(self) -> list[Run]:
        return self.log.poll(min(self.limits.rows, MAX_ROWS), self.limits.seconds)

    def _report(self) -> list[LedgerLag]:
        lags = self.log.lag()
        self.report(self.counts, lags)
        log.info("stream %s: %s, lag %s", self.source.name, self.counts, lags)
        self.ledger.count(self.counts.rows_loaded)
        return [LedgerLag(self.source.name, "stream", one.partition, one.messages, None, one.seconds) for one in lags]

    def check(self) -> list[str]:
        """Return what a person should know of the topics' schemas; it is logged too."""
        found = [words for topic, decoder in self.decoders.items() for words in decoder.check(topic)]
        for words in found:
            log.warning("stream %s: %s", self.source.name, words)
        return found

    def look(self) -> list[Lag]:
        """Return how far behind every partition is, without reading; then leave."""
        try:
            return self.log.look(self._stored())
        finally:
            self._disconnect()
            self.log.close()

    # -- positions -------------------------------------------------------------------------------------------

    def positions(self) -> Positions:
        """Return where the warehouse is in every partition; waits for it if it is away."""
        return self._patiently(self._stored, self.stopping.wait)

    def _stored(self) -> Positions:
        connection = self._connect()
        try:
            found: Positions = {}
            for table in self.tables.values():
                found |= of_kind(watermark_of(connection, self.source.name, table.name), self.log.kind)
            return found
        finally:
            with suppress(psycopg.Error):
                connection.rollback()

    # -- one batch -------------------------------------------------------------------------------------------

    def _land(self, runs: Sequence[Run]) -> None:
        """Bring a batch into the warehouse, or find out that it is not ours to bring."""
        try:
            self._patiently(lambda: self._commit(runs), self.log.wait)
        except FencedError as fenced:
            log.info("stream %s: %s", self.source.name, fenced)
            self.counts.fenced += 1
            self.log.rewind(self.positions())
            return
        fault_point("stream-after-commit")
        self.log.landed(runs)

    def _commit(self, runs: Sequence[Run]) -> None:
        done = self._landed(self.captured or Landing(self.source, self.tables, self.decoders, self.log.kind), runs)
        read = sum(one.rows_read for one in done)
        self.counts.batches += 1
        self.counts.rows_read += read
        self.counts.known += sum(len(run.messages) for run in runs) - read
        self.counts.rows_loaded += sum(one.rows_loaded for one in done)
        self.counts.rows_quarantined += sum(one.rows_quarantined for one in done)

    def _landed(self, landing: Lands[Any], runs: Sequence[Run]) -> Sequence[Done]:
        decoded = landing.decode(runs)
        with self._begin() as tx:
            done = landing.land(tx, decoded, self.ledger.run.run_id)
            fault_point("stream-before-commit")
        return done

    def _check_rows(self) -> None:
        assert self.captured is not None
        with self._begin() as tx:
            self.captured.check(tx)

    def _begin(self) -> LoadTransaction:
        try:
            return LoadTransaction(self.settings, self.source.name, self._connect())
        except GranaryError as error:  # another load of the source takes long
            raise UnavailableError(error.what, error.where, error.todo) from None

    # -- patience --------------------------------------------------------------------------------------------

    def _patiently(self, attempt: Callable[[], Answer], wait: Callable[[float], object]) -> Answer:
        """Try until it works, while the warehouse or the registry is away; the broker keeps what we do not fetch.

        Raises:
            StreamStoppedError: we were asked to end meanwhile.
            GranaryError: our patience is over, or it is not a matter of waiting.
        """
        ends, pause = time.monotonic() + self.limits.patience_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                return attempt()
            except (psycopg.Error, OSError, UnavailableError, RegistryUnavailableError) as error:
                self._disconnect()
                words = str(error) if isinstance(error, GranaryError) else reason(error)
                if not passes(error):
                    raise GranaryError(
                        f"the warehouse refuses a batch: {words}",
                        self.source.name,
                        "nothing of it has landed; fix the cause and start the stream again",
                    ) from None
                if time.monotonic() > ends:
                    raise GranaryError(
                        f"gave up after {self.limits.patience_seconds:g} s: {words}",
                        self.source.name,
                        "nothing is lost: fix the cause and start the stream again",
                    ) from None
                self.counts.retries += 1
                log.warning("stream %s: %s; trying again in %.1f s", self.source.name, words, pause)
            if self.stopping.is_set():
                raise StreamStoppedError
            wait(pause)
            if self.stopping.is_set():
                raise StreamStoppedError
            pause = min(pause * 2, LAST_PAUSE_SECONDS)

    def _connect(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = connect(self.settings, role="loader")
            except GranaryError as error:
                raise UnavailableError(error.what, error.where, error.todo) from None
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error, OSError):
                self._connection.close()
            self._connection = None

    def _record(self, error: ContractBrokenError) -> None:
        """Keep what broke the contract, in a transaction of its own."""
        self._disconnect()
        with suppress(GranaryError, psycopg.Error, OSError), LoadTransaction(self.settings, self.source.name) as tx:
            for table in self.tables.values():
                if error.change.column in {c.name for c in table.columns} or len(self.tables) == 1:
                    load_id = tx.next_load_ids(1)[0]
                    record_changes(tx.connection, self.source.name, table.name, load_id, [error.change])


def passes(error: Exception) -> bool:
    """Return whether a failure may pass by itself."""
    if isinstance(error, psycopg.Error):
        return (error.sqlstate or "")[:2] in WAITABLE
    return True
