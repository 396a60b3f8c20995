"""Pages are written whole, over nothing but pages, and from nothing but what the role may read."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from dashboards import PAGES
from granary.dagster.links import Links
from granary.pages.dashboard import operation
from granary.pages.dashboard.export import names, write, write_pages
from granary.pages.dashboard.html import MARK, specification
from granary.pages.dashboard.parts import STATE, Dataset
from granary.pages.dashboard.read import QUERIES, Rows, read
from granary.pages.dashboard.theme import RANGES
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from tests.python.project.dashboard.made import made

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings


PAGE_NAMES = [f"{page.name}.html" for page in PAGES]
OWN = [page for page in PAGES if page is not operation.PAGE]
"""The pages that read the project's marts, and no query of the engine."""


def quiet(_: str) -> None:
    """Show no progress."""


def test_an_export_replaces_its_own_pages_and_leaves_nothing_else(tmp_path: Path) -> None:
    for _ in range(2):
        written = write_pages(made(), tmp_path / "pages", Links(), quiet)
    assert [path.name for path in written] == PAGE_NAMES
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == sorted(names())
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
    with pytest.raises(GranaryError, match="this is not a folder"):
        write(settings, tmp_path / "file", Links(), quiet)
    with pytest.raises(GranaryError, match="cannot be written: Not a directory"):
        write_pages(made(), tmp_path / "file" / "below", Links(), quiet)


def test_without_marts_it_says_what_to_do(tmp_path: Path, warehouse: Settings) -> None:
    with pytest.raises(GranaryError, match=r"build the marts first: `granary run`") as raised:
        write(warehouse, tmp_path / "pages", Links(), quiet)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "pages").exists()


def test_an_analyst_does_not_read_the_records_of_publishes(warehouse: Settings) -> None:
    with connect(warehouse) as connection:
        execute(connection, "create table ops.restatements (mart text)")
        connection.commit()
    with pytest.raises(GranaryError, match="the role analyst may not read"):
        read(warehouse, [Dataset("restatements")], quiet)


def test_what_is_not_there_yet_is_empty(warehouse: Settings) -> None:
    health = Dataset("restatements", role="transformer", needs="ops.restatements")
    assert read(warehouse, [health], quiet)["restatements"].rows == []


def test_only_health_and_operation_read_more_than_an_analyst_may() -> None:
    beyond = {(page.name, one.name) for page in OWN for one in page.datasets if one.role != "analyst"}
    assert beyond == {("health", "restatements")}
    assert {one.role for one in operation.PAGE.datasets} == {"transformer"}


def test_every_query_is_shown_and_every_shown_query_is_there() -> None:
    used = {STATE.name, *(dataset.name for page in OWN for dataset in page.datasets)}
    assert used == {path.stem for path in QUERIES.glob("*.sql")}
    for page in PAGES:
        names = {dataset.name for dataset in page.datasets}
        asked = [*page.figures, *page.charts, *page.filters]
        assert {one.dataset for one in asked} == names, page.name


def test_the_documentation_knows_what_each_page_reads() -> None:
    """Its exposures bring the links from a mart, in the documentation and in Dagster, to the pages that show it."""
    exposures = yaml.safe_load((PROJECT / "models/marts/exposures.yml").read_text())["exposures"]
    told = {one["url"]: one for one in exposures if one["name"].startswith("dashboard_")}
    assert list(told) == [f"http://127.0.0.1:8090/{page.name}.html" for page in OWN]
    for page, exposure in zip(OWN, told.values(), strict=True):
        text = "".join((QUERIES / f"{dataset.name}.sql").read_text() for dataset in page.datasets)
        read_by_it = set(re.findall(r"(?:from|join) (?:marts|ops)\.(\w+)", text))
        assert set(exposure["depends_on"]) == {f"ref('{name}')" for name in read_by_it}
        assert (exposure["label"], exposure["description"]) == (f"Dashboard: {page.title}", page.lead)


def test_links_lead_where_they_are_told_and_nowhere_by_script(tmp_path: Path) -> None:
    write_pages(made(), tmp_path, Links("../docs/", ""), quiet)
    page = (tmp_path / "index.html").read_text()
    assert '<a href="../docs/">Data documentation</a>' in page
    assert ">Dagster</a>" not in page
    assert "127.0.0.1" not in page
    with pytest.raises(GranaryError, match="not an address of a page"):
        Links(" javascript:alert(1)")


def test_each_chart_says_which_marts_it_is_made_from(tmp_path: Path) -> None:
    rows = {name: Rows(one.columns, one.rows, "select 1 from marts.b join marts.a") for name, one in made().items()}
    write_pages(rows, tmp_path / "linked", Links("../docs/static_index.html"), quiet)
    page = (tmp_path / "linked" / "index.html").read_text()
    links = '<a href="../docs/marts.html#a">a</a>, <a href="../docs/marts.html#b">b</a>'
    assert page.count(f'<p class="from">From {links}</p>') == len(PAGES[0].charts)
    write_pages(rows, tmp_path / "alone", Links("", ""), quiet)
    page = (tmp_path / "alone" / "index.html").read_text()
    assert page.count('<p class="from">From <code>a</code>, <code>b</code></p>') == len(PAGES[0].charts)
    assert re.findall(r'href="([^"]*)"', page.partition("<script")[0]) == ["#main", *PAGE_NAMES]


def test_pages_name_no_outside_address(tmp_path: Path) -> None:
    for path in write_pages(made(), tmp_path, Links(), quiet):
        page = path.read_text()
        assert MARK in page
        assert re.findall(r'(?:src|href|action)="([^"]*)"', page.partition("<script")[0]) == [
            "#main",
            *PAGE_NAMES,
            "http://127.0.0.1:8080/",
            "http://127.0.0.1:3000/",
        ]
        assert "unsafe-eval" not in page
        assert "default-src 'none'; script-src 'self';" in page
        assert re.findall(r"<script ?([^>]*)>", page) == ['type="application/json" id="page"', 'src="charts.js"']


def test_empty_marts_give_empty_pages(tmp_path: Path) -> None:
    nothing = {name: Rows(rows.columns, [], rows.sql) for name, rows in made().items()}
    written = write_pages(nothing, tmp_path, Links(), quiet)
    assert len(written) == len(PAGES)
    assert ">No data yet · written " in written[0].read_text()


def test_each_page_says_how_recent_it_is(tmp_path: Path) -> None:
    for path in write_pages(made(), tmp_path, Links(), quiet):
        said = re.search(r'<p class="state">([^<]*)</p>', path.read_text())
        assert said
        assert re.fullmatch(
            r"Data up to 2017-01-02 · published 2017-01-03 04:05 UTC · written 20\d\d-\d\d-\d\d \d\d:\d\d UTC", said[1]
        )


def test_the_script_is_there_once(tmp_path: Path) -> None:
    written = write_pages(made(), tmp_path, Links(), quiet)
    assert all(path.stat().st_size < 100_000 for path in written)
    assert (tmp_path / "charts.js").stat().st_size > 500_000


def test_no_table_has_two_columns_of_one_name() -> None:
    for page in PAGES:
        for chart in page.charts:
            labels = [column.label for column in chart.columns]
            assert len(set(labels)) == len(labels), f"{page.name}: {chart.name}"


def test_more_is_blue_on_every_page() -> None:
    """The diverging scale goes from orange to blue, in the light and in the dark; no chart has a scheme of its own."""
    for colours in RANGES.values():
        low, _, high = (tuple(int(one[place : place + 2], 16) for place in (1, 3, 5)) for one in colours["diverging"])
        assert low[0] > low[2]
        assert high[2] > high[0]
    drawn = [specification(chart) for page in PAGES for chart in page.charts]
    assert not any('"scheme"' in json.dumps(one) for one in drawn)
