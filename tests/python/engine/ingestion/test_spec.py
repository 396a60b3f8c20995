"""Specs check themselves; selections and settings speak plainly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.readers.api.collection import Since
from granary.readers.api.pages import Page
from granary.readers.api.spec import ApiKey
from granary.readers.database import DatabaseReader
from granary.readers.files.formats import Csv
from granary.sources.config import setting
from granary.sources.discovery import SOURCES
from granary.sources.select import select, settings_problems
from granary.sources.spec import Column, Source, Table
from granary.sources.units import Rejected, SourceBatch
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

ID = Column("id", pa.int64(), "The key.", nullable=False)


def table(**changes: Any) -> Table:
    right: dict[str, Any] = {
        "name": "things",
        "description": "Things.",
        "location": "things",
        "columns": (ID, Column("seen_at", pa.timestamp("us", tz="UTC"), "When.")),
        "disposition": "merge",
        "key": ("id",),
        "freshness": timedelta(days=1),
    }
    return Table(**(right | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Things"}, "is not lower snake case"),
        ({"columns": ()}, "has no columns"),
        ({"columns": (ID, ID)}, "names a column twice"),
        ({"key": ("other",)}, "its key is not among its columns"),
        ({"key": ("seen_at",)}, "a key column may be null"),
        ({"key": ()}, "merge needs a key"),
        ({"cursor": "other"}, "its cursor is not a column"),
        ({"floor": 2}, "shares are from 0 to 1"),
        ({"freshness": timedelta(0)}, "freshness must be positive"),
    ],
)
def test_wrong_specs_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        table(**changes)


def test_chunk_places_skip_rejected_rows() -> None:
    batch = pa.RecordBatch.from_pydict({"id": [1, 2, 3]})
    source_batch = SourceBatch(batch, ((1, Rejected("", "bad", {})),))
    assert source_batch.rows == 4
    assert source_batch.places(10).to_pylist() == [10, 12, 13]


def test_every_source_is_described() -> None:
    assert list(SOURCES) == ["events", "office", "till"]
    assert [f"{s.name}.{t.name}" for s in SOURCES.values() for t in s.tables] == [
        "events.card_scans",
        "office.members",
        "till.receipts",
        "till.prices",
    ]


def test_selection() -> None:
    assert select([]) == [(s.name, t.name) for s in SOURCES.values() for t in s.tables]
    assert select(["office.members", "till"]) == [("office", "members"), ("till", "receipts"), ("till", "prices")]
    with pytest.raises(GranaryError, match=r"there is no source or table 'tills'; did you mean till\?"):
        select(["tills"])


def test_settings_come_from_the_environment_or_an_owner_only_file(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    here = replace(settings, home=tmp_path)
    with pytest.raises(GranaryError, match="GRANARY_X is not set"):
        setting(here, "GRANARY_X")
    file = tmp_path / "sources.env"
    file.write_text("GRANARY_X = from-file\n")
    file.chmod(0o644)
    with pytest.raises(GranaryError, match="others may read the file of secrets"):
        setting(here, "GRANARY_X")
    file.chmod(0o600)
    assert setting(here, "GRANARY_X") == "from-file"
    monkeypatch.setenv("GRANARY_X", "from-environment")
    assert setting(here, "GRANARY_X") == "from-environment"


@pytest.fixture
def file(settings: Settings, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that writes the file of settings, and returns the warehouse that has it."""
    monkeypatch.delenv("GRANARY_TILL_LANDING", raising=False)

    def write(text: str) -> Settings:
        path = tmp_path / "sources.env"
        path.write_text(text)
        path.chmod(0o600)
        return replace(settings, home=tmp_path)

    return write


def test_mistyped_and_doubled_settings_are_said(file: Any, tmp_path: Any) -> None:
    here = file("# sample\nGRANARY_TILL_LANDNG=/a\nAWS_REGION=eu\n")
    with pytest.raises(
        GranaryError, match=r"GRANARY_TILL_LANDING is not set .* GRANARY_TILL_LANDNG is set: did you mean"
    ):
        setting(here, "GRANARY_TILL_LANDING")
    path = tmp_path / "sources.env"
    assert settings_problems(here) == [
        f"{path}, line 2 sets GRANARY_TILL_LANDNG, which no source asks for: did you mean GRANARY_TILL_LANDING?"
    ]
    here = file(
        "GRANARY_TILL_LANDING=/a\nGRANARY_TILL_LANDING=/b\nexport X=1\nGRANARY_OFFICE_URL\nOTHER='x'\nANOTHER=\n"
    )
    with pytest.raises(GranaryError, match=r"GRANARY_TILL_LANDING is set more than once .*lines 1 and 2"):
        setting(here, "GRANARY_TILL_LANDING")
    assert settings_problems(here) == [
        f"{path}, line 2 sets GRANARY_TILL_LANDING again, after line 1",
        f"{path}, line 3 is not NAME=VALUE, and sets nothing",
        f"{path}, line 4 is not NAME=VALUE, and sets nothing",
        f"{path}, line 5 sets OTHER in quotes, which become part of its value",
        f"{path}, line 6 sets ANOTHER to nothing",
    ]
    assert settings_problems(file("GRANARY_TILL_LANDING=/a=b\n\n# GRANARY_OFFICE_URL\n")) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"disposition": "upsert"}, "disposition is one of replace_unit, merge, replace, append and not 'upsert'"),
        ({"new_columns": "ad"}, "new_columns is one of add, ignore, refuse and not 'ad'"),
        ({"retyped": "fits"}, "retyped is one of fit, widen, refuse and not 'fits'"),
        ({"partition": "daily"}, "partition is one of day and not 'daily'"),
        ({"key": "id"}, r"key is a tuple, such as .* and not 'id'"),
        ({"columns": [ID]}, "columns is a tuple"),
        ({"freshness": 3}, "freshness is timedelta and not 3"),
        ({"floor": "half"}, "floor is a number and not 'half'"),
        ({"max_refused": True}, "max_refused is a number and not True"),
        ({"contract": "1"}, "contract is a whole number and not '1'"),
        ({"name": 5}, "name is text and not 5"),
    ],
)
def test_mistyped_words_of_a_table_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        table(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"missing": "nulls"}, "missing is one of refuse, null and not 'nulls'"),
        ({"personal": "secret"}, "personal is one of identifier, demographic, pseudonym and not 'secret'"),
        ({"subject": ("household", "customer")}, "subject is text or None and not \\('household', 'customer'\\)"),
        ({"aliases": "Household ID"}, "aliases is a tuple"),
        ({"allowed": "abc"}, "allowed is a tuple"),
        ({"nullable": "no"}, "nullable is True or False and not 'no'"),
        ({"type": "text"}, "type is DataType and not 'text'"),
        ({"minimum": "x"}, "minimum is .* and not 'x'"),
        ({"type": pa.timestamp("ms")}, r"no raw column can hold timestamp\[ms\]"),
        ({"type": pa.uint8()}, "no raw column can hold uint8"),
        ({"type": pa.list_(pa.int8())}, "no raw column can hold list"),
    ],
)
def test_mistyped_words_of_a_column_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Column(**({"name": "a", "type": pa.string(), "description": "A."} | changes))


def test_mistyped_words_of_readers_are_refused() -> None:
    with pytest.raises(ValueError, match="Csv: null is a tuple"):
        Csv(null="NA")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="written is one of iso, date, seconds, milliseconds, number and not 'unix'"):
        Since("since", written="unix")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zero_dates is one of refuse, null and not 'nul'"):
        DatabaseReader("sqlite:///x", zero_dates="nul")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Page: first is a whole number and not '1'"):
        Page(first="1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="secret is text and not something else"):
        ApiKey("X-Key", 12345)  # type: ignore[arg-type]


def test_what_opens_a_source_wrongly_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(values: Any) -> Any:
        return values["GRANARY_OTHER"]

    source = Source("things", "Things.", "me", "csv", (), opened, (table(),))
    with pytest.raises(GranaryError, match="source things cannot be opened: it does not name 'GRANARY_OTHER'"):
        source.reader(settings)
    monkeypatch.setenv("GRANARY_SECRET", "s3cr3t")
    secret = replace(source, settings=("GRANARY_SECRET",), open_reader=lambda values: int(values["GRANARY_SECRET"]))  # type: ignore[arg-type,return-value]
    with pytest.raises(GranaryError, match="cannot be opened: invalid literal") as raised:
        secret.reader(settings)
    assert "s3cr3t" not in str(raised.value)
    mistyped = replace(source, open_reader=lambda _: Csv(delimeter=";"))  # type: ignore[call-arg,arg-type,return-value]
    with pytest.raises(GranaryError, match="Csv has no setting 'delimeter'; did you mean 'delimiter'"):
        mistyped.reader(settings)
