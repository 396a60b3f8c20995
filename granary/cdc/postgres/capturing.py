"""The capture of a Postgres source: take changes from its slot, store them, and move the slot on."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import TYPE_CHECKING

from granary.cdc.capturing import COMMIT_SECONDS, LOOK_SECONDS, Capturing, is_old
from granary.cdc.landing import Lander, differences
from granary.cdc.postgres import snapshot
from granary.cdc.postgres.catalog import Origins, check_server, ensure_publication, look
from granary.cdc.postgres.changes import source_batch
from granary.cdc.postgres.lost_slot import check_slot, check_tables
from granary.cdc.postgres.lsn import lsn_text
from granary.cdc.postgres.origin import Origin
from granary.cdc.postgres.pgoutput import Decoder
from granary.cdc.postgres.replication import ReplicationRefusedError
from granary.cdc.postgres.state import State
from granary.cdc.postgres.status import lag_of
from granary.sources.config import setting
from granary.sources.guarantees import Guarantees
from granary.warehouse.connection import quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from granary.cdc.capturing import CaptureResult
    from granary.cdc.postgres.origin import Server
    from granary.cdc.postgres.pgoutput import Relation
    from granary.cdc.postgres.replication import Part, Replication
    from granary.cdc.postgres.state import TableState
    from granary.sources.spec import Capture, Source, Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.run_ledger import Lag
    from granary.warehouse.settings import Settings
    from granary.warehouse.writer import LoadTransaction

PEEK_MESSAGES = 400_000
"""Messages that are asked for at a time. Each time the source reads its log again from the oldest transaction that the
slot still needs, so few large peeks are faster than many small ones; the source keeps about 100 bytes for each."""

POLL_SECONDS = 0.5
"""How often a source that does not replicate is looked at."""


class PostgresCapturing(Capturing[State]):
    """A capture by logical replication."""

    guarantees = Guarantees(
        kind="changes of a Postgres",
        declared="Capture",
        command="granary capture",
        exactly_once="yes: the position in the log commits with the changes",
        deletes="yes: deletes and truncates",
        order="yes: by commit",
        lag="yes: bytes, and the age of the copy",
        page="change-capture",
        proofs=("change capture",),
    )

    def __init__(
        self, settings: Settings, source: Source, capture: Capture, connection: Connection, run_id: str
    ) -> None:
        """Connect to the source.

        Raises:
            GranaryError: it does not answer, or cannot be captured.
        """
        self.capture = capture
        self.origin = Origin(setting(settings, capture.setting), capture, f"source {source.name}")
        self.replication: Replication | None = None
        self.types: dict[Relation, dict[str, str]] = {}
        try:
            super().__init__(settings, source, connection, run_id)
            check_server(self.origin)
        except BaseException:
            self.close()
            raise

    def load_state(self, text: str) -> State:
        """Return the state that `dump` wrote."""
        return State.load(text)

    def lags(self) -> list[Lag]:
        """Return what the slot holds back, and how old the copy is."""
        return lag_of(self.source, self.origin, self.state)

    def cancel(self) -> None:
        """Break off what the source is doing for us."""
        if self.replication:
            self.replication.cancel()
        self.origin.cancel()

    def close(self) -> None:
        """Close the connection."""
        self.origin.connection.close()

    def drop(self) -> list[str]:
        """Remove slot and publication."""
        done = []
        if self.origin.drop_slot():
            done.append(f"Slot {self.capture.slot} is dropped.")
        return [*done, _drop_publication(self.origin, self.capture.publication)]

    def store_sent(self, progress: Callable[[CaptureResult], None] | None) -> None:
        """Store what the source sends; one that does not replicate is looked at now and then."""
        assert self.state is not None
        try:
            self.replication = self.origin.replicate(self.state.position)
        except ReplicationRefusedError:
            self.stopped.wait(POLL_SECONDS)
            return
        with closing(self.replication):
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
            with self.transaction() as tx:
                fault_point("cdc-peeked")
                _, seen = self._land(tx, decoder, messages(part), tables)
                after = state.at(decoder.end, _instant(decoder.committed), tables=_known(state, tables, seen))
                self.store(tx, after)
            self.state = after
            fault_point("cdc-before-advance")
            replication.stored = decoder.end
            fault_point("cdc-after-advance")
            if progress:
                progress(self.result())
            self.stopped.wait(max(0.0, began + COMMIT_SECONDS - time.monotonic()))

    def _rest(self, replication: Replication, state: State) -> None:
        """With nothing to store: now and then see whether all is well, and say that the copy is complete."""
        if not is_old(state.as_of):
            return
        server, tables = self.origin.server(), self._look(state)
        reached = replication.reached()
        if reached >= server.flushed:
            after = state.at(reached, datetime.fromisoformat(server.clock), tables=_known(state, tables, {}))
            with self.transaction() as tx:
                self.store(tx, after)
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

    # -- the snapshot ----------------------------------------------------------------------------------------

    def snapshot(self, *, take_over: bool) -> None:
        """Make the slot anew and replace the current tables by a copy that the slot's changes continue."""
        ensure_publication(self.origin, self.source.tables)
        tables = look(self.origin, self.source.tables)
        slot = self.origin.slot()
        if slot and self.state is None and not take_over:
            raise GranaryError(
                f"there is a slot {self.capture.slot} already, which this warehouse did not create"
                + (", and it is in use" if slot.active else ""),
                self.origin.where,
                "give this warehouse a slot name of its own; if nobody uses that one, run"
                f" `granary capture {self.source.name} --snapshot`, which replaces it",
            )
        # Said before the slot is made: a capture that is killed in between knows the slot for its own.
        intent = replace(self.state, phase="snapshot") if self.state else State("snapshot")
        with self.transaction() as tx:
            self.store(tx, intent)
        self.state = intent
        fault_point("cdc-intent")
        lsn = self.origin.create_slot()
        fault_point("cdc-slot")
        snapshot.settle(self.origin)
        server = self.origin.server()
        with self.origin.connect(autocommit=False) as reading:
            seen = snapshot.freeze(self.origin, reading, tables)
            snapshot.harden(self.origin, seen)
            with self.transaction() as tx:
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
                self.store(tx, state)
        self.state = state

    def add(self, added: tuple[Table, ...]) -> None:
        """Copy tables that the contract has gained, beside the stream of the others, which goes on from where it was.

        The same steps join copy and changes as for the first copy: these tables are in the publication, so what commits
        after every transaction of before has ended is in the stream, and what of that the copy holds is left out.
        """
        state = self.state
        if not added or state is None:
            return
        source = replace(self.source, tables=added)
        server, slot = self.origin.server(), self.origin.slot()
        check_slot(source, self.capture, self.origin.where, state, server, slot)
        tables = look(self.origin, added)
        snapshot.settle(self.origin)
        with self.origin.connect(autocommit=False) as reading:
            seen = snapshot.freeze(self.origin, reading, tables)
            snapshot.harden(self.origin, seen)
            with self.transaction() as tx:
                lander = Lander(tx, source, f"snapshot at {state.lsn}", self.run_id)
                self.copied += snapshot.copy(self.origin, reading, source, tables, lander, state.position)
                copied = {
                    name: replace(table.state, snapshot=seen.text, snapshot_until=lsn_text(seen.until))
                    for name, table in tables.items()
                }
                after = replace(state, tables={**state.tables, **copied})
                self.store(tx, after)
        self.state = after

    # -- the stream ------------------------------------------------------------------------------------------

    def take(self) -> bool:
        """Take one peek's changes; return whether there may be more."""
        state = self.state
        assert state is not None
        server, slot = self.origin.server(), self.origin.slot()
        check_slot(self.source, self.capture, self.origin.where, state, server, slot)
        tables = self._look(state)
        assert slot is not None
        messages = self.origin.peek(PEEK_MESSAGES)
        first = next(messages, None)
        if first is None or not len(first):
            self._idle(state, server, _known(state, tables, {}))
            return False
        decoder = _decoder(state)
        with self.transaction() as tx:
            fault_point("cdc-peeked")
            count, seen = self._land(tx, decoder, chain([first], messages), tables)
            complete = count < PEEK_MESSAGES
            # All that was committed before the peek was in it, so the slot may skip what others than our tables wrote.
            end = max(decoder.end, server.flushed if complete else 0)
            as_of = datetime.fromisoformat(server.clock) if complete else _instant(decoder.committed)
            after = state.at(end, as_of, tables=_known(state, tables, seen))
            self.store(tx, after)
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
        if not is_old(state.as_of, clock) and tables == state.tables:
            return
        after = state.at(max(server.flushed, state.position), clock, tables=tables)
        with self.transaction() as tx:
            self.store(tx, after)
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


def _drop_publication(origin: Origin, name: str) -> str:
    try:
        origin.query(f"drop publication if exists {quote_name(name)}")
    except GranaryError as error:
        return f"Publication {name} stays: {error.what}."
    return f"Publication {name} is dropped."
