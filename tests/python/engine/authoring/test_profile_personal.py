"""No value of a personal column is in a profile: on the terminal, in JSON, on the page, or in the record."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from granary.cli.main import app
from granary.pages.profiles import page
from granary.pages.profiles.run import take
from granary.sources import discovery
from granary.sources.capture import CapturedReader
from granary.sources.spec import Capture, Column, Source, Table
from granary.warehouse.connection import connect, execute

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings

WORD, NUMBER = "canary", 909090909
RIDERS = Table(
    "riders",
    "A rider.",
    "public.riders",
    (
        Column("rider", pa.int64(), "Number.", nullable=False, personal="pseudonym"),
        Column("nick", pa.string(), "What friends say.", personal="identifier"),
        Column("kind", pa.string(), "Kind."),
    ),
    disposition="merge",
    key=("rider",),
    freshness=timedelta(days=1),
)


def source(*tables: Table) -> Source:
    capture = Capture("GRANARY_BIKES_URL", "granary_bikes", "granary")
    return Source("bikes", "Bikes.", "bikes", "postgres", (), lambda _: CapturedReader(), tables, capture=capture)


ROWS = f"select {NUMBER}::bigint + n as rider, '{WORD}'::text as nick, 'city'::text as kind, '{WORD}'::text as remark"
TABLES = (
    f"create table raw_bikes.riders as {ROWS} from generate_series(1, 4) as n",
    "create table raw_bikes.riders_changes as select 'update'::text as cdc_op,"
    f""" '{{"rider": {NUMBER}}}'::text as cdc_key_before, r.* from raw_bikes.riders as r""",
    "create table raw_gone.riders as select * from raw_bikes.riders",
    "insert into ops.quarantine"
    " (identity, load_id, source, table_name, unit, row_number, column_name, reason, payload, contract_version)"
    f" select '{WORD}' || n, 1, 'bikes', 'riders', 'u', n, 'kind', 'is too long',"
    f" jsonb_build_object('nick', '{WORD}', 'rider', {NUMBER}), 1 from generate_series(1, 4) as n",
)


@pytest.fixture
def bikes(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return a warehouse with a captured table, one of a source that is gone, and refused rows."""
    monkeypatch.setattr(discovery, "SOURCES", {"bikes": source(RIDERS)})
    with connect(warehouse, autocommit=True) as connection:
        for schema in ("raw_bikes", "raw_gone"):
            execute(connection, f"create schema {schema}")
            execute(connection, f"grant usage on schema {schema} to transformer")
        for statement in TABLES:
            execute(connection, statement)
        for schema in ("raw_bikes", "raw_gone"):
            execute(connection, f"grant select on all tables in schema {schema} to transformer")
    return warehouse


def shows(text: str) -> bool:
    return WORD in text or str(NUMBER)[:-1] in text.replace(",", "")


@pytest.mark.parametrize(
    ("relation", "harmless"),
    [
        ("raw_bikes.riders", "city"),
        ("raw_bikes.riders_changes", "city"),
        ("raw_gone.riders", None),  # nobody says any more what is personal
        ("ops.quarantine", "is too long"),
    ],
)
def test_a_profile_has_no_personal_value(
    bikes: Settings, rows: Callable[..., list[tuple[Any, ...]]], tmp_path: Path, relation: str, harmless: str | None
) -> None:
    run = CliRunner()
    said = [run.invoke(app, ["profile", relation, *more]) for more in ([], ["--json"], [])]
    assert [one.exit_code for one in said] == [0, 0, 0]
    texts = [one.output for one in said]
    texts.append(page.write_page(bikes, tmp_path).read_text())
    texts += [str(text) for (text,) in rows("select profile::text from ops.profiles")]
    assert len(texts) == 7
    assert [text for text in texts if shows(text)] == []
    if harmless:
        assert [text for text in texts if harmless not in text] == []


def test_a_column_that_became_personal_is_shown_no_more(
    bikes: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = Column("nick", pa.string(), "What friends say.")
    before = Table(**{**vars(RIDERS), "columns": (RIDERS.columns[0], plain, RIDERS.columns[2])})
    monkeypatch.setattr(discovery, "SOURCES", {"bikes": source(before)})
    take(bikes, "raw_bikes.riders")
    assert shows(page.write_page(bikes, tmp_path).read_text())
    monkeypatch.setattr(discovery, "SOURCES", {"bikes": source(RIDERS)})
    text = page.write_page(bikes, tmp_path).read_text()
    assert not shows(text)
    assert "city" in text
    assert "personal: not shown" in text
