"""A real browser without a window: Debian's chromium, steered by playwright, that reaches nothing but the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

PACKAGE = "chromium"
OUTSIDE = "http://127.0.0.1:9/"


def binary() -> str | None:
    """Return the browser's program, installed if this is root on a Debian; None where it cannot be had."""
    if not shutil.which("chromium") and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "--no-install-recommends", PACKAGE]
        subprocess.run(command, env=quiet, capture_output=True, check=False, timeout=300)
    return shutil.which("chromium") or shutil.which("google-chrome")


@dataclass
class Reader:
    """A browser tab, and what went wrong or out while it was used."""

    tab: Tab
    folder: Path
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, name: str, choice: str = "") -> None:
        """Open a page and wait until it has drawn itself."""
        self.tab.goto("about:blank")  # a change of the fragment alone would not load the page again
        self.tab.goto(f"{(self.folder / f'{name}.html').as_uri()}{choice}")
        self.tab.wait_for_selector("html[data-ready]", state="attached")

    def choose(self, column: str, value: str) -> None:
        """Choose a filter's value and wait until all is drawn anew."""
        before = self.tab.get_attribute("html", "data-ready")
        control = self.tab.locator(f"#filter-{column}")
        if control.evaluate("one => one.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(value)
            control.dispatch_event("change")
        self.tab.wait_for_selector(f'html:not([data-ready="{before}"])', state="attached")

    def heading(self, chart: str) -> str:
        """Return the heading of a chart."""
        return str(self.tab.text_content(f"#{chart}-title"))

    def figures(self) -> dict[str, str]:
        """Return the figures as they are shown, by label."""
        pairs = self.tab.eval_on_selector_all(
            ".figures > div", "all => all.map(one => [one.children[0].textContent, one.children[1].textContent])"
        )
        return dict(pairs)

    def changes(self) -> dict[str, str]:
        """Return what the figures say of the time before, by label."""
        pairs = self.tab.eval_on_selector_all(
            ".figures > div", "all => all.map(one => [one.children[0].textContent, one.children[2].textContent])"
        )
        return dict(pairs)

    def table(self, chart: str) -> list[list[Any]]:
        """Return the rows of a chart's table: text as it is, numbers as decimals, nothing as None.

        What has a unit in letters (1 h 5 min, 2.5 MB) stays text.
        """
        rows = self.tab.eval_on_selector_all(
            f"#{chart} tbody tr",
            "all => all.map(row => [...row.cells].map(cell => [cell.textContent, cell.className]))",
        )
        return [[_value(text) if kind == "number" else text for text, kind in row] for row in rows]

    def attacked(self) -> list[str]:
        """Run a script, load a picture and ask an address, all foreign; return the policy's rules that stopped them."""
        blocked = self.tab.evaluate(
            """async (outside) => {
                const seen = [];
                document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
                const script = document.createElement("script");
                script.textContent = "document.title = 'owned'";
                const image = document.createElement("img");
                image.src = outside + "pixel";
                document.body.append(script, image);
                try { await fetch(outside + "data"); } catch { }
                await new Promise((done) => setTimeout(done, 200));
                return seen;
            }""",
            OUTSIDE,
        )
        self.complaints.clear()  # the browser tells the console of each
        self.requests = [url for url in self.requests if not url.startswith(OUTSIDE)]
        return sorted(blocked)


def _value(text: str) -> Decimal | str | None:
    if re.search("[a-zA-Z]", text):
        return text
    if text == "–":  # noqa: RUF001 - what the page shows for nothing
        return None
    number = Decimal(re.sub(r"[$,%× ]", "", text).replace("−", "-"))  # noqa: RUF001
    return number / 100 if text.endswith("%") else number


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; while it runs, playwright's event loop does, so no test may keep it for others."""
    program = binary()
    if program is None:
        pytest.skip(f"no browser: install Debian's package {PACKAGE}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def reader(browser: Browser, folder: Path, width: int = 1280, *, dark: bool = False) -> Iterator[Reader]:
    """Open a tab on a folder of pages; leaving it fails if the pages complained or asked for anything else."""
    scheme: Any = "dark" if dark else "light"
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found = Reader(tab, folder)
    tab.set_default_timeout(15_000)
    tab.on("console", lambda message: found.complaints.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: found.complaints.append(str(error)))
    tab.on("request", lambda request: found.requests.append(request.url))
    try:
        yield found
    finally:
        tab.close()
    outside = [url for url in found.requests if not url.startswith((folder.as_uri() + "/", "blob:", "about:"))]
    assert not found.complaints, found.complaints
    assert not outside, outside
