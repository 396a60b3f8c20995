"""Sample retailers of this folder's own, beside the session's warehouse: other homes and other databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from demo import retailer
from demo.cut import cut
from demo.data import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from demo.data import Data
    from granary.warehouse.settings import Settings


@pytest.fixture(scope="session")
def year(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The whole retailer, one big advance to the end of its year; only to be read."""
    own = replace(settings, home=tmp_path_factory.mktemp("year"), database=f"{settings.database}_year")
    retailer.open_for_business(own)
    retailer.advance(own, date(2017, 12, 31))
    yield own
    retailer.forget(own)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """The data of households 1 to 7; the seventh has demographics, and rises by one bracket on 1 October."""
    return cut(installed(), 7, tmp_path_factory.mktemp("few"))


@pytest.fixture
def place(
    settings: Settings, few: Data, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Settings]]:
    """Give settings for one more retailer, by name, whose whole world is `few`; all are forgotten at the end."""
    monkeypatch.setattr(retailer, "installed", lambda: few)
    made: list[Settings] = []

    def one(name: str) -> Settings:
        home: Path = tmp_path_factory.mktemp(name)
        made.append(replace(settings, home=home, database=f"{settings.database}_{name}"))
        return made[-1]

    yield one
    for own in made:
        retailer.forget(own)
