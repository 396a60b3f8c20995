"""The capture of a source: copy it once, then take changes from its slot, store them, and move the slot on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import chain
from threading import Event
from typing import TYPE_CHECKING

import psycopg

from granary.cdc import snapshot
from granary.cdc.catalog import Origins, check_server, ensure_publication, look
from granary.cdc.landing import Lander, differences
from granary.cdc.lost_slot import check_rows, check_slot, check_tables
from granary.cdc.lsn import lsn_text
from granary.cdc.origin import Origin
from granary.cdc.pgoutput import Decoder
from granary.cdc.replication import ReplicationRefusedError
from granary.cdc.rows import source_batch
from granary.cdc.state import STATE, State
from granary.cdc.status import lag_of
from granary.sources.config import setting
from granary.warehouse.connection import LockHeldError, connect, execute, quote_name, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.run_ledger import Recorder
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from granary.cdc.origin import Server
    from granary.cdc.pgoutput import Relation
    from granary.cdc.replication import Part, Replication
    from granary.cdc.state import TableState
    from granary.sources.spec import Capture, Source, Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

PEEK_MESSAGES = 400_000
"""Messages that are asked for at a time. Each time the source reads its log again from the oldest transaction that the
slot still needs, so few large peeks are faster than many small ones; the source keeps about 100 bytes for each."""

LOCK_PATIENCE_SECONDS = 5
"""How long a capture waits for another one of its source, which may have been killed a moment ago."""

POLL_SECONDS = 0.5
"""How often a source that does not replicate is looked at."""
COMMIT_SECONDS = 0.05
"""What lies at least between two commits of a capture that follows: each has its rows in the ledger."""
LOOK_SECONDS = 1.0
"""How often it looks at the catalogue of a source, for what `alter table` does without a word in the log."""

HEARTBEAT = timedelta(seconds=10)
"""How often a capture to which nothing comes says in the warehouse that its copy is complete."""


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
def opened(settings: Settings, source: Source, run_id: str = "") -> Iterator[Capturing]:
    """Open a source's capture; it is this process's alone until it is closed.

    Raises:
        GranaryError: the source declares no capture, does not answer, cannot be captured, or is being captured.
    """
    capture = source.capture
    if capture is None:
        raise GranaryError(
            f"source {source.name} declares no capture", todo="see docs/engine/sources/change-capture.md"
        )
    with connect(settings, role="loader", autocommit=True) as alone, _origin(settings, source, capture) as origin:
        try:  # not a row of ops.locks: a capture may follow for days, and a transaction as long would stop all vacuums
            execute(alone, f"set lock_timeout = '{LOCK_PATIENCE_SECONDS}s'")
            execute(alone, "select pg_advisory_lock(hashtextextended($1, 0))", f"granary.capture.{source.name}")
        except LockHeldError as error:
            raise GranaryError(
                f"another capture of {source.name} is running: {error.holder}", source.name, "end that one first"
            ) from None
        with connect(settings, role="loader") as connection:
            capturing = Capturing(settings, source, origin, connection, run_id)
            try:
                yield capturing
            except BaseException as error:
                capturing.end(error)
                raise
            capturing.end()


@contextmanager
def _user_errors(source: str) -> Iterator[None]:
    """Turn an error of the warehouse into one that a person can act on."""
    try:
        yield
    except psycopg.Error as error:
        raise GranaryError(
            f"the capture was interrupted by the warehouse: {reason(error)}",
            source,
            "nothing of the batch has landed; fix the cause and capture again",
        ) from None


def _origin(settings: Settings, source: Source, capture: Capture) -> Origin:
    return Origin(setting(settings, capture.setting), capture, f"source {source.name}")


class Capturing:
    """A capture that is open: `once` takes what there is, `follow` goes on until it is interrupted."""

    def __init__(self, settings: Settings, source: Source, origin: Origin, connection: Connection, run_id: str) -> None:
        self.settings, self.source, self.origin = settings, source, origin
        self.connection = connection
        self.ledger = Recorder(settings, "capture", source.name, run_id)
        self.run_id = self.ledger.run.run_id
        self.copied = self.changes = self.refused = 0
        self.started = time.perf_counter()
        self.checked = False
        self.following = False
        self.stopped = Event()
        self.replication: Replication | None = None
        self.types: dict[Relation, dict[str, str]] = {}
        check_server(origin)
        self.state = self._stored()

    def result(self) -> CaptureResult:
        """Return what was done so far."""
        lsn = self.state.lsn if self.state else "0/0"
        seconds = time.perf_counter() - self.started
        return CaptureResult(self.source.name, self.copied, self.changes, self.refused, lsn, seconds)

    def end(self, error: BaseException | None = None) -> None:
        """Keep in the run ledger how the capture ended; Ctrl-C is how one that follows does."""
        if self.following and isinstance(error, KeyboardInterrupt):
            error = None
        self.ledger.count(self.copied + self.changes)
        self.ledger.end(error, () if error else lag_of(self.source, self.origin, self.state))

    def beat(self) -> None:
        """Say once a minute in the run ledger what was done so far; its rows are in the ledger of loads."""
        self.ledger.count(self.copied + self.changes)
        self.ledger.beat(time.monotonic(), lambda: lag_of(self.source, self.origin, self.state))

    def once(self, *, anew: bool = False, progress: Callable[[CaptureResult], None] | None = None) -> CaptureResult:
        """Take everything that the source has committed until now; begin with a snapshot if there is none.

        Args:
            anew: make the slot anew and copy everything again.
            progress: called after each commit.

        Raises:
            LostSlotError: changes were lost; nothing is stored.
            GranaryError: the source or the warehouse failed; what was stored before stays.
        """
        with _user_errors(self.source.name):
            if anew or self.state is None or self.state.phase == "snapshot":
                self._snapshot(take_over=anew)
                if progress:
                    progress(self.result())
            elif not self.checked:
                with self._transaction() as tx:
                    check_rows(tx.connection, self.source)
                self._add(tuple(table for table in self.source.tables if table.name not in self.state.tables))
            self.checked = True
            more = True
            while more:
                before, more = self.state, self._take()
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
                if self.replication:
                    self.replication.cancel()
                self.origin.cancel()
                self.connection.cancel_safe()
                raise

    def _follow(self, progress: Callable[[CaptureResult], None] | None) -> None:
        """Catch up, then store what the source sends; where it does not replicate, look for changes now and then."""
        self.following = True
        while not self.stopped.is_set():
            self.once(progress=progress)
            self.beat()
            assert self.state is not None
            try:
                self.replication = self.origin.replicate(self.state.position)
            except ReplicationRefusedError:
                self.stopped.wait(POLL_SECONDS)
                continue
            with closing(self.replication), _user_errors(self.source.name):
                self._store_sent(self.replication, progress)

    def _store_sent(self, replication: Replication, progress: Callable[[CaptureResult], None] | None) -> None:
        assert self.state is not None
        decoder, state = _decoder(self.state), self.state
        tables, looked = self._look(state), time.monotonic()

        def messages(first: Part) -> Iterator[pa.Array]:
            """Yield messages; what a table is like is asked before a change of it is stored that was altered."""
            nonlocal tables, looked
            for part in replication.transactions(first):
                if part.tables or time.monotonic() - looked > LOOK_SECONDS:
                    tables, looked = self._look(state), time.monotonic()
                yield part.messages

        while not self.stopped.is_set():
            self.beat()
            began, state = time.monotonic(), self.state
            part = replication.wait(LOOK_SECONDS)
            if part is None:
                self._rest(replication, state)
                continue
            with self._transaction() as tx:
                fault_point("cdc-peeked")
                _, seen = self._land(tx, decoder, messages(part), tables)
                after = state.at(decoder.end, _instant(decoder.committed), tables=_known(state, tables, seen))
                self._store(tx, after)
            self.state = after
            fault_point("cdc-before-advance")
            replication.stored = decoder.end
            fault_point("cdc-after-advance")
            if progress:
                progress(self.result())
            self.stopped.wait(max(0.0, began + COMMIT_SECONDS - time.monotonic()))

    def _rest(self, replication: Replication, state: State) -> None:
        """With nothing to store: now and then see whether all is well, and say that the copy is complete."""
        if datetime.now(timezone.utc) - datetime.fromisoformat(state.as_of) < HEARTBEAT:
            return
        server, tables = self.origin.server(), self._look(state)
        reached = replication.reached()
        if reached >= server.flushed:
            after = state.at(reached, datetime.fromisoformat(server.clock), tables=_known(state, tables, {}))
            with self._transaction() as tx:
                self._store(tx, after)
            self.state = after
            replication.stored = reached

    def _look(self, state: State) -> dict[str, Origins]:
        """Return the tables as the source has them now.

        Raises:
            LostSlotError: one was altered so that rows differ without a change in the log.
        """
        tables = look(self.origin, self.source.tables)
        check_tables(self.source, self.origin, state, tables)
        self.types.clear()
        return tables

    # -- the state -------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[LoadTransaction]:
        with LoadTransaction(self.settings, self.source.name, self.connection) as tx:
            text = tx.watermark(STATE)
            if (State.load(text) if text else None) != self.state:
                raise GranaryError("another process has moved this capture", self.source.name, "capture again")
            yield tx

    def _stored(self) -> State | None:
        with LoadTransaction(self.settings, self.source.name, self.connection) as tx:
            text = tx.watermark(STATE)
        return State.load(text) if text else None

    def _store(self, tx: LoadTransaction, state: State) -> None:
        tx.set_watermark(STATE, state.dump(), tx.next_load_ids(1)[0])

    # -- the snapshot ----------------------------------------------------------------------------------------

    def _snapshot(self, *, take_over: bool) -> None:
        """Make the slot anew and replace the current tables by a copy that the slot's changes continue."""
        ensure_publication(self.origin, self.source.tables)
        tables = look(self.origin, self.source.tables)
        slot = self.origin.slot()
        if slot and self.state is None and not take_over:
            raise GranaryError(
                f"there is a slot {self.source.capture.slot} already, which this warehouse did not create"  # type: ignore[union-attr]
                + (", and it is in use" if slot.active else ""),
                self.origin.where,
                "give this warehouse a slot name of its own; if nobody uses that one, run"
                f" `granary capture {self.source.name} --snapshot`, which replaces it",
            )
        # Said before the slot is made: a capture that is killed in between knows the slot for its own.
        intent = replace(self.state, phase="snapshot") if self.state else State("snapshot")
        with self._transaction() as tx:
            self._store(tx, intent)
        self.state = intent
        fault_point("cdc-intent")
        lsn = self.origin.create_slot()
        fault_point("cdc-slot")
        snapshot.settle(self.origin)
        server = self.origin.server()
        with self.origin.connect(autocommit=False) as reading:
            seen = snapshot.freeze(self.origin, reading, tables)
            snapshot.harden(self.origin, seen)
            with self._transaction() as tx:
                lander = Lander(tx, self.source, f"snapshot at {lsn_text(lsn)}", self.run_id)
                self.copied += snapshot.copy(self.origin, reading, self.source, tables, lander, lsn)
                state = State(
                    phase="stream",
                    lsn=lsn_text(lsn),
                    system=server.system,
                    timeline=server.timeline,
                    snapshot=seen.text,
                    snapshot_until=lsn_text(seen.until),
                    as_of=server.clock,
                    tables={name: table.state for name, table in tables.items()},
                )
                self._store(tx, state)
        self.state = state

    def _add(self, added: tuple[Table, ...]) -> None:
        """Copy tables that the contract has gained, beside the stream of the others, which goes on from where it was.

        The same steps join copy and changes as for the first copy: these tables are in the publication, so what commits
        after every transaction of before has ended is in the stream, and what of that the copy holds is left out.
        """
        state = self.state
        if not added or state is None:
            return
        source = replace(self.source, tables=added)
        server, slot = self.origin.server(), self.origin.slot()
        check_slot(source, self.origin.where, state, server, slot)
        tables = look(self.origin, added)
        snapshot.settle(self.origin)
        with self.origin.connect(autocommit=False) as reading:
            seen = snapshot.freeze(self.origin, reading, tables)
            snapshot.harden(self.origin, seen)
            with self._transaction() as tx:
                lander = Lander(tx, source, f"snapshot at {state.lsn}", self.run_id)
                self.copied += snapshot.copy(self.origin, reading, source, tables, lander, state.position)
                copied = {
                    name: replace(table.state, snapshot=seen.text, snapshot_until=lsn_text(seen.until))
                    for name, table in tables.items()
                }
                after = replace(state, tables={**state.tables, **copied})
                self._store(tx, after)
        self.state = after

    # -- the stream ------------------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Take one peek's changes; return whether there may be more."""
        state = self.state
        assert state is not None
        server, slot = self.origin.server(), self.origin.slot()
        check_slot(self.source, self.origin.where, state, server, slot)
        tables = self._look(state)
        assert slot is not None
        messages = self.origin.peek(PEEK_MESSAGES)
        first = next(messages, None)
        if first is None or not len(first):
            self._idle(state, server, _known(state, tables, {}))
            return False
        decoder = _decoder(state)
        with self._transaction() as tx:
            fault_point("cdc-peeked")
            count, seen = self._land(tx, decoder, chain([first], messages), tables)
            complete = count < PEEK_MESSAGES
            # All that was committed before the peek was in it, so the slot may skip what others than our tables wrote.
            end = max(decoder.end, server.flushed if complete else 0)
            as_of = datetime.fromisoformat(server.clock) if complete else _instant(decoder.committed)
            after = state.at(end, as_of, tables=_known(state, tables, seen))
            self._store(tx, after)
        self.state = after
        fault_point("cdc-before-advance")
        self.origin.advance(end)
        fault_point("cdc-after-advance")
        return not complete

    def _land(
        self, tx: LoadTransaction, decoder: Decoder, messages: Iterator[pa.Array], tables: dict[str, Origins]
    ) -> tuple[int, dict[str, Mapping[str, str]]]:
        """Store what the messages say, piece by piece; return their number, and the types of the columns at last."""
        assert self.state is not None
        lander = Lander(tx, self.source, f"after {self.state.lsn}", self.run_id)
        by_oid = {tables[table.name].oid: table for table in self.source.tables}
        shapes: dict[int, dict[Relation, int]] = {}
        count = 0
        for piece in messages:
            count += len(piece)
            for changes in decoder.feed(piece):
                table = by_oid.get(changes.relation.oid)
                if table is None:
                    continue  # the publication has tables that nobody declared
                rows = source_batch(
                    changes,
                    table,
                    lambda keys, columns, table=table: lander.stored(table, keys, columns),  # type: ignore[misc]
                )
                landed = lander.land(table, rows)
                self.changes += landed.changes
                self.refused += landed.refused
                shapes.setdefault(changes.relation.oid, {})[changes.relation] = landed.load_id
        seen = {}
        for oid, relations in shapes.items():
            table = by_oid[oid]
            known = self.state.tables[table.name].types
            for relation, load_id in relations.items():
                types = self._types(relation)
                for change in differences(known, types):
                    lander.schema_change(table, load_id, change)
                known = types
            seen[table.name] = known
        return count, seen

    def _types(self, relation: Relation) -> dict[str, str]:
        """Return the types of a table's columns in the source's words."""
        if relation not in self.types:
            self.types[relation] = {
                column.name: self.origin.query(
                    "select format_type($1::bigint::oid, $2::int)", column.type_oid, column.modifier
                )[0][0]
                for column in relation.columns
            }
        return self.types[relation]

    def _idle(self, state: State, server: Server, tables: Mapping[str, TableState]) -> None:
        """Let the slot pass what others wrote, now and then; say that the copy is complete."""
        clock = datetime.fromisoformat(server.clock)
        if clock - datetime.fromisoformat(state.as_of) < HEARTBEAT and tables == state.tables:
            return
        after = state.at(max(server.flushed, state.position), clock, tables=tables)
        with self._transaction() as tx:
            self._store(tx, after)
        self.state = after
        fault_point("cdc-before-advance")
        self.origin.advance(after.position)
        fault_point("cdc-after-advance")


def _known(
    state: State, tables: Mapping[str, Origins], types: Mapping[str, Mapping[str, str]]
) -> dict[str, TableState]:
    """Return what is known of the tables now: shapes from before the messages were read, types as these have them."""
    return {
        name: replace(known, oid=table.oid, types=types.get(name, known.types), shape=table.shape.after(known.shape))
        for name, table in tables.items()
        for known in (state.tables[name],)
    }


def _decoder(state: State) -> Decoder:
    return Decoder(state.skip, {oid: seen.holds for oid, seen in state.copied().items()})


def _instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=microseconds)


def drop(settings: Settings, source: Source) -> list[str]:
    """Remove slot and publication from the source and forget the position; the raw tables stay.

    Returns:
        What was done, a sentence each.
    """
    with opened(settings, source) as capturing:
        assert source.capture is not None
        done = []
        if capturing.origin.drop_slot():
            done.append(f"Slot {source.capture.slot} is dropped.")
        done.append(_drop_publication(capturing.origin, source.capture.publication))
        with LoadTransaction(settings, source.name) as tx:
            tx.execute("delete from ops.watermarks where source = $1 and table_name = $2", source.name, STATE)
            tx.execute("delete from ops.lags where source = $1 and kind = 'slot'", source.name)
    return done


def _drop_publication(origin: Origin, name: str) -> str:
    try:
        origin.query(f"drop publication if exists {quote_name(name)}")
    except GranaryError as error:
        return f"Publication {name} stays: {error.what}."
    return f"Publication {name} is dropped."
