"""Files of a source are written whole or not at all, and secrets only where their owner alone can read them."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.scaffold import write as writing
from granary.scaffold.files import dated, group
from granary.scaffold.plan import Found, Opening, PlannedSource, plan
from granary.scaffold.source import Group
from granary.scaffold.write import files, leftovers, write
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping


def planned(*tables: str, settings: Mapping[str, str] | None = None) -> PlannedSource:
    sample = pa.table({"id": ["1", "2", "3"]})
    imports = ("from granary.readers.files import FileReader",)
    reader = Group("FileReader", ('settings["GRANARY_BIKES_LANDING"]',))
    opening = Opening(imports, reader, settings or {"GRANARY_BIKES_LANDING": "/landing"})
    found = [
        Found(name, f"{name}.csv", sample, timedelta(days=1), "all", whole=True) for name in tables or ("rentals",)
    ]
    return plan("bikes", "csv", opening, found)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_is_written_and_the_module_last(tmp_path: Path) -> None:
    done = write(planned(), tmp_path / "project", tmp_path / "home", force=False)
    assert done == [
        "models/staging/bikes/_bikes__sources.yml",
        "models/staging/bikes/stg_bikes__rentals.sql",
        "models/staging/bikes/stg_bikes__rentals.yml",
        "tests/dbt/raw_bikes_reconciles_with_ledger.sql",
        "ingestion/bikes.py",
    ]
    assert {path: content.decode() for path, content in tree(tmp_path / "project").items()} == files(planned())


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    module = tmp_path / "ingestion/bikes.py"
    module.parent.mkdir(parents=True)
    module.write_text("mine")
    with pytest.raises(GranaryError, match="is there already"):
        write(planned(), tmp_path, tmp_path / "home", force=False)
    assert tree(tmp_path) == {"ingestion/bikes.py": b"mine"}
    write(planned(), tmp_path, tmp_path / "home", force=True)
    assert "SOURCE = Source(" in module.read_text()


@pytest.mark.parametrize("failing", range(5))
def test_a_failure_at_any_file_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    project, home = tmp_path / "project", tmp_path / "home"
    home.mkdir()
    (home / "sources.env").write_text("OTHER=1\n")
    (project / "models/staging/bikes").mkdir(parents=True)
    (project / "models/staging/bikes/stg_bikes__rentals.sql").write_text("mine")
    before = tree(tmp_path)
    real, calls = os.replace, 0

    def replace(source: Any, target: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == failing + 1:
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(writing.os, "replace", replace)
    with pytest.raises(GranaryError, match="No space left on device"):
        write(planned(), project, home, force=True)
    assert tree(tmp_path) == before
    assert not (project / "ingestion").exists()


def test_settings_are_for_their_owner_alone_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "sources.env").write_text("# mine\nOTHER=1\nGRANARY_BIKES_URL=old\n")
    (tmp_path / "sources.env").chmod(0o644)
    source = planned(settings={"GRANARY_BIKES_URL": "postgresql://me:pass=word@db/x"})
    assert "pass=word" not in repr(source)
    assert all("pass=word" not in content for content in files(source).values())
    write(source, tmp_path / "project", tmp_path, force=False)
    found = tmp_path / "sources.env"
    assert found.read_text() == "# mine\nOTHER=1\nGRANARY_BIKES_URL=postgresql://me:pass=word@db/x\n"
    assert found.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["a\nEVIL=1", " padded", "nul\0"])
def test_a_setting_cannot_bring_another_one(tmp_path: Path, value: str) -> None:
    with pytest.raises(GranaryError, match="cannot hold"):
        write(planned(settings={"GRANARY_BIKES_URL": value}), tmp_path, tmp_path, force=False)
    assert tree(tmp_path) == {}


def test_models_of_a_table_that_is_gone_are_named(tmp_path: Path) -> None:
    write(planned("rentals", "zones"), tmp_path, tmp_path, force=False)
    later = planned("rentals")
    write(later, tmp_path, tmp_path, force=True)
    assert leftovers(later, tmp_path) == [
        "models/staging/bikes/stg_bikes__zones.sql",
        "models/staging/bikes/stg_bikes__zones.yml",
    ]


def test_names_that_differ_by_dates_and_numbers_are_one_table() -> None:
    names = [
        "rentals_2024-01.csv", "rentals_2024-02.csv", "stations.csv", "part-1.csv.gz", "part-2.csv.gz", "q1[x].csv",
        "log_20240101T0000.csv", "2024/01/trips.csv", "2024/02/trips.csv", "v2.csv",
    ]  # fmt: skip
    assert (
        group(names)
        == {
            "rentals_*.csv": names[:2],
            "stations*.csv": ["stations.csv"],
            "part-*.csv.gz": names[3:5],
            "q1[[]x]*.csv": ["q1[x].csv"],
            "log_*.csv": ["log_20240101T0000.csv"],  # dated: others will follow
            "*/*/trips.csv": names[7:9],
            "v2*.csv": ["v2.csv"],
        }
    )


def test_a_pattern_leaves_the_files_of_other_tables_alone() -> None:
    names = ["rentals_1.csv", "rentals_2.csv", "rentals_summary.csv"]
    assert group(["orders.csv", "orders_lines.csv"]) == {
        "orders.csv": ["orders.csv"],  # a star would take the lines as well
        "orders_lines*.csv": ["orders_lines.csv"],
    }
    later = ["orders.csv", "orders_2026-04.csv", "orders_2026-05.csv"]
    assert group(later) == {"orders*.csv": later}
    assert group(["orders.csv"], alone=True) == {"orders.csv": ["orders.csv"]}
    assert group(names) == {"rentals_[0-9]*.csv": names[:2], "rentals_summary*.csv": names[2:]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a_2024-03.csv", "2024-03-01"), ("20240315.csv", "2024-03-15"), ("a_1234567.csv", None), ("a_2024-13.csv", None)],
)
def test_dates_in_names(name: str, expected: str | None) -> None:
    day = dated(name)
    assert (day.isoformat() if day else None) == expected
