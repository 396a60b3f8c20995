"""Pages are written whole, over nothing but pages, and from nothing but what the role may read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from granary.dashboard.export import NAMES, write, write_pages
from granary.dashboard.html import MARK, Links
from granary.dashboard.pages import PAGES
from granary.dashboard.parts import Dataset
from granary.dashboard.read import QUERIES, Rows, read
from tests.python.dashboard.made import made
from warehouse.connection import connect, execute
from warehouse.errors import GranaryError
from warehouse.settings import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse.settings import Settings


def quiet(_: str) -> None:
    """Show no progress."""


def test_an_export_replaces_its_own_pages_and_leaves_nothing_else(tmp_path: Path) -> None:
    for _ in range(2):
        written = write_pages(made(), tmp_path / "pages", Links(), quiet)
    assert sorted(path.name for path in written) == sorted(NAMES)
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == sorted(NAMES)
    assert all(path.stat().st_size < 3_000_000 for path in written)


def test_it_refuses_a_folder_with_anything_else_in_it(tmp_path: Path, settings: Settings) -> None:
    write_pages(made(), tmp_path, Links(), quiet)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(GranaryError, match=r"not the dashboard's: letter\.txt"):
        write(settings, tmp_path, Links(), quiet)
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_it_refuses_a_page_of_the_same_name_that_is_not_ours(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "index.html").write_text("<title>My shop</title>")
    with pytest.raises(GranaryError, match=r"not the dashboard's: index\.html"):
        write(settings, tmp_path, Links(), quiet)


def test_it_refuses_a_file_and_says_why_a_folder_cannot_be_made(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GranaryError, match="this is no folder"):
        write(settings, tmp_path / "file", Links(), quiet)
    with pytest.raises(GranaryError, match="cannot be written: Not a directory"):
        write_pages(made(), tmp_path / "file" / "below", Links(), quiet)


def test_without_marts_it_says_what_to_do(tmp_path: Path, warehouse: Settings) -> None:
    with pytest.raises(GranaryError, match=r"build the marts first: `granary run`") as raised:
        write(warehouse, tmp_path / "pages", Links(), quiet)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "pages").exists()


def test_an_analyst_does_not_read_the_records_of_loads(warehouse: Settings) -> None:
    with connect(warehouse) as connection:
        execute(connection, "create table ops.load_health (source text)")
        connection.commit()
    with pytest.raises(GranaryError, match="the role analyst may not read"):
        read(warehouse, [Dataset("loads")], quiet)


def test_what_is_not_there_yet_is_empty(warehouse: Settings) -> None:
    health = Dataset("restatements", role="transformer", needs="ops.restatements")
    assert read(warehouse, [health], quiet)["restatements"].rows == []


def test_only_the_page_of_health_reads_more_than_an_analyst_may() -> None:
    beyond = {(page.name, one.name) for page in PAGES for one in page.datasets if one.role != "analyst"}
    assert beyond == {("health", "loads"), ("health", "audits"), ("health", "restatements")}


def test_every_query_is_shown_and_every_shown_query_is_there() -> None:
    used = {dataset.name for page in PAGES for dataset in page.datasets}
    assert used == {path.stem for path in QUERIES.glob("*.sql")}
    for page in PAGES:
        names = {dataset.name for dataset in page.datasets}
        asked = [*page.figures, *page.charts, *page.filters]
        assert {one.dataset for one in asked} == names, page.name


def test_the_documentation_knows_what_the_dashboard_reads() -> None:
    text = "".join(path.read_text() for path in QUERIES.glob("*.sql"))
    read_by_it = set(re.findall(r"(?:from|join) (?:marts|ops)\.(\w+)", text)) - {"model_audits"}  # no model
    exposures = yaml.safe_load((PROJECT / "models/marts/exposures.yml").read_text())["exposures"]
    (told,) = (one["depends_on"] for one in exposures if one["name"] == "dashboard")
    assert set(told) == {f"ref('{name}')" for name in read_by_it}


def test_links_lead_where_they_are_told_and_nowhere_by_script(tmp_path: Path, settings: Settings) -> None:
    write_pages(made(), tmp_path, Links("../docs/", ""), quiet)
    page = (tmp_path / "index.html").read_text()
    assert '<a href="../docs/">Data documentation</a>' in page
    assert ">Dagster</a>" not in page
    with pytest.raises(GranaryError, match="no address of a page"):
        write(settings, tmp_path, Links(" javascript:alert(1)"), quiet)


def test_pages_name_no_outside_address(tmp_path: Path) -> None:
    for path in write_pages(made(), tmp_path, Links(), quiet):
        page = path.read_text()
        assert MARK in page
        assert re.findall(r'(?:src|href|action)="([^"]*)"', page.partition("<script")[0]) == [
            "#main",
            *NAMES,
            "http://127.0.0.1:8080/",
            "http://127.0.0.1:3000/",
        ]
        assert "unsafe-eval" not in page
        assert "script-src 'sha256-" in page


def test_empty_marts_give_empty_pages(tmp_path: Path) -> None:
    nothing = {name: Rows(rows.columns, [], rows.sql) for name, rows in made().items()}
    assert len(write_pages(nothing, tmp_path, Links(), quiet)) == len(PAGES)
