"""The dashboard on the whole year, in a real browser: what it shows is what the marts hold, for whoever reads it."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH

from dashboards import PAGES
from granary.dagster.links import Links
from granary.pages.dashboard import operation
from granary.pages.dashboard.export import write_pages
from granary.pages.dashboard.parts import STATE
from granary.pages.dashboard.read import Rows, read
from tests.python.support.browser import Reader, reader
from tests.python.support.command import granary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.python.project.main_job.conftest import Year

# What the marts hold, asked for by other queries than the dashboard's; the keys are page and chart.
TRUTH: dict[tuple[str, str], tuple[str, tuple[int, ...]]] = {
    ("index", "daily-sales"): (
        "select business_date::text, sum(sales_value), count(*) from marts.fct_baskets group by business_date"
        " union all select '2017-12-25', 0.00, 0",
        (0, 1, 2),
    ),
    ("index", "departments"): (
        "select products.department, sum(sales.sales_value) from marts.fct_sales as sales"
        " join marts.dim_product as products using (product_key) where sales.business_date >= '2017-12-01'"
        " group by 1 order by 2 desc limit 12",
        (0, 1),
    ),
    ("stores", "ranking"): (
        "select store_id::text, sum(sales_value), count(*) from marts.fct_baskets group by 1 order by 2 desc limit 20",
        (0, 1, 2),
    ),
    ("stores", "changes"): (
        "select store_id::text, sales_last_28d, sales_previous_28d from marts.store_performance where sales_rank <= 20",
        (0, 1, 2),
    ),
    ("categories", "top-categories"): (
        "select coalesce(products.product_category, 'unknown'), sum(sales.sales_value) from marts.fct_sales as sales"
        " join marts.dim_product as products using (product_key) group by 1 order by 2 desc limit 20",
        (0, 1),
    ),
    ("categories", "abc-classes"): (
        "select abc_class, count(*), sum(sales_value) from marts.product_performance group by 1",
        (0, 1, 2),
    ),
    ("households", "segments"): (
        "select segment, count(*), sum(sales_value) from marts.household_value group by 1",
        (0, 1, 2),
    ),
    ("households", "cohort-triangle"): (
        "select to_char(cohort_month, 'YYYY-MM'), to_char(month_start_date, 'YYYY-MM'), cohort_size,"
        " active_household_count from marts.cohort_retention",
        (0, 1, 3, 4),
    ),
    ("campaigns", "effects"): (
        "select campaign_id::text, contacted_household_count, effect, effect_low, effect_high"
        " from marts.campaign_performance",
        (0, 2, 3, 4, 5),
    ),
    ("campaigns", "traces"): (
        "select attribution, count(*) from marts.redemption_attribution group by 1",
        (0, 1),
    ),
    ("promotions", "discounts"): (
        "select promotion, sum(sales_value), sum(regular_value) from marts.promotion_performance group by 1",
        (0, 1, 2),
    ),
    ("promotions", "lifts"): (
        "select case when lift <= 0.5 then 'under ½' when lift <= 1 then '½ to 1' when lift <= 1.5 then '1 to 1½'"
        " when lift <= 2 then '1½ to 2' when lift <= 3 then '2 to 3' when lift <= 5 then '3 to 5' else 'over 5' end,"
        " count(*), sum(on_sales_value) from marts.promotion_lift"
        " where not is_small_sample and lift is not null group by 1",
        (0, 1, 2),
    ),
    ("health", "reconciled"): (
        "select mart, total, 0.00 from (values ('cohort_retention'), ('daily_sales'), ('household_value'),"
        " ('monthly_sales'), ('private_label_share'), ('product_performance'), ('promotion_performance'),"
        " ('store_performance'), ('weekly_category_sales')) as marts (mart),"
        " (select sum(sales_value) as total from marts.fct_sales) as lines",
        (0, 1, 3),
    ),
    ("health", "covered"): (
        "select to_char(date_trunc('month', business_date), 'YYYY-MM'), count(distinct business_date)"
        " from marts.fct_baskets group by 1",
        (0, 1),
    ),
    ("operation", "run-days"): (
        "select to_char(started_at at time zone 'UTC', 'YYYY-MM-DD'), status, count(*) from ops.runs"
        " where parent_run_id is null group by 1, 2",
        (0, 1, 2),
    ),
    ("operation", "freshness"): (
        "select source || '.' || table_name, (array_agg(status order by load_id desc))[1] from ops.load_audit"
        " group by 1",
        (0, 9),
    ),
}


@pytest.fixture(scope="module")
def data(year: Year) -> dict[str, Rows]:
    datasets = [STATE, *(dataset for page in PAGES for dataset in page.datasets)]
    return read(year.settings, datasets, lambda _: None)


@pytest.fixture(scope="module")
def folder(year: Year, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as the command writes them."""
    folder = tmp_path_factory.mktemp("dashboard") / "pages"
    done = granary(year.settings, "dashboard", "--export", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Written: 8 pages, ")
    return folder


@pytest.fixture
def browser(chromium: Browser, folder: Path) -> Iterator[Reader]:
    with reader(chromium, folder) as found:
        yield found


def differences(browser: Reader, year: Year, page: str, chart: str) -> list[Any]:
    """Return the rows that are shown and not true, and those that are true and not shown."""
    sql, places = TRUTH[page, chart]
    shown = {tuple(row[place] for place in places) for row in browser.table(chart)}
    true = {tuple(Decimal(cell) if isinstance(cell, int) else cell for cell in row) for row in year.query(sql)}
    return sorted(shown ^ true, key=str)


def test_every_page_draws_every_chart(browser: Reader, data: dict[str, Rows]) -> None:
    """Of operation, those of which anything has been: there is no stream, and the whole year is no increment."""
    for page in PAGES:
        browser.open(page.name)
        for chart in page.charts:
            if chart.draw and (page is not operation.PAGE or data[chart.dataset].rows):
                kinds = ("rect", "symbol", "area", "line")
                marks = browser.tab.locator(", ".join(f"#{chart.name} svg .mark-{kind} path" for kind in kinds))
                assert marks.count() > 0, f"{page.name}: {chart.name}"
        assert not any(value == "–" for value in browser.figures().values()), page.name  # noqa: RUF001


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_the_numbers_are_those_of_the_marts(browser: Reader, year: Year, page: str) -> None:
    browser.open(page)
    charts = [chart for where, chart in TRUTH if where == page]
    assert len(charts) > 1
    for chart in charts:
        assert differences(browser, year, page, chart) == [], chart
        assert browser.table(chart) != [], chart


def test_a_wrong_number_in_a_page_is_found(
    chromium: Browser, year: Year, data: dict[str, Rows], tmp_path: Path
) -> None:
    wrong = [list(row) for row in data["days"].rows]
    wrong[41][data["days"].columns.index("sales")] += 0.01
    write_pages(data | {"days": Rows(data["days"].columns, wrong, "")}, tmp_path, Links(), lambda _: None)
    with reader(chromium, tmp_path) as browser:
        browser.open("index")
        found = differences(browser, year, "index", "daily-sales")
    assert [row[0] for row in found] == ["2017-02-11", "2017-02-11"]


def test_figures_of_the_year_and_of_a_month(browser: Reader) -> None:
    """By the guide for analysts: question 1 for the year, question 2 for months.

    December 421,720.45 on November 386,027.21 is +9.2 %; baskets 13,097 on 12,734 are +2.9 %; a basket is 421,720.45 /
    13,097 = 32.20. November's 386,027.21 on October's 387,808.68 is -0.5 %. The year: 4,596,039.58 / 155,848 = 29.49.
    """
    browser.open("index")
    december = browser.figures()
    assert (december["Sales"], december["Baskets"], december["Average basket"]) == ("$421,720", "13,097", "$32.20")
    assert browser.changes()["Sales"] == "▲ +9.2 % on the month before"
    assert browser.changes()["Baskets"] == "▲ +2.9 % on the month before"
    browser.choose("month", "2017-11")
    assert (browser.figures()["Sales"], browser.figures()["Baskets"]) == ("$386,027", "12,734")
    assert browser.changes()["Sales"] == "▼ −0.5 % on the month before"  # noqa: RUF001
    browser.choose("month", "")
    whole = browser.figures()
    assert (whole["Sales"], whole["Baskets"], whole["Average basket"]) == ("$4,596,040", "155,848", "$29.49")
    assert whole["Active households"] == "2,469"
    assert browser.changes()["Sales"] == "nothing earlier to compare with"


def test_filters_give_figures_that_were_worked_out(browser: Reader) -> None:
    """By the guide for analysts: questions 7 (27.1 percent own brands in GROCERY) and 8 (604 of 3,647 in Type A).

    Both filters of the stores at once: what store 367 sold in March.
    """
    browser.open("campaigns")
    browser.choose("campaign_type", "Type A")
    assert browser.figures()["Contacts"] == "3,647"
    assert browser.figures()["Redemption rate"] == "16.6%"
    assert [row[0] for row in browser.table("effects")] == ["8", "13", "18", "27"]
    browser.open("categories")
    browser.choose("department", "GROCERY")
    assert browser.figures()["Private-label share of sales"] == "27.1%"
    assert browser.figures()["Sales"] == "$2,316,394"


def test_headings_state_findings_that_were_worked_out(browser: Reader, year: Year) -> None:
    """As in the guide for analysts: 1,130 of 2,102 redemptions are traced; own brands make 21.7 percent.

    A choice makes the heading say what is shown, since the finding is of everything.
    """
    browser.open("campaigns")
    assert browser.heading("traces") == "53.8% of the redemptions are found on a receipt"
    assert browser.heading("effects") == "No campaign of 16 that can be judged clearly moved sales"
    browser.choose("campaign_type", "Type A")
    assert browser.heading("traces") == "Can redemptions be found on a receipt?"
    browser.open("categories")
    assert browser.heading("private-labels") == "Own brands make 21.7% of the sales without fuel"
    browser.open("stores")
    ((half,),) = year.query(
        "select 1 + count(*) filter (where share < 0.5) from (select sum(sales_value) over (order by sales_value desc,"
        " store_id) / sum(sales_value) over () as share from marts.store_performance) as ranked"
    )
    assert browser.heading("concentration") == f"{half} of 457 stores make half of the sales"
    assert str(browser.tab.text_content(".state")).startswith("Data up to 2017-12-31 · published ")


def test_a_table_that_is_cut_says_so_and_a_long_list_is_searched(browser: Reader) -> None:
    browser.open("stores")
    browser.tab.click("#ranking summary >> nth=0")
    assert browser.tab.text_content("#ranking .shown") == "The first 20 of 457 rows; scroll to see all of these."
    assert browser.tab.eval_on_selector("#filter-store", "one => one.list.options.length") == 457
    browser.choose("store", "no such store")
    assert browser.tab.get_attribute("#filter-store", "aria-invalid") is not None
    assert browser.figures()["Sales"] == "$4,596,040"
    assert "store" not in browser.tab.url.rpartition("/")[2].partition("#")[2]


def test_cells_of_less_are_near_the_page_in_the_dark(chromium: Browser, folder: Path) -> None:
    """The first cohort has 100 percent in its first month, the brightest cell; no cell is darker than the page."""
    for dark, brightest in ((False, "rgb(8, 81, 156)"), (True, "rgb(185, 223, 247)")):
        with reader(chromium, folder, dark=dark) as browser:
            browser.open("households")
            cells = browser.tab.eval_on_selector_all(
                "#cohort-triangle svg .mark-rect path", "all => all.map(one => getComputedStyle(one).fill)"
            )
            assert cells[0] == brightest


def test_two_filters_at_once(browser: Reader, year: Year) -> None:
    (expected,) = year.query(
        "select sum(sales_value), count(*) from marts.fct_baskets"
        " where store_id = 367 and business_date between '2017-03-01' and '2017-03-31'"
    )
    browser.open("stores")
    browser.choose("store", "367")
    browser.choose("month", "2017-03")
    ((store, sales, baskets, _),) = browser.table("ranking")
    assert (store, sales, baskets) == ("367", *expected)
    assert browser.tab.url.endswith("#month=2017-03&store=367")
    browser.open("stores", "#month=2017-03&store=367")
    assert browser.table("ranking")[0][1] == expected[0]
    before = browser.tab.get_attribute("html", "data-ready")
    browser.tab.click("#reset")
    browser.tab.wait_for_selector(f'html:not([data-ready="{before}"])', state="attached")
    assert browser.figures()["Sales"] == "$4,596,040"


def test_a_download_has_the_rows_that_are_shown(browser: Reader) -> None:
    browser.open("stores", "#month=2017-03")
    browser.tab.click("#ranking summary >> nth=1")
    with browser.tab.expect_download() as download:
        browser.tab.click("#ranking .download")
    with Path(download.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["store"], Decimal(row["sales"])) for row in rows] == [
        tuple(row[:2]) for row in browser.table("ranking")
    ]


def test_everything_is_reached_with_the_keyboard(browser: Reader) -> None:
    for page in PAGES:
        browser.open(page.name)
        wanted = browser.tab.locator("a, select, input, button, summary, [tabindex='0']")
        visible = sum(one.is_visible() for one in wanted.all())
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
        assert len(outlines) == visible, page.name
        assert "none" not in outlines, f"{page.name}: the focus cannot be seen"


def test_the_keyboard_chooses_opens_and_goes(browser: Reader) -> None:
    browser.open("index")
    browser.tab.focus("#filter-month")
    before = browser.tab.get_attribute("html", "data-ready")
    browser.tab.keyboard.press("ArrowUp")
    browser.tab.wait_for_selector(f'html:not([data-ready="{before}"])', state="attached")
    assert browser.figures()["Sales"] == "$386,027"
    browser.tab.focus("#weekdays summary")
    browser.tab.keyboard.press("Enter")
    assert browser.tab.is_visible("#weekdays table")
    browser.tab.focus("nav.pages a >> nth=3")
    browser.tab.keyboard.press("Enter")
    browser.tab.wait_for_selector("h1:has-text('Households')")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_it_without_moving_sideways_and_all_can_read_it(
    chromium: Browser, folder: Path, dark: bool
) -> None:
    axe = Path(AXE_FILE_PATH).read_text()
    with reader(chromium, folder, 390, dark=dark) as browser:
        for page in PAGES[:1] + PAGES[3:4] if dark else PAGES:  # all have the same colours
            browser.open(page.name)
            browser.tab.evaluate(axe)
            found = browser.tab.evaluate("axe.run().then(done => done.violations)")
            assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == [], page.name
            browser.tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
            assert browser.tab.evaluate("document.documentElement.scrollWidth") == 390, page.name


def test_an_export_links_to_nothing_that_is_only_here(folder: Path) -> None:
    for path in folder.iterdir():
        assert "127.0.0.1" not in path.read_text().partition("<script")[0], path.name


def test_pages_are_small(folder: Path) -> None:
    assert {path.name: path.stat().st_size for path in folder.iterdir() if path.stat().st_size > 3_000_000} == {}
