"""Words for no value in one column, texts that JSON mixes with numbers, and rows that end with a delimiter."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load.contract import conform, shape
from granary.readers.files import Csv, FileReader, FixedWidth
from granary.sources.spec import Column, Table

if TYPE_CHECKING:
    from pathlib import Path

    from granary.readers.files.formats import Format

WORDS = ("NA", "-")
COLUMNS = (
    Column("id", pa.int64(), "Key."),
    Column("speed", pa.int64(), "Speed.", null=WORDS),
    Column("day", pa.date32(), "Day.", null=WORDS, aliases=("Day of it",)),
    Column("note", pa.string(), "Note."),
)


def load(folder: Path, name: str, text: str, columns: tuple[Column, ...], options: Format | None = None) -> Any:
    """Return the accepted rows, and the columns and reasons of the refused ones."""
    (folder / name).write_text(text)
    table = Table("t", "A table.", name, columns, "replace_unit", timedelta(days=1))
    reader = FileReader(str(folder), options={"t": options} if options else None)
    (unit,) = reader.units(table, None)
    accepted: list[dict[str, Any]] = []
    refused: list[tuple[str, str]] = []
    for source_batch in reader.read(table, unit, None):
        batch, _, bad = conform(
            table, shape(table, source_batch.batch.schema, name, text=source_batch.text), source_batch, 1
        )
        accepted += batch.to_pylist()
        refused += [(one.column, one.reason) for one in bad]
    return [tuple(row.values()) for row in accepted], refused


def test_a_word_stands_for_no_value_in_its_own_column_only(tmp_path: Path) -> None:
    text = 'id,speed,Day of it,note\n1,NA,2024-01-01,NA\n2,"-", NA ,-\n3,7,-,x\n4,none,-,x\n'
    rows, refused = load(tmp_path, "t.csv", text, COLUMNS)
    assert rows == [(1, None, date(2024, 1, 1), "NA"), (2, None, None, "-"), (3, 7, None, "x")]
    assert refused == [("speed", "is not a valid int64")]


def test_words_are_out_before_a_notation_is_read(tmp_path: Path) -> None:
    options = Csv(delimiter=";", decimal=",", thousands=".", dates=("%d.%m.%Y",))
    rows, refused = load(tmp_path, "t.csv", "id;speed;day;note\n1;NA;31.12.2023;x\n2;1.234;-;y\n", COLUMNS, options)
    assert (rows, refused) == ([(1, None, date(2023, 12, 31), "x"), (2, 1234, None, "y")], [])
    widths = FixedWidth((("id", 2), ("speed", 5), ("day", 10), ("note", 2)), dates=("%d.%m.%Y",))
    rows, refused = load(tmp_path, "t.txt", "1 NA   31.12.2023x\n2 7    -         y\n", COLUMNS, widths)
    assert (rows, refused) == ([(1, None, date(2023, 12, 31), "x"), (2, 7, None, "y")], [])


def test_a_mixed_column_takes_what_json_has(tmp_path: Path) -> None:
    columns = (Column("id", pa.int64(), "Key."), Column("v", pa.string(), "Value.", mixed=True))
    text = '{"id":1,"v":5}\n{"id":2,"v":"a"}\n{"id":3,"v":true}\n{"id":4,"v":{"a":1}}\n{"id":5,"v":null}\n'
    rows, refused = load(tmp_path, "t.jsonl", text, columns)
    assert (rows, refused) == ([(1, "5"), (2, "a"), (3, "true"), (4, '{"a":1}'), (5, None)], [])


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("id,speed,\n1,2,\n3,4,\n", None),
        ("1|2|\n3|4|\n", Csv(delimiter="|", header=False, columns=("id", "speed", ""))),
    ],
)
def test_a_delimiter_at_the_end_of_each_row_is_no_column(tmp_path: Path, text: str, options: Format | None) -> None:
    assert load(tmp_path, "t.csv", text, COLUMNS[:2], options) == ([(1, 2), (3, 4)], [])


def test_what_follows_the_last_delimiter_is_not_lost(tmp_path: Path) -> None:
    rows, _ = load(tmp_path, "t.csv", "id,speed,\n1,2,\n3,4,more\n", COLUMNS[:2])
    assert rows == [(1, 2, None), (3, 4, "more")]


def test_a_spec_says_what_is_wrong_with_its_words() -> None:
    with pytest.raises(ValueError, match="null is a tuple, such as"):
        Column("a", pa.int64(), "A.", null="NA")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only text can be mixed"):
        Column("a", pa.int64(), "A.", mixed=True)
