"""The pages of the marts and of column lineage in a real browser: whole, alone, and usable by everybody."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.base import AXE_FILE_PATH

from granary.dagster.links import Links
from granary.pages.docs import NAMES, write_pages
from granary.warehouse.errors import GranaryError
from tests.python.support.artifacts import MODEL, catalog, manifest
from tests.python.support.browser import Reader, reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror='document.title=1'>`<b>` & \u2028."


def write(folder: Path, addresses: Links) -> None:
    """Write the pages of the bicycle shop, one column of which cannot be resolved."""
    of = manifest(HOSTILE)
    of["nodes"][f"{MODEL}.stg_shop__rentals"]["compiled_code"] = (
        "select rental_id, bike_id, kind, price * elsewhere.rate as price from raw_shop.rentals, elsewhere"
    )
    (folder / "manifest.json").write_text(json.dumps(of))
    (folder / "catalog.json").write_text(json.dumps(catalog(of)))
    of_dbt = "(http://127.0.0.1:8090/), http://127.0.0.1:8090/a.html (http://127.0.0.1:3000/)"
    (folder / "static_index.html").write_text(of_dbt)
    (folder / "profiles.html").write_text("")
    write_pages(folder, addresses)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    write(folder, Links())
    return folder


@pytest.fixture
def browser(chromium: Browser, folder: Path) -> Iterator[Reader]:
    with reader(chromium, folder) as found:
        yield found


def texts(browser: Reader, selector: str) -> list[str]:
    return browser.tab.locator(selector).all_text_contents()


def test_a_mart_has_its_picture_its_joins_and_its_columns(browser: Reader) -> None:
    browser.tab.goto(f"{(browser.folder / 'marts.html').as_uri()}#fct_rentals")
    assert texts(browser, "#fct_rentals svg text") == [
        *("fct_rentals", "◆", "rental_id", "bike_key"),
        *("dim_bike", "◆", "bike_key", "kind", "bike_kinds", "kind", "and 1 more"),
    ]
    assert texts(browser, "#fct_rentals ul.joins li") == [
        "bike_key → dim_bike.bike_key: many rows to one, tested by rentals_bike_known",
        "kind → bike_kinds.kind: many to many: a kind has several rows there, tested by rentals_kind_known",
    ]
    assert browser.tab.locator("#fct_rentals svg path.tested").count() == 2
    assert browser.tab.locator("#daily_rentals svg path.taken").count() == 1
    assert texts(browser, "table.matrix tbody td") == ["●by bike_key"]
    browser.tab.click("#fct_rentals summary")
    browser.tab.click("#fct_rentals table.fields a >> text=price")
    browser.tab.wait_for_selector("html[data-ready='marts.fct_rentals.price']", state="attached")


def test_the_address_names_a_column_and_choosing_changes_the_address(browser: Reader) -> None:
    browser.open("lineage", "#marts.daily_rentals.bike_key")
    assert browser.tab.title() == "marts.daily_rentals.bike_key · Column lineage · Granary"
    assert texts(browser, ".ways > section:first-child .ends li") == ["raw_shop.bikesbike_idchanged_at"]
    browser.tab.select_option("#table", "raw_shop.bikes")
    browser.tab.wait_for_selector("html[data-ready='raw_shop.bikes.bike_id']", state="attached")
    browser.tab.select_option("#column", "changed_at")
    browser.tab.wait_for_selector("html[data-ready='raw_shop.bikes.changed_at']", state="attached")
    assert browser.tab.url.endswith("#raw_shop.bikes.changed_at")
    assert texts(browser, ".ways > section:last-child .ends li") == [
        *("marts.daily_rentalsbike_key", "marts.dim_bikebike_key", "marts.fct_rentalsbike_key"),
    ]
    assert "It is a raw column" in texts(browser, ".ways > section:first-child")[0]
    browser.tab.go_back()
    browser.tab.wait_for_selector("html[data-ready='raw_shop.bikes.bike_id']", state="attached")


def test_what_is_not_known_is_said(browser: Reader) -> None:
    browser.open("lineage", "#marts.daily_rentals.price")
    assert "the origin of 1 is not known" in browser.tab.inner_text("main")
    assert "staging.stg_shop__rentals.price staging origin not known" in texts(browser, ".ways li")
    browser.open("lineage", "#staging.stg_shop__rentals.price")
    assert "Its origin is not known" in browser.tab.inner_text(".ways > section:first-child")
    browser.open("lineage", "#marts.no_such.column")
    assert texts(browser, "[role=alert]") == ["There is no column marts.no_such.column."]


def test_a_count_of_rows_is_made_here(browser: Reader) -> None:
    browser.open("lineage", "#marts.daily_rentals.rentals")
    assert "It is made here, of no column" in browser.tab.inner_text(".ways > section:first-child")
    assert "Nothing is made from it." in browser.tab.inner_text(".ways > section:last-child")


def test_markup_in_a_description_is_shown_as_it_is(browser: Reader) -> None:
    for name in NAMES:
        browser.tab.goto((browser.folder / name).as_uri())
        assert browser.tab.locator("img").count() == 0
        assert browser.tab.title().endswith(("Marts and how they join · Granary", "Column lineage · Granary"))
    browser.tab.goto((browser.folder / NAMES[0]).as_uri())
    assert HOSTILE.replace("`", "") in texts(browser, "#dim_bike > p")[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_policy_lets_nothing_run_and_nothing_out(chromium: Browser, folder: Path, name: str) -> None:
    with reader(chromium, folder) as browser:
        browser.tab.goto((folder / name).as_uri())
        assert browser.attacked() == ["connect-src", "img-src", "script-src-elem"]
        assert browser.tab.title() != "owned"


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_reached_with_the_keyboard(browser: Reader, name: str) -> None:
    browser.tab.goto((browser.folder / name).as_uri())
    visible = sum(one.is_visible() for one in browser.tab.locator("a, select, summary, [tabindex='0']").all())
    browser.tab.evaluate(
        """() => {
            window.reached = new Map();
            document.addEventListener("focusin", ({ target }) =>
                window.reached.set(target, getComputedStyle(target).outlineStyle));
        }"""
    )
    for _ in range(visible):
        browser.tab.keyboard.press("Tab")
    outlines = browser.tab.evaluate("[...window.reached.values()]")
    assert len(outlines) == visible
    assert "none" not in outlines


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_it_without_moving_sideways_and_all_can_read_it(
    chromium: Browser, folder: Path, name: str, dark: bool
) -> None:
    with reader(chromium, folder, 390, dark=dark) as browser:
        browser.tab.goto((folder / name).as_uri())
        browser.tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        browser.tab.evaluate(Path(AXE_FILE_PATH).read_text())
        found = browser.tab.evaluate("axe.run().then(done => done.violations)")
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []
        assert browser.tab.evaluate("document.documentElement.scrollWidth") == 390


def test_the_neighbours_are_where_they_are_said_to_be(folder: Path, tmp_path: Path) -> None:
    usual = (folder / "marts.html").read_text()
    assert '<a href="http://127.0.0.1:3000/assets/marts/daily_rentals">In Dagster</a>' in usual
    assert '<a href="http://127.0.0.1:8090/bikes.html">Dashboard: Bikes</a>' in usual
    assert "Links to 127.0.0.1 need <code>granary dashboard</code> and <code>granary ui</code> to be running." in usual
    write(tmp_path, Links(dashboard="https://shop.example.com/bi/", dagster=""))
    moved = "".join((tmp_path / name).read_text() for name in NAMES)
    assert '<a href="https://shop.example.com/bi/bikes.html">Dashboard: Bikes</a>' in moved
    assert "In Dagster" not in moved
    assert "127.0.0.1" not in re.sub(r'<script type="application/json".*?</script>', "", moved)
    of_dbt = (tmp_path / "static_index.html").read_text()
    assert of_dbt == "(https://shop.example.com/bi/), https://shop.example.com/bi/a.html (#!/overview)"


def test_the_environment_says_where_they_are() -> None:
    assert Links.load({}) == Links()
    named = Links.load({"GRANARY_DOCS_URL": "https://docs.example.com", "GRANARY_DAGSTER_URL": ""})
    assert named.mart("a") == "https://docs.example.com/marts.html#a"
    assert named.asset("marts", "a") == ""
    assert named.commands("docs", "dagster", "dashboard") == ["granary dashboard"]
    with pytest.raises(GranaryError, match="not an address of a page"):
        Links.load({"GRANARY_DASHBOARD_URL": "javascript:alert(1)"})
