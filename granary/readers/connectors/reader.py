"""The reader of a connector: one run per table, in the warehouse's own terms of units, batches and positions."""

from __future__ import annotations

import os
import tempfile
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.readers.connectors import catalog, messages
from granary.readers.connectors.batches import files
from granary.readers.connectors.process import secrets_in
from granary.readers.connectors.run import Call, Position, Run
from granary.sources.attempt import of_error
from granary.sources.units import Unit
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from granary.sources.guarantees import Guarantees
    from granary.sources.spec import Table
    from granary.sources.units import SourceBatch
    from granary.warehouse.findings import Finding

WITHOUT_KEY = "its rows could not be told apart when the tap sends some again"


class ConnectorReader:
    """Reads the streams of a Singer tap, or of what speaks like one; `Table.location` is the stream's name.

    What is a unit: the rows of one run, up to a state of the tap's. A table that is merged or appended to is committed
    in parts, each with the state that follows its rows; one that is replaced is read from its beginning and whole.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        config: Mapping[str, Any],
        *,
        needs: Mapping[str, tuple[str, ...]],
        metadata: Mapping[str, Mapping[str, Any]],
        silence: float,
        rows: int,
        seconds: float,
        more: Mapping[str, str],
        guarantees: Guarantees,
    ) -> None:
        """Remember how it is run; nothing is started yet."""
        self.guarantees = guarantees
        self.name, self.command, self.config = name, command, config
        self.needs, self.metadata = needs, metadata
        self.silence, self.rows, self.seconds, self.more_environment = silence, rows, seconds, more
        self.hidden: tuple[str, ...] = ()
        self.whole = False
        self._runs: dict[str, Run] = {}
        self._spools: dict[str, Path] = {}

    def hide(self, values: Sequence[str]) -> None:
        """Take note of values that must not be shown."""
        self.hidden = tuple(values)

    @cached_property
    def call(self) -> Call:
        """How it is called."""
        secrets = tuple(secrets_in(self.config, self.hidden))
        command = tuple(self.command())
        return Call(self.name, command, self.config, secrets, self.silence, self.more_environment)

    @cached_property
    def streams(self) -> list[dict[str, Any]]:
        """The entries of its catalogue.

        Raises:
            GranaryError: it does not say.
        """
        return catalog.parse(self.call.printed(["--discover"]), self.name)

    # -- as a reader -----------------------------------------------------------------------------------------

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the rows of a run, which begins here.

        A run that rests where the warehouse is goes on; another one is ended, and begins anew from there.

        Raises:
            GranaryError: the table has no key and is not replaced whole, the connector is not installed, or it fails.
        """
        if table.disposition == "append" and not table.key:
            todo = "declare its key, or replace_unit: then the rows of each run replace those before"
            raise GranaryError(f"{table.name} appends without a key, so {WITHOUT_KEY}", table.location, todo)
        name = f"{self.name}:{table.location}"
        if table.disposition == "replace_unit":
            return [Unit(name, content=lambda: self._spooled(table))]
        resting = self._runs.get(table.name)
        if resting and resting.resting and not self.whole and resting.position.dump() == watermark:
            return [Unit(name)]
        self._begin(table, None if table.disposition == "replace" else watermark)
        return [Unit(name)]

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        """Yield the rows.

        Raises:
            UnreachableError: the connector failed: it ended with an error, or said nothing for too long.
            ContractBrokenError: a SCHEMA is not as agreed.
        """
        if table.disposition == "replace_unit" and table.name not in self._spools:
            self._spooled(table)
        run = self._runs[table.name]
        run.whole = run.whole or self.whole or table.disposition in ("replace", "replace_unit")
        try:
            yield from run.source_batches(self.rows, self.seconds)
        finally:
            if not run.resting:
                run.close()
                self._spools.pop(table.name, None)

    def examine(self, tables: Sequence[Table]) -> Iterator[Finding]:
        """Yield what is in the way of running it, and streams that it does not offer; no record is read."""
        try:
            for table in tables:
                catalog.find(self.streams, table.location, self.name)
        except GranaryError as error:
            yield of_error(error, self.name)

    def position(self, table: Table) -> str | None:
        """Return where the tap goes on after what was read; None if it begins at its beginning each time."""
        run = self._runs.get(table.name)
        if run is None or table.disposition in ("replace", "replace_unit"):
            return None
        return None if run.position == Position() else run.position.dump()

    def has_more(self, table: Table) -> bool:
        """Return whether what was read ends at a state, and the run goes on."""
        run = self._runs.get(table.name)
        return run is not None and run.resting

    def replaces(self, table: Table) -> bool:
        """Return whether what was read is all that there is of the table: the tap has activated a new version."""
        run = self._runs.get(table.name)
        return run is not None and run.replaces

    # -- runs ------------------------------------------------------------------------------------------------

    def _begin(self, table: Table, watermark: str | None) -> Run:
        if before := self._runs.pop(table.name, None):
            before.close()
        position = Position.load(watermark, f"{self.name}, {table.location}")
        needs = self.needs.get(table.location, ())
        chosen = catalog.chosen(self.streams, table, needs, self.metadata.get(table.location, {}), self.name)
        names = catalog.names_of(catalog.find(self.streams, table.location, self.name))
        run = self._runs[table.name] = Run(self.call, table, names, chosen, position)
        return run

    def _spooled(self, table: Table) -> str:
        """Keep a whole run on disk, and return the hash of its records: a table that did not change is not loaded."""
        run = self._begin(table, None)
        digest, heads = sha256(), messages.Heads()
        handle, path = tempfile.mkstemp(dir=run.folder.name, prefix="spool-")
        with os.fdopen(handle, "wb") as spool:
            for line in run.lines:
                found = heads.record(line)
                if found and found[0] not in run.names:
                    continue
                digest.update(found[1].text if found else _content(line))
                spool.write(line + b"\n")
        self._spools[table.name] = Path(path)
        run.lines = _lines(Path(path))
        return digest.hexdigest()


def _content(line: bytes) -> bytes:
    """Return what tells whether the content of a message that is no plain record has changed."""
    message = messages.message(line)
    if isinstance(message, str):
        return line
    if message["type"] == "BATCH":
        hashes = [sha256(path.read_bytes()).digest() for path in files(message, "") if path.is_file()]
        return b"".join(hashes)
    return b"" if message["type"] in ("STATE", "ACTIVATE_VERSION", "SCHEMA") else line


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")
