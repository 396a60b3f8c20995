"""A warehouse that was made before a load could tell copies and withdrawals takes them after the next `granary up`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.load.api import load_table
from granary.load.withdrawal import withdraw
from granary.warehouse import server
from granary.warehouse.connection import connect, execute
from tests.python.engine.ingestion.conftest import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings
    from tests.python.engine.ingestion.conftest import Landing

    Rows = Callable[..., list[tuple[object, ...]]]

EARLIER = (
    "drop table ops.migrations",
    "drop table ops.files_not_loaded",
    "alter table ops.load_audit drop constraint load_audit_status_check",
    "alter table ops.load_audit add constraint load_audit_status_check"
    " check (status in ('loaded', 'unchanged', 'failed', 'unreadable'))",
    "alter table ops.quarantine drop constraint quarantine_status_check",
    "alter table ops.quarantine add constraint quarantine_status_check"
    " check (status in ('open', 'replayed', 'dropped', 'superseded'))",
)


def test_the_ledger_of_an_earlier_version_is_brought_up_to_date(
    warehouse: Settings, landing: Landing, rows: Rows
) -> None:
    with connect(warehouse) as connection:
        for statement in EARLIER:
            execute(connection, statement)
        connection.commit()
    server.prepare(warehouse)
    content = landing.put("2017-01-02", lines("2017-01-02")).read_bytes()
    landing.put("2017-01-03", content)
    landing.put("2017-01-04", lines("2017-01-04", 3, member_id=[1, None, 3]))
    load_table(warehouse, "till", "receipts")
    (landing.folder / "receipts" / "2017-01-02.parquet").unlink()
    withdraw(warehouse, "till", "receipts", ["receipts/2017-01-02.parquet"])
    assert rows("select status from ops.load_audit order by status") == [
        ("duplicate",),
        ("failed",),
        ("loaded",),
        ("withdrawn",),
    ]
    assert rows("select status from ops.quarantine") == [("failed",)]
    assert load_table(warehouse, "till", "receipts").units_loaded == ("receipts/2017-01-03.parquet",)
