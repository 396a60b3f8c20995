"""The capture of a MySQL or MariaDB source: take transactions from its binary log, and store them."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from granary.cdc.capturing import COMMIT_SECONDS, LOOK_SECONDS, Capturing, is_old
from granary.cdc.landing import Lander, differences
from granary.cdc.mysql import snapshot
from granary.cdc.mysql.catalog import captured, check_server, codecs, look
from granary.cdc.mysql.changes import source_batch
from granary.cdc.mysql.decoder import Decoder
from granary.cdc.mysql.gtid import GtidSet
from granary.cdc.mysql.log import Log
from granary.cdc.mysql.server import Server
from granary.cdc.mysql.state import State, TableState
from granary.cdc.mysql.status import check_log, lag_of
from granary.sources.capture import changes_table
from granary.sources.config import setting
from granary.sources.guarantees import Guarantees
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.records import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from granary.cdc.capturing import CaptureResult
    from granary.cdc.mysql.decoder import Changes
    from granary.cdc.mysql.log import Part
    from granary.sources.spec import BinlogCapture, Source, Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.run_ledger import Lag
    from granary.warehouse.settings import Settings
    from granary.warehouse.writer import LoadTransaction


class BinlogCapturing(Capturing[State]):
    """A capture by the binary log."""

    guarantees = Guarantees(
        kind="changes of a MySQL or MariaDB",
        declared="BinlogCapture",
        command="granary capture",
        exactly_once="yes: the set of GTIDs commits with the changes",
        deletes="yes: deletes and truncates",
        order="yes: by commit",
        lag="yes: bytes, and the age of the copy",
        page="binlog-capture",
        proofs=("mysql",),
    )

    def __init__(
        self, settings: Settings, source: Source, capture: BinlogCapture, connection: Connection, run_id: str
    ) -> None:
        """Connect to the source.

        Raises:
            GranaryError: it does not answer, or cannot be captured.
        """
        self.server = Server(setting(settings, capture.setting), capture, source.name)
        self.log: Log | None = None
        self.decoder: Decoder | None = None
        self.began, self.number = "", 0
        try:
            super().__init__(settings, source, connection, run_id)
            check_server(self.server)
        except BaseException:
            self.close()
            raise

    def load_state(self, text: str) -> State:
        """Return the state that `dump` wrote."""
        return State.load(text)

    def lags(self) -> list[Lag]:
        """Return how many bytes of the log are not stored, and how old the copy is."""
        return lag_of(self.source, self.server, self.state)

    def cancel(self) -> None:
        """Break off what the source is doing for us."""
        if self.log:
            self.log.cancel()
        self.server.cancel()

    def close(self) -> None:
        """Close the connections."""
        self._leave()
        self.server.close()

    def drop(self) -> list[str]:
        """Remove nothing: a log keeps nothing for those who read it."""
        return ["The source keeps nothing for a capture, so there is nothing to remove there."]

    # -- the snapshot ----------------------------------------------------------------------------------------

    def snapshot(self, *, take_over: bool) -> None:
        """Replace the current tables by a copy that the log continues."""
        tables = look(self.server, self.source.tables)
        intent = replace(self.state, phase="snapshot") if self.state else State("snapshot")
        with self.transaction() as tx:
            self.store(tx, intent)
        self.state = intent
        fault_point("cdc-intent")
        with closing(snapshot.reading(self.server)) as reading:
            seen = snapshot.freeze(self.server, reading, tables)
            fault_point("cdc-slot")
            with self.transaction() as tx:
                commits = max(intent.commits, self._commits(tx))
                lander = Lander(tx, self.source, f"snapshot at {seen.gtid or seen.position}", self.run_id)
                self.copied += snapshot.copy(self.server, reading, self.source, tables, lander, commits, seen.instant)
                after = State(
                    phase="stream",
                    gtid=seen.gtid,
                    file=seen.file,
                    position=seen.position,
                    server=self.server.now().server,
                    commits=commits,
                    as_of=seen.clock,
                    tables={name: TableState(table.types) for name, table in tables.items()},
                )
                self.store(tx, after)
        self.state = after
        self._leave()

    def _commits(self, tx: LoadTransaction) -> int:
        """Return the last commit's number in the change tables, of a capture that was dropped or of another kind."""
        found = [0]
        for table in self.source.tables:
            contract = changes_table(table)
            changes = Target(self.source.name, contract.name, contract.schema, ())
            if tx.columns(changes):
                found += [int(row[0]) for row in tx.query(f"select coalesce(max(cdc_lsn), 0) from {changes.sql_name}")]
        return max(found)

    def add(self, added: tuple[Table, ...]) -> None:
        """Copy tables that the contract has gained; the log of the others goes on from where it was."""
        state = self.state
        if not added or state is None:
            return
        source = replace(self.source, tables=added)
        check_log(self.source, self.server, state, self.server.now())
        tables = look(self.server, added)
        with closing(snapshot.reading(self.server)) as reading:
            seen = snapshot.freeze(self.server, reading, tables)
            with self.transaction() as tx:
                lander = Lander(tx, source, f"snapshot at {seen.gtid}", self.run_id)
                self.copied += snapshot.copy(self.server, reading, source, tables, lander, state.commits, seen.instant)
                copied = {name: TableState(table.types, seen.gtid) for name, table in tables.items()}
                after = replace(state, tables={**state.tables, **copied})
                self.store(tx, after)
        self.state = after
        self._leave()

    # -- the log ---------------------------------------------------------------------------------------------

    def take(self) -> bool:
        """Store one part of what the log has now; return whether there may be more."""
        state = self.state
        assert state is not None
        if self.log is None:
            self._enter(state, follow=False)
        log, decoder = self._reading()
        part = log.wait()
        if part is not None:
            self._keep(log, decoder, part)
            return True
        self._rest(decoder, self.began, always=state.gtid != str(decoder.stored))
        self._leave()
        return False

    def store_sent(self, progress: Callable[[CaptureResult], None] | None) -> None:
        """Store what the source sends."""
        assert self.state is not None
        self._enter(self.state, follow=True)
        log, decoder = self._reading()
        try:
            while not self.stopped.is_set():
                self.beat()
                began = time.monotonic()
                part = log.wait(LOOK_SECONDS)
                if part is not None and self._keep(log, decoder, part):
                    if progress:
                        progress(self.result())
                elif is_old(self.state.as_of):
                    now = self.server.now()
                    is_complete = decoder.stored.holds(GtidSet.parse(now.gtid))
                    clock = now.clock if is_complete else _instant(decoder.committed).isoformat()
                    self._rest(decoder, clock, always=True)
                if part is not None:
                    self.stopped.wait(max(0.0, began + COMMIT_SECONDS - time.monotonic()))
        finally:
            self._leave()

    def _enter(self, state: State, *, follow: bool) -> None:
        """Have the source send what is not stored, and be ready to read it."""
        now = self.server.now()
        self.began, self.number = now.clock, now.server
        check_log(self.source, self.server, state, now)
        tables = look(self.server, self.source.tables)
        for name in tables:
            if name not in state.tables:
                todo = f"run `granary capture {self.source.name}`, which copies it and goes on with the others"
                raise GranaryError(f"table {name} has not been copied yet", self.server.where, todo)
        self.decoder = Decoder(
            self.source.name,
            self.server.is_mariadb,
            captured(tables),
            codecs(self.server),
            state.stored,
            state.commits,
            state.copied(),
            state.file,
            state.position,
        )
        self.log = Log(self.server, state.stored, follow=follow)

    def _leave(self) -> None:
        if self.log:
            self.log.close()
        self.log = self.decoder = None

    def _reading(self) -> tuple[Log, Decoder]:
        assert self.log is not None
        assert self.decoder is not None
        return self.log, self.decoder

    def _keep(self, log: Log, decoder: Decoder, part: Part) -> bool:
        """Store a part of the log, and what completes its last transaction; return whether there was anything in it."""
        state = self.state
        assert state is not None
        changed = decoder.feed(part.events)
        if part.whole and not changed:
            return False  # of others: passed over with what comes next
        with self.transaction() as tx:
            fault_point("cdc-peeked")
            lander = Lander(tx, self.source, f"after {state.gtid or 'the beginning'}", self.run_id)
            types = self._land(lander, changed)
            for following in log.transactions(part):
                if following is not part:
                    types |= self._land(lander, decoder.feed(following.events))
            after = self._after(state, decoder, _instant(decoder.committed), types)
            self.store(tx, after)
        self.state = after
        return True

    def _land(self, lander: Lander, changed: Iterable[Changes]) -> dict[str, Mapping[str, str]]:
        """Store changes; return the types of the columns at last, of the tables that have some."""
        assert self.state is not None
        seen: dict[str, Mapping[str, str]] = {}
        for changes in changed:
            table = self.source.table(changes.contract)
            landed = lander.land(table, source_batch(changes, table))
            self.changes += landed.changes
            self.refused += landed.refused
            types = {column.name: column.words for column in changes.table.columns}
            known = seen.get(table.name, self.state.tables[table.name].types)
            for change in differences(known, types) if types else ():
                lander.schema_change(table, landed.load_id, change)
            seen[table.name] = types or known
        return seen

    def _rest(self, decoder: Decoder, clock: str, *, always: bool) -> None:
        """With nothing to store: say now and then that the copy is complete, and pass over what others wrote."""
        state = self.state
        assert state is not None
        if not always and not is_old(state.as_of):
            return
        after = self._after(state, decoder, datetime.fromisoformat(clock), {})
        with self.transaction() as tx:
            self.store(tx, after)
        self.state = after

    def _after(self, state: State, decoder: Decoder, as_of: datetime, types: Mapping[str, Mapping[str, str]]) -> State:
        tables = {name: replace(table, types=types.get(name, table.types)) for name, table in state.tables.items()}
        after = replace(
            state,
            gtid=str(decoder.stored),
            file=decoder.file,
            position=decoder.position,
            server=self.number,
            commits=decoder.commits,
            as_of=as_of.isoformat(),
            tables=tables,
        )
        behind = after.copied()
        return replace(
            after,
            tables={name: table if name in behind else replace(table, copied="") for name, table in tables.items()},
        )


def _instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=microseconds)
