"""`granary add-source --singer`: contracts from what a tap announces, secrets apart from code."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.readers.connectors import catalog, environment
from granary.scaffold.connectors import apart, inspect
from granary.scaffold.write import files
from granary.warehouse.errors import GranaryError
from tests.python.engine.connectors.conftest import AT, NAME, TAP, things

if TYPE_CHECKING:
    from pathlib import Path

    from granary.scaffold.plan import PlannedSource

ROWS = [
    {"id": 1, "Title": "a", "price": 1.5, "sold": True, "sold_at": "2026-01-01T10:00:00Z", "tags": ["x"]},
    {"id": 2, "Title": "b", "price": 2.5, "sold": None, "sold_at": "2026-01-02T10:00:00Z", "tags": {"y": 1}},
]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the configuration of an installed tap."""
    program = tmp_path / "tap-shelf"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {TAP} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(environment, "program", lambda _: program)
    return configured(tmp_path, ROWS)


def configured(folder: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    (folder / "shelf.json").write_text(json.dumps({"things": rows}))
    path = folder / "config.json"
    path.write_text(json.dumps({"shelf": str(folder / "shelf.json"), "api_key": "geheim"} | more))
    return path


def only(planned: PlannedSource) -> tuple[Any, dict[str, pa.DataType]]:
    (table,) = planned.tables
    return table, {column.name: column.type for column in table.columns}


def test_contract_is_what_the_tap_announces(shelf: Path) -> None:
    planned = inspect("shop", shelf, tap="tap-shelf")
    table, types = only(planned)
    assert (table.location, table.disposition, table.key) == ("things", "replace", ("id",))
    assert types == {
        "id": pa.int64(),
        "title": pa.string(),
        "price": pa.float64(),
        "sold": pa.bool_(),
        "sold_at": pa.timestamp("us", tz="UTC"),
        "tags": pa.string(),
    }
    written = files(planned)
    assert json.loads(written["connectors/shop.json"])["api_key"] == "${GRANARY_SHOP_API_KEY}"
    assert 'singer("tap-shelf", "connectors/shop.json", settings)' in written["ingestion/shop.py"]
    assert all("geheim" not in text for text in written.values())
    assert planned.opening.settings == {"GRANARY_SHOP_API_KEY": "geheim"}


def test_bookmark_makes_a_merged_table_and_no_key_a_replaced_one(shelf: Path) -> None:
    table, _ = only(inspect("shop", configured(shelf.parent, ROWS, cursor="sold_at"), tap="tap-shelf"))
    assert (table.disposition, table.cursor) == ("merge", "sold_at")
    planned = inspect("shop", configured(shelf.parent, ROWS, key=[]), tap="tap-shelf")
    assert only(planned)[0].disposition == "replace_unit"
    assert "things: the stream declares no key: each load replaces all of its rows" in planned.notes


def test_values_that_are_not_as_announced_are_text(shelf: Path) -> None:
    rows = [{"id": 1, "a_at": "2026-01-01T10:00:00", "b_at": "yesterday"}]
    _, types = only(inspect("shop", configured(shelf.parent, rows), tap="tap-shelf"))
    assert types == {"id": pa.int64(), "a_at": pa.timestamp("us"), "b_at": pa.string()}


def test_wrong_use_is_said(shelf: Path) -> None:
    with pytest.raises(GranaryError, match="it has things"):
        inspect("shop", shelf, tap="tap-shelf", only=("others",))
    shelf.write_text("{")
    with pytest.raises(GranaryError, match="the configuration is not JSON"):
        inspect("shop", shelf, tap="tap-shelf")


def test_secrets_are_told_by_their_names_and_addresses_by_their_passwords() -> None:
    config = {"auth": {"token": "t"}, "url": "postgresql://me:word@db/x", "primary_keys": ["id"], "hosts": ["a"]}
    written, settings = apart("shop", config)
    assert written == {
        "auth": {"token": "${GRANARY_SHOP_AUTH_TOKEN}"},
        "url": "${GRANARY_SHOP_URL}",
        "primary_keys": ["id"],
        "hosts": ["a"],
    }
    assert settings == {"GRANARY_SHOP_AUTH_TOKEN": "t", "GRANARY_SHOP_URL": "postgresql://me:word@db/x"}


ENTRIES = [
    {"tap_stream_id": "things", "schema": {"properties": {"id": {}, "at": {}}}, "metadata": []},
    {
        "tap_stream_id": "parents",
        "metadata": [{"breadcrumb": [], "metadata": {"forced-replication-method": "INCREMENTAL"}}],
    },
    {"tap_stream_id": "others"},
]


def test_one_stream_is_selected_with_those_that_it_needs() -> None:
    made = catalog.chosen(ENTRIES, things(NAME), ("parents",), {"replication-method": "LOG_BASED"}, "tap")["streams"]
    assert [one["selected"] for one in made] == [True, True, False]
    (root,) = [part["metadata"] for part in made[0]["metadata"] if not part["breadcrumb"]]
    assert root == {"selected": True, "replication-method": "LOG_BASED"}
    assert [part["metadata"] for part in made[0]["metadata"] if part["breadcrumb"]] == [{"selected": True}] * 2
    assert "selected" not in ENTRIES[0]


def test_table_with_a_cursor_is_read_past_it() -> None:
    (made, *_) = catalog.chosen(ENTRIES, things(NAME, AT, cursor="at"), (), {}, "tap")["streams"]
    assert (made["replication_method"], made["replication_key"]) == ("INCREMENTAL", "at")
    (whole, *_) = catalog.chosen(ENTRIES, things(NAME, disposition="replace"), (), {}, "tap")["streams"]
    assert whole["replication_method"] == "FULL_TABLE"
