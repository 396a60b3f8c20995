"""The small shop of tests/python/support/project: all tests of the engine work for it, here and in their processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.python.support.business import the_shop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def business() -> Iterator[None]:
    """Have the shop's sources in place of those of the project around, and processes find the shop's project."""
    with the_shop():
        yield
