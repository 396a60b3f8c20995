"""Values of the sources are text, whatever they look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dashboards import PAGES
from granary.dagster.links import Links
from granary.pages.dashboard.export import write_pages
from tests.python.project.dashboard.made import made
from tests.python.support.browser import reader

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

HOSTILE = (
    "=cmd()\"'</script></td><script>document.title='owned'</script>"
    '<img src=x onerror="document.title=1"><!-- & \u2028 ${7*7}'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_pages(made(HOSTILE), folder, Links(), lambda _: None)
    return folder


def test_markup_in_the_data_is_shown_as_it_is(chromium: Browser, folder: Path) -> None:
    with reader(chromium, folder) as browser:
        for page in PAGES:
            browser.open(page.name)
            assert browser.tab.title() == f"{page.title} · Granary"
            assert browser.tab.locator("img").count() == 0
        browser.open("categories")
        assert browser.table("top-categories")[0][0] == HOSTILE
        assert browser.tab.text_content("#top-categories pre") == f"-- {HOSTILE}"
        options = browser.tab.eval_on_selector_all("#filter-department option", "all => all.map(one => one.value)")
        assert options == ["", HOSTILE]
        browser.choose("department", HOSTILE)
        assert browser.figures()["Sales"] == "$1"


def test_a_download_runs_nothing_in_a_spreadsheet(chromium: Browser, folder: Path) -> None:
    with reader(chromium, folder) as browser:
        browser.open("categories")
        browser.tab.click("#top-categories summary >> nth=1")
        with browser.tab.expect_download() as download:
            browser.tab.click("#top-categories .download")
        assert download.value.suggested_filename == "top-categories.csv"
        header, line, rest = download.value.path().read_bytes().decode().split("\r\n")
        assert header == "category,sales,units,discount_rate"
        # An apostrophe before what a spreadsheet would compute; quotes doubled, as RFC 4180 says.
        assert line == "\"'" + HOSTILE.replace('"', '""') + '",1,1,1'
        assert rest == ""


def test_the_policy_lets_nothing_run_and_nothing_out(chromium: Browser, folder: Path) -> None:
    with reader(chromium, folder) as browser:
        browser.open("index")
        assert browser.attacked() == ["connect-src", "img-src", "script-src-elem"]
        assert browser.tab.title() == "Overview · Granary"
