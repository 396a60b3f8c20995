"""Writes the dashboard's pages into a folder, and serves them on loopback."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from granary.pages.dashboard.html import MARK, SCRIPT, SCRIPT_MARK, render, script
from granary.pages.dashboard.parts import STATE
from granary.pages.dashboard.read import read
from granary.pages.html import write as write_page
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT, project_module

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from granary.dagster.links import Links
    from granary.pages.dashboard.parts import Dataset, Page
    from granary.pages.dashboard.read import Rows
    from granary.warehouse.settings import Settings


@cache
def pages() -> tuple[Page, ...]:
    """Return the pages of the project's package `dashboards`, in the order of the navigation; functions make theirs.

    Raises:
        GranaryError: the project has no such package, or it has no PAGES.
    """
    found = tuple(one() if callable(one) else one for one in getattr(project_module("dashboards"), "PAGES", ()))
    if not found:
        raise GranaryError(
            "the project has no dashboard",
            str(PROJECT / "dashboards"),
            "list its pages in __init__.py, such as PAGES = (granary.pages.dashboard.overview.overview,)",
        )
    return found


def names() -> tuple[str, ...]:
    """Return the names of the files that `write` makes."""
    return (*(f"{page.name}.html" for page in pages()), SCRIPT)


def write(settings: Settings, folder: Path, links: Links, report: Callable[[str], None]) -> list[Path]:
    """Read the marts and write every page; pages from before are replaced, one by one and each at once.

    Args:
        settings: The warehouse.
        folder: Where to; it is made if it is not there.
        links: The addresses of the documentation and of Dagster.
        report: Called with the name of each query and page as it begins.

    Raises:
        GranaryError: the folder holds something that is not the dashboard's, or the marts cannot be read.
    """
    _check(folder)
    return write_pages(read(settings, _datasets().values(), report), folder, links, report)


def _datasets() -> dict[str, Dataset]:
    return {dataset.name: dataset for dataset in (STATE, *(one for page in pages() for one in page.datasets))}


def write_pages(data: Mapping[str, Rows], folder: Path, links: Links, report: Callable[[str], None]) -> list[Path]:
    """Write every page from rows that have been read, and the script that they share before them."""
    written = []
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_page(folder / SCRIPT, script())
        for page in pages():
            report(page.title)
            path = folder / f"{page.name}.html"
            write_page(path, render(page, pages(), data, links, now))
            written.append(path)
    except OSError as error:
        raise GranaryError(
            f"the dashboard cannot be written: {error.strerror}", str(folder), "name a folder that you may write to"
        ) from None
    return written


def steps() -> int:
    """Return how many times `write` tells of a step."""
    return len(_datasets()) + len(pages())


def _check(folder: Path) -> None:
    """Refuse a folder with anything in it that we did not write."""
    if folder.exists() and not folder.is_dir():
        raise GranaryError("this is not a folder", str(folder), "name another one")
    foreign = [path.name for path in sorted(folder.glob("*")) if not _ours(path)] if folder.exists() else []
    if foreign:
        raise GranaryError(
            f"the folder holds what is not the dashboard's: {', '.join(foreign[:3])}",
            str(folder),
            "name an empty folder, or one that holds nothing but an earlier export",
        )


def _ours(path: Path) -> bool:
    if path.name.removesuffix(".new") not in names() or not path.is_file() or path.is_symlink():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        start = file.read(500)
        return path.name.endswith(".new") or MARK in start or start.startswith(SCRIPT_MARK)
