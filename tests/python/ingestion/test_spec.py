"""Specs check themselves; selections and settings speak plainly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from ingestion.config import setting
from ingestion.select import select
from ingestion.sources import SOURCES
from ingestion.spec import Chunk, Column, Rejected, Table
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from warehouse.settings import Settings

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
    chunk = Chunk(batch, ((1, Rejected("", "bad", {})),))
    assert chunk.rows == 4
    assert chunk.places(10).to_pylist() == [10, 12, 13]


def test_every_source_is_described() -> None:
    assert list(SOURCES) == ["crm", "events", "marketing", "pos"]
    assert [f"{s.name}.{t.name}" for s in SOURCES.values() for t in s.tables] == [
        "crm.households",
        "crm.products",
        "crm.stores",
        "events.coupon_redemptions",
        "marketing.campaigns",
        "marketing.recipients",
        "marketing.coupons",
        "pos.transactions",
        "pos.promotions",
    ]


def test_selection() -> None:
    assert select([]) == [(s.name, t.name) for s in SOURCES.values() for t in s.tables]
    assert select(["crm.stores", "pos"]) == [("crm", "stores"), ("pos", "transactions"), ("pos", "promotions")]
    with pytest.raises(GranaryError, match=r"there is no source or table 'poss'; did you mean pos\?"):
        select(["poss"])


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
