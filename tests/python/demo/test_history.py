from __future__ import annotations

from datetime import datetime, timezone

import pyarrow.compute as pc
import pytest

from demo import crm, data
from demo.history import changed_at, earlier_household, earlier_product

HOUSEHOLD = {
    "household_id": 28,
    "age": "45-54",
    "income": "50-74K",
    "home_ownership": None,
    "marital_status": "Married",
    "household_size": "2",
    "household_comp": "2 Adults No Kids",
    "kids_count": "0",
}
NOTHING = dict.fromkeys(list(HOUSEHOLD)[1:])


def test_a_household_that_answered_the_survey_was_a_blank_before() -> None:
    assert earlier_household(HOUSEHOLD) == {"household_id": 28, **NOTHING}
    assert earlier_household({"household_id": 28, **NOTHING}) is None


@pytest.mark.parametrize(
    ("income", "before"),
    [("50-74K", "35-49K"), ("15-24K", "Under 15K"), ("250K+", "200-249K"), ("100-124K", "75-99K")],
)
def test_a_household_that_rose_was_one_bracket_lower_before(income: str, before: str) -> None:
    row = HOUSEHOLD | {"household_id": 32, "income": income}
    assert earlier_household(row) == row | {"income": before}


def test_the_lowest_bracket_the_unknown_and_all_others_never_change() -> None:
    assert earlier_household(HOUSEHOLD | {"household_id": 32, "income": "Under 15K"}) is None
    assert earlier_household(HOUSEHOLD | {"household_id": 32, "income": None}) is None
    assert all(earlier_household(HOUSEHOLD | {"household_id": key}) is None for key in (25, 29, 30, 31, 33))


def test_a_product_was_not_classified_before() -> None:
    row = {"product_id": 45507, "product_category": "EGGS", "product_type": "EGGS - LARGE", "brand": "Private"}
    assert earlier_product(row) == row | {"product_category": None, "product_type": None}
    assert earlier_product(row | {"product_id": 45508}) is None
    assert earlier_product(row | {"product_category": None, "product_type": None}) is None


@pytest.mark.parametrize(
    ("key", "days", "instant"),
    [
        (0, 0, datetime(2017, 1, 15, 15, tzinfo=timezone.utc)),
        (7, 259, datetime(2017, 10, 1, 15, tzinfo=timezone.utc)),  # 7 x 37 = 259
        (28, 46, datetime(2017, 3, 2, 15, tzinfo=timezone.utc)),  # 28 x 37 = 1,036 = 3 x 330 + 46
        (107, 329, datetime(2017, 12, 10, 15, tzinfo=timezone.utc)),  # 3,959 = 11 x 330 + 329
    ],
)
def test_the_instant_of_a_change_follows_from_the_key(key: int, days: int, instant: datetime) -> None:
    assert key * 37 % 330 == days
    assert changed_at(key) == instant


@pytest.mark.parametrize(
    ("name", "rows", "changes"), [("households", 2_469, 70), ("products", 92_331, 162), ("stores", 457, 0)]
)
def test_how_much_changes_in_the_year(name: str, rows: int, changes: int) -> None:
    entity = crm.ENTITIES[name]
    opening, later = entity.versions(data.installed())
    assert (opening.num_rows, later.num_rows) == (rows, changes)
    keys = opening[entity.key].to_pylist()
    assert keys == sorted(set(keys))


def test_what_was_unknown_at_the_opening() -> None:
    """Of the 801 households with demographics 36 had not answered; of 92,331 products 540 have no category."""
    households, _ = crm.ENTITIES["households"].versions(data.installed())
    products, _ = crm.ENTITIES["products"].versions(data.installed())
    assert pc.count(households["age"]).as_py() == 801 - 36
    assert products["product_category"].null_count == 540 + 162
