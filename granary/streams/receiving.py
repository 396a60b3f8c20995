"""Webhook deliveries on their way into the warehouse: those that wait share a transaction, each is told its outcome.

A commit costs the same for one event as for a thousand, so a thread takes whatever waits, lands it in one transaction
and only then lets the requests be answered: a 2xx means that Postgres has the event on disk.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import psycopg

from granary.load.append import append
from granary.sources.units import Unit
from granary.streams.loop import passes
from granary.warehouse.connection import connect, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.sources.spec import Source, Table
    from granary.sources.units import SourceBatch
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

CAPACITY = 2_000
"""Deliveries that may wait; further ones are turned away with 503 until there is room."""
GROUP = 1_000
"""Deliveries that share a transaction at most."""

Outcome = Literal["landed", "duplicate", "conflict"]
"""duplicate: this idempotency key has landed with this body. conflict: it has landed with another body."""


class BusyError(Exception):
    """There is no room for another delivery, or the warehouse is away: the sender should try again."""


class RefusedError(Exception):
    """A delivery cannot land, however often it is tried; the message says why."""


@dataclass(frozen=True)
class Delivery:
    """One request's events. `key` is its idempotency key, `digest` that of its body."""

    table: Table
    source_batch: SourceBatch
    key: str | None
    digest: str
    outcome: Future[Outcome] = field(default_factory=Future)


class Receiver:
    """Lands the deliveries of one source, in a thread of its own."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self.settings, self.source = settings, source
        self._waiting: queue.Queue[Delivery | None] = queue.Queue(CAPACITY)
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._work, name=f"webhooks of {source.name}", daemon=True)
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Have a delivery landed; its `outcome` tells when.

        Raises:
            BusyError: too many are waiting.
        """
        try:
            self._waiting.put_nowait(delivery)
        except queue.Full:
            raise BusyError("too many deliveries are waiting") from None

    def close(self) -> None:
        """Land what waits, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            group, ended = self._take()
            if group:
                self._land(group)
            if ended:
                self._disconnect()
                return

    def _take(self) -> tuple[list[Delivery], bool]:
        """Wait for a delivery and return it with all others that wait, and whether to end after them."""
        group: list[Delivery] = []
        found = self._waiting.get()
        while found is not None:
            if found.outcome.set_running_or_notify_cancel():  # else its sender was told to try again already
                group.append(found)
            if len(group) == GROUP:
                return group, False
            try:
                found = self._waiting.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _land(self, group: Sequence[Delivery]) -> None:
        """Land deliveries together; if one of them cannot land, each for itself, so that it harms no other."""
        try:
            outcomes = self._commit(group)
        except Exception as error:
            self._disconnect()
            if isinstance(error, (psycopg.Error, OSError, BusyError)) and passes(error):
                words = str(error) if isinstance(error, BusyError) else reason(error)
                for delivery in group:
                    delivery.outcome.set_exception(BusyError(words))
            elif len(group) > 1:
                for delivery in group:
                    self._land([delivery])
            else:
                words = error.what if isinstance(error, GranaryError) else type(error).__name__
                group[0].outcome.set_exception(RefusedError(words))
        else:
            for delivery, outcome in zip(group, outcomes, strict=True):
                delivery.outcome.set_result(outcome)

    def _commit(self, group: Sequence[Delivery]) -> list[Outcome]:
        with self._begin() as tx:
            outcomes = {id(delivery): self._once(tx, delivery) for delivery in group if delivery.key is not None}
            tables = {delivery.table.name: delivery.table for delivery in group if delivery.key is None}
            for table in tables.values():
                source_batches = [d.source_batch for d in group if d.key is None and d.table is table]
                append(tx, self.source, table, Unit("webhook"), source_batches)
            fault_point("stream-before-commit")
        fault_point("stream-after-commit")
        return [outcomes.get(id(delivery), "landed") for delivery in group]

    def _once(self, tx: LoadTransaction, delivery: Delivery) -> Outcome:
        """Land a delivery with an idempotency key, unless the ledger knows the key: it is a unit's name there."""
        unit = f"webhook:{delivery.key}"
        known = tx.query(
            "select fingerprint from ops.load_audit where source = $1 and table_name = $2 and unit = $3"
            " and fingerprint is not null order by load_id desc limit 1",
            self.source.name,
            delivery.table.name,
            unit,
        )
        if known:
            return "duplicate" if known[0][0] == delivery.digest else "conflict"
        append(tx, self.source, delivery.table, Unit(unit, fingerprint=delivery.digest), [delivery.source_batch])
        return "landed"

    def _begin(self) -> LoadTransaction:
        try:
            if self._connection is None:
                self._connection = connect(self.settings, role="loader")
            return LoadTransaction(self.settings, self.source.name, self._connection)
        except GranaryError as error:
            raise BusyError(error.what) from None

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error, OSError):
                self._connection.close()
            self._connection = None
