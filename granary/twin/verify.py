"""Whether the twin is what the marts are: its rows go back into Postgres, which hashes them as when it published."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

from granary.twin import catalog, config, duck, ledger
from granary.twin.copies import COPIES, Copy
from granary.warehouse.connection import connect, execute, query, quote_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.twin.ledger import Ledger, Mart
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

BACK = "twin_rows"
DIGEST = "select row_count, digest::text from ops.digest_of($1, $2, $3::jsonb)"
ROWS = 100_000
"""Rows that are sent at a time."""


@dataclass(frozen=True)
class Checked:
    """A mart of a copy, as a publish left it: rows and digest by the ledger, and of the twin's rows in Postgres.

    A mart with masks has another digest in the shared copy: that of what `analyst` sees of it.
    """

    copy: str
    publish_id: int
    mart: str
    row_count: int
    digest: str | None
    found_row_count: int
    found_digest: str

    @property
    def is_same(self) -> bool:
        """Whether both are the same."""
        return (self.row_count, self.digest) == (self.found_row_count, self.found_digest)

    @property
    def told(self) -> dict[str, Any]:
        """All of it, for a program."""
        return {**asdict(self), "is_same": self.is_same}


def verify(settings: Settings, *, all_publishes: bool = False) -> Iterator[Checked]:
    """Yield each mart of each copy, read back and hashed by Postgres.

    Args:
        settings: the warehouse.
        all_publishes: those of every publish that is kept, and not only of the one that is shown.

    Raises:
        GranaryError: the project has no twin, or its packages are not installed.
    """
    config.required(settings)
    with connect(settings, role="transformer") as connection, duck.session(settings) as engine:
        execute(connection, "set transaction isolation level repeatable read")
        execute(connection, "set local time zone 'UTC'")
        known = ledger.read(connection)
        for copy in COPIES:
            labels = catalog.labels(connection, copy.catalog)
            wanted = [one for one in labels if one.event in known.kept] if all_publishes else list(labels[-1:])
            if wanted:
                duck.attach_twin(engine, settings, copy.reader, copy.catalog, copy.catalog, read_only=True)
            for label in wanted:
                for mart in known.state(label.shows):
                    if mart.name in label.marts:
                        yield _check(connection, engine, known, copy, mart, label.shows, label.snapshot)


def _check(
    connection: Connection, engine: Any, known: Ledger, copy: Copy, mart: Mart, publish: int, snapshot: int
) -> Checked:
    columns = ", ".join(f"{one.sql} {one.kind}" for one in mart.columns)
    execute(connection, f"create temporary table {BACK} ({columns})")
    rows = f"{copy.catalog}.marts.{quote_name(mart.name)} at (version => {snapshot})"
    values = ", ".join(f"{one.given_back} as c{place}" for place, one in enumerate(mart.columns))
    reader = engine.execute(f"select {values} from {rows}").fetch_record_batch(ROWS)
    with connection.cursor() as cursor, cursor.copy(f"copy {BACK} from stdin (format csv)".encode()) as into:
        for batch in reader:
            into.write(_lines(batch))
    names = [one.name for one in mart.columns]
    types = ledger.types(mart)
    ((found_rows, found),) = query(connection, DIGEST, f"pg_temp.{BACK}", names, types)
    execute(connection, f"drop table pg_temp.{BACK}")
    row_count, digest = mart.mark.rows, mart.mark.digest
    if dict(mart.copies())[copy] and mart.masked:
        source = mart.table if publish == known.shown else f"({ledger.past(connection, mart, publish)})"
        seen = f"(select {mart.seen()} from {source} as source) as seen"
        ((row_count, digest),) = query(connection, DIGEST, seen, names, types)
    return Checked(copy.catalog, publish, mart.name, row_count, digest, found_rows, found)


def _lines(batch: pa.RecordBatch) -> bytes:
    """Return rows of texts as CSV in which null is an empty value and an empty text has quotes."""
    buffer = BytesIO()
    csv.write_csv(batch, buffer, csv.WriteOptions(include_header=False, quoting_style="needed"))
    return buffer.getvalue()
