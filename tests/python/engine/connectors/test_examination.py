"""`granary doctor SOURCE` at a tap, and the guide's example with a tap of that name."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from granary.load.api import load_table
from granary.readers import singer
from granary.warehouse.connection import connect, query
from tests.python.engine.connectors.conftest import TAP
from tests.python.support.worked_examples import example

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings


def the_shop(folder: Path, patch: pytest.MonkeyPatch) -> Source:
    """Return the guide's source, with a program `tap-shop` that offers one order."""
    orders = [{"id": 1, "lines": [{"sku": "a"}], "updated_at": "2024-02-29T12:00:00Z"}]
    (folder / "shelf.json").write_text(json.dumps({"orders": orders}))
    (folder / "connectors").mkdir()
    config = {"shelf": str(folder / "shelf.json"), "cursor": "updated_at", "password": "${GRANARY_SHOP_PASSWORD}"}
    (folder / "connectors" / "shop.json").write_text(json.dumps(config))
    program = folder / "tap-shop"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {TAP} "$@"\n')
    program.chmod(0o700)
    patch.setattr(singer, "PROJECT", folder)
    patch.setattr(singer.environment, "program", lambda _: program)
    return example("connectors", patch, GRANARY_SHOP_PASSWORD="a secret")


def test_the_guide_s_example(warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = the_shop(tmp_path, monkeypatch)
    assert list(source.reader(warehouse).examine(source.tables)) == []
    assert load_table(warehouse, "shop", "orders").rows_loaded == 1
    with connect(warehouse) as connection:
        assert query(connection, "select id, lines from raw_shop.orders") == [(1, '[{"sku":"a"}]')]


def test_a_stream_that_the_tap_does_not_offer(
    warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = the_shop(tmp_path, monkeypatch)
    (tmp_path / "shelf.json").write_text('{"people": [{"id": 1}]}')
    (found,) = source.reader(warehouse).examine(source.tables)
    assert (found.severity, found.todo) == ("problem", "it has people")
    assert "there is no stream 'orders'" in found.what
