"""A copy of the project for several years of the sample: what the project says of its one year, said of more.

The sample has one year, and its project says so in a few places: the calendar's end, contracts and tests that end at
week 53, and weeks that begin anew with each year, although promotions are known by their week alone. A copy of the
project with these places changed builds several years; the models are the project's own. A place that has changed is an
error that names it, so a copy is never half changed.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from demo.copies import WEEKS, YEAR, Scale
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

PARTS = (
    "dashboards", "dbt_packages", "dbt_project.yml", "demo", "ingestion", "macros", "models", "orchestration",
    "packages.yml", "package-lock.yml", "profiles.yml", "seeds", "selectors.yml", "snapshots", "tests/dbt",
)  # fmt: skip
WEEK = """\
{%- macro retailer_week(day) -%}
    floor((cast({{ day }} as date) - date '2016-12-26') / 7.0)::integer
    + case when cast({{ day }} as date) < date '2017-01-01' then 0 else 1 end
{%- endmacro %}
"""
"""Weeks that are counted on over the years: in the first year they are those of the project, before it 0 and less."""
RANGE = "name: dim_date_retailer_week_in_range\n              arguments:\n                min_value"


@dataclass(frozen=True)
class Change:
    """Text of the project's files that is said otherwise of several years."""

    files: str
    pattern: str
    text: str


def changes(scale: Scale) -> list[Change]:
    """Return what must be said otherwise of so many years."""
    if scale.years == 1:
        return []
    last = date(2018, 2, 28) + (scale.years - 1) * YEAR
    end = last + timedelta(days=1)
    weeks = WEEKS * scale.years
    return [
        Change("dbt_project.yml", r'(?<=calendar_end: )"2018-02-28"', f'"{last}"'),
        Change("ingestion/pos.py", r"2018-03-01(?= 04:59:59)", str(end)),
        Change("ingestion/events.py", r"datetime\(2018, 3, 1,", f"datetime({end.year}, {end.month}, {end.day},"),
        Change("ingestion/pos.py", r"maximum=53\b", f"maximum={weeks}"),
        Change("models/**/*.yml", r"(?<=week between 1 and )53\b", str(weeks)),
        Change("models/**/*.yml", r"(?<=last_week <= )53\b", str(weeks)),
        Change("models/marts/core/dim_date.yml", rf"(?<={RANGE}: )1\b", "-8"),
        Change("models/marts/core/dim_date.yml", r"(?<=max_value: )54\b", str(weeks + 9)),
        Change("macros/retailer_week.sql", r"\{% macro retailer_week\(day\)[\s\S]*?endmacro %\}\n", WEEK),
        Change("models/**/*.sql", r"partition by year, retailer_week\b", "partition by retailer_week"),
    ]


def make(folder: Path, scale: Scale) -> Path:
    """Write a copy of the project for a scale into `folder`, in place of any that is there, and return it.

    Raises:
        SystemExit: the project no longer says what would have to be changed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for part in PARTS:
        there, here = PROJECT / part, folder / part
        here.parent.mkdir(parents=True, exist_ok=True)
        if there.is_dir():
            shutil.copytree(there, here, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif there.exists():
            shutil.copy(there, here)
    (folder / "granary").symlink_to(PROJECT / "granary")  # dbt_packages/ links to it
    for change in changes(scale):
        if not sum(_apply(change, path) for path in folder.glob(change.files)):
            raise SystemExit(f"bench scale: {change.files} has no {change.pattern} any more; see {__name__}")
    return folder


def _apply(change: Change, path: Path) -> int:
    text, count = re.subn(change.pattern, lambda _: change.text, path.read_text(encoding="utf-8"))
    if count:
        path.write_text(text, encoding="utf-8")
    return count
