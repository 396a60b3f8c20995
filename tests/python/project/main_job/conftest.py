"""The main job itself, once: `granary demo run` on the whole real year, as `make demo` calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from granary.warehouse.connection import connect, query
from tests.python.support.command import granary

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings


@dataclass(frozen=True)
class Year:
    """The warehouse that holds the whole year, and what the command printed while it was made."""

    settings: Settings
    printed: str

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with connect(self.settings) as connection:
            return query(connection, sql)


@pytest.fixture(scope="session")
def year(make_warehouse: Callable[[str], Settings]) -> Year:
    """Return the whole year, loaded, built and tested."""
    settings = make_warehouse("year")
    done = granary(settings, "demo", "run")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Year(settings, done.stdout)
