"""An encoding that nobody declared is that of the whole text; what is not text in it refuses its row."""

from __future__ import annotations

import bz2
import gzip
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.readers.files import Csv
from granary.readers.files import text as text_reader
from granary.readers.files.sniff import sniff
from granary.sources.spec import Column
from granary.warehouse import server
from granary.warehouse.connection import connect, execute
from tests.python.engine.files.conftest import label, table
from tests.python.support.workbooks import archive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.python.engine.files.conftest import Zone

COLUMNS = (Column("id", pa.int64(), "Number.", nullable=False), Column("name", pa.string(), "Name."))
GUESSED = [("", "guessed", "the text is not UTF-8 and is read as cp1252: declare its encoding")]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files of many blocks: the first bytes tell nothing of the others."""
    monkeypatch.setattr(text_reader, "BLOCK_BYTES", 1000)
    monkeypatch.setattr("granary.readers.files.delimited.HEAD_BYTES", 500)


def lines(*names: bytes) -> bytes:
    """Return a delimited text."""
    return b"id,name\n" + b"".join(b"%d,%s\n" % (number, name) for number, name in enumerate(names, 1))


def load(zone: Zone, content: bytes, name: str = "people.csv", **options: Any) -> Any:
    """Load a file; return what landed by id, the places of refused rows, and what was told."""
    zone.put(name, content)
    result = zone.load(table(columns=COLUMNS, max_refused=0.5), **options)
    told = [(change.column, change.change, change.detail) for change in result.changes]
    return dict(zone.rows("id, name")), [row for row, *_ in zone.refused()], told


ASCII, UMLAUT, LATIN = b"Ada", "Zoë".encode(), "Zoë".encode("cp1252")


@pytest.mark.parametrize("at", [0, 1, 300, 999])
@pytest.mark.parametrize(
    ("good", "others"), [(UMLAUT, 999), (ASCII, 998)], ids=["all beyond ASCII", "one beyond ASCII"]
)
def test_one_bad_byte_in_utf8_refuses_its_row(zone: Zone, at: int, good: bytes, others: int) -> None:
    names = [good] * others + [UMLAUT] * (999 - others)
    names.insert(at, LATIN)
    landed, refused, told = load(zone, lines(*names))
    assert (len(landed), refused, told) == (999, [at + 1], [])
    assert set(landed.values()) == {name.decode() for name in names if name != LATIN}
    [(_, line, _, reason, payload)] = zone.refused()
    assert (line, reason) == (at + 2, "is not text: byte 0xeb is invalid in its encoding")
    assert "Zo\\\\xeb" in payload


@pytest.mark.parametrize("first", [0, 700])
@pytest.mark.parametrize(
    ("name", "pack"),
    [("people.csv", bytes), ("people.csv.gz", gzip.compress), ("people.csv.bz2", bz2.compress),
     ("people.zip", lambda body: archive(**{"a.csv": body}))],
    ids=label,
)  # fmt: skip
def test_a_text_of_windows_is_read_as_such_and_that_is_told(zone: Zone, first: int, name: str, pack: Any) -> None:
    names = [ASCII] * first + [LATIN] * 10 + [ASCII] * 700 + ["Łódź €".encode("cp1252", "ignore")]
    landed, refused, told = load(zone, pack(lines(*names)), name)
    assert (refused, told) == ([], GUESSED)
    assert list(landed.values()) == [each.decode("cp1252") for each in names]
    assert zone.query("select change from ops.schema_changes where source = $1", zone.name) == [("guessed",)]


def test_a_mixture_is_utf8_and_its_other_rows_are_refused(zone: Zone) -> None:
    landed, refused, told = load(zone, lines(*[ASCII] * 500, *[LATIN] * 300, *[UMLAUT] * 400))
    assert (len(landed), refused, told) == (900, list(range(501, 801)), [])
    assert "ZoÃ«" not in landed.values()


def test_a_declared_encoding_is_not_doubted(zone: Zone) -> None:
    landed, refused, told = load(zone, lines(LATIN, ASCII), format=Csv(encoding="cp1252"))
    assert (landed, refused, told) == ({1: "Zoë", 2: "Ada"}, [], [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_wide_encodings_are_told_by_their_mark_or_their_zeros(zone: Zone, encoding: str) -> None:
    landed, refused, told = load(zone, lines(UMLAUT, ASCII).decode().encode(encoding))
    assert (landed, refused, told) == ({1: "Zoë", 2: "Ada"}, [], [])


def test_a_declared_encoding_in_which_a_byte_is_no_character_refuses_the_row(zone: Zone) -> None:
    landed, refused, _ = load(zone, lines(b"\x81", LATIN), format=Csv(encoding="cp1252"))
    assert (landed, refused) == ({2: "Zoë"}, [1])


def test_what_is_this_file_looks_at_all_of_it(tmp_path: Path) -> None:
    for content, encoding in (
        (lines(LATIN, *[ASCII] * 99_000, UMLAUT), "utf-8"),
        (lines(*[ASCII] * 99_000, LATIN), "cp1252"),
    ):
        (tmp_path / "a.csv").write_bytes(content)
        assert sniff(str(tmp_path / "a.csv")).options.encoding == encoding  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["people.json", "people.jsonl"])
def test_json_is_never_of_windows(zone: Zone, name: str) -> None:
    zone.put(name, b'{"id": 1, "name": "Zo\xeb"}\n' if name.endswith("l") else b'[{"id": 1, "name": "Zo\xeb"}]')
    result = zone.load(table(columns=COLUMNS, max_refused=1))
    assert (zone.query("select count(*) from ops.quarantine where source = $1", zone.name)) == [(1,)]
    assert (zone.rows("id"), result.changes) == ([], ())


def test_a_warehouse_that_was_made_before_takes_guesses(zone: Zone) -> None:
    with connect(zone.settings) as connection:
        execute(connection, "drop table ops.migrations")
        execute(
            connection,
            "alter table ops.schema_changes drop constraint schema_changes_change_check,"
            " add constraint schema_changes_change_check check (change in ('added', 'ignored')) not valid",
        )
        connection.commit()
    server.prepare(zone.settings)
    _, refused, told = load(zone, lines(LATIN))
    assert (refused, told) == ([], GUESSED)
