"""The drill restores the newest backup, compares it with its own records, and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.backup import compare
from granary.backup.config import Config
from granary.backup.drill import drill
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from tests.python.engine.backup.conftest import Kept

if TYPE_CHECKING:
    from granary.readers.files.destination import Folder
    from granary.warehouse.connection import Connection

LAST = (
    "select name, succeeded, detail ->> 'problem' from ops.backups where kind = 'drill' order by backup_id desc limit 1"
)


def test_a_good_backup_passes(kept: Kept) -> None:
    report = drill(kept.settings, kept.config)
    assert report.words == ""
    assert report.backup == kept.backups[1].name
    assert [(check.what, check.subject, check.detail) for check in report.checks] == [
        ("mart", "marts.takings", "3 rows, digest of publish 1"),
        ("raw", "raw_till.receipts", "3 rows"),
        ("position", "till.receipts", "as far as the warehouse, or behind it: the rest is loaded again"),
        ("forgotten", "nobody", "nobody was forgotten yet"),
    ]
    kept_report = json.loads((kept.settings.home / "backup" / "drill.json").read_text())
    assert (kept_report["passed"], kept_report["seconds_lost"] >= 0) == (True, True)
    with connect(kept.settings) as connection:
        assert query(connection, LAST) == [(report.backup, True, "")]
    assert server.running(kept.settings)
    assert not (kept.settings.home / "drill").exists()


def test_a_damaged_one_fails_in_plain_words(kept: Kept, copy: Folder) -> None:
    path = Path(copy.place) / kept.backups[1].file("base.tar.zst")
    path.write_bytes(path.read_bytes()[:-9])
    report = drill(kept.settings, Config(to=copy.place))
    assert not report.passed
    assert "the file is damaged" in report.words
    with connect(kept.settings) as connection:
        assert query(connection, LAST)[0][1:] == (False, report.words)
    assert not (kept.settings.home / "drill").exists()


def wrong(connection: Connection) -> list[tuple[str, str]]:
    """Return what is not as it should be, and take back what was done."""
    checks = [*compare.marts(connection), *compare.raw(connection)]
    connection.rollback()
    return [(check.subject, check.detail) for check in checks if not check.passed]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("select", []),
        (
            "update marts.takings set amount = 21 where amount = 20",
            [("marts.takings", "its digest is another than that of publish 1")],
        ),
        ("drop table marts.takings", [("marts.takings", "it is not there")]),
        (
            "delete from marts.takings where amount = 20",
            [("marts.takings", "2 rows, and publish 1 has 3")],
        ),
        (
            "delete from raw_till.receipts where amount = 20",
            [("raw_till.receipts", "2 rows, 3 by the ledger, 1 loads have others than it says")],
        ),
        (
            "update raw_till.receipts set _load_id = 8 where amount = 20",
            [("raw_till.receipts", "3 rows, 2 loads have others than it says")],
        ),
        ("drop table raw_till.receipts", [("raw_till.receipts", "it is not there")]),
    ],
)
def test_what_differs_is_named(kept: Kept, damage: str, found: list[tuple[str, str]]) -> None:
    with connect(kept.settings) as connection:
        execute(connection, damage)
        assert wrong(connection) == found
