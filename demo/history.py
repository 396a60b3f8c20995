"""What the retailer did not know yet: earlier versions of some households and products, and their changes.

A key changes at most once in the year, so however often somebody looks, its history has two versions.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from demo.copies import YEAR

Row = dict[str, Any]

OPENED_AT = datetime(2016, 12, 1, tzinfo=timezone.utc)
"""`updated_at` of every row before its change, if it has one."""

CYCLE, CHANGING = 25, (3, 7)
"""Only a key with one of these remainders modulo 25 can change; 500 is a multiple of 25, so products too."""

_FIRST_CHANGE = datetime(2017, 1, 15, 15, tzinfo=timezone.utc)
DEMOGRAPHICS = (
    "age",
    "income",
    "home_ownership",
    "marital_status",
    "household_size",
    "household_comp",
    "kids_count",
)
_BRACKETS = (
    "Under 15K",
    "15-24K",
    "25-34K",
    "35-49K",
    "50-74K",
    "75-99K",
    "100-124K",
    "125-149K",
    "150-174K",
    "175-199K",
    "200-249K",
    "250K+",
)


def changed_at(key: int, years: int = 1) -> datetime:
    """Return when a key changes, if it does: 15 January 15:00 UTC and 0 to 329 days, in one of so many years."""
    return _FIRST_CHANGE + timedelta(days=key * 37 % 330) + key // CYCLE % years * YEAR


def earlier_household(row: Row) -> Row | None:
    """Return what was known of a household at the opening if that was less or other than now, else None.

    Of each 25 ids, one (3, 28, ...) answered the survey during the year, and one (7, 32, ...) rose by one
    bracket of income; those in the lowest bracket, and those without demographics, never change.
    """
    answered, rose = CHANGING
    group = row["household_id"] % CYCLE
    if group == answered and any(row[name] is not None for name in DEMOGRAPHICS):
        return row | dict.fromkeys(DEMOGRAPHICS)
    if group == rose and row["income"] in _BRACKETS[1:]:
        return row | {"income": _BRACKETS[_BRACKETS.index(row["income"]) - 1]}
    return None


def earlier_product(row: Row) -> Row | None:
    """Return a product as it was before it was classified, for one id in 500 (7, 507, ...), else None."""
    if row["product_id"] % 500 == 7 and (row["product_category"] or row["product_type"]):  # noqa: PLR2004
        return row | {"product_category": None, "product_type": None}
    return None
