"""The engine knows no business: no word of the sample is in its code, SQL, messages, file names or documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import granary
from granary.warehouse.project import PROJECT

ENGINE = Path(granary.__file__).parent
WORDS = re.compile(
    r"household|retailer|basket|coupon|campaign|new[_ ]york|2017"
    r"|(?<![a-z])(?:crm|(?<!gtid_)(?<!binlog_)(?<!source\[\")pos)(?![a-z])",
    re.IGNORECASE,
)
"""MariaDB's own names for where a log is (gtid_binlog_pos, binlog_gtid_pos) are not the shop's, nor is
Debezium's (source["pos"])."""


def words(folder: Path) -> list[str]:
    """Return each line of a folder's files, and each of its paths, that has such a word."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        place = str(path.relative_to(folder.parent))
        lines = [place, *path.read_text(encoding="utf-8").splitlines()]
        found += [f"{place}:{number}: {line}" for number, line in enumerate(lines) if WORDS.search(line)]
    return found


@pytest.mark.parametrize("folder", [ENGINE, PROJECT / "docs" / "engine"], ids=["code", "documents"])
def test_the_engine_has_no_word_of_a_business(folder: Path) -> None:
    assert words(folder) == []


def test_a_word_is_found(tmp_path: Path) -> None:
    (tmp_path / "crm_rows.sql").write_text("select 1 -- position, repos\nselect 'America/New_York'\n")
    (tmp_path / "plain.py").write_text('"""Carmine posts a position."""\nPLACE = "raw_pos.orders"\n')
    assert [found.removeprefix(f"{tmp_path.name}/") for found in words(tmp_path)] == [
        f"crm_rows.sql:0: {tmp_path.name}/crm_rows.sql",
        "crm_rows.sql:2: select 'America/New_York'",
        'plain.py:2: PLACE = "raw_pos.orders"',
    ]
