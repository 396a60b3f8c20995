"""Three small marts, published as dbt does it, in a project that wants a twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.twin import config, sync
from granary.warehouse.connection import connect
from tests.python.support.rides import Rides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.twin.sync import Synced
    from granary.warehouse.settings import Settings

    Sync = Callable[..., Synced]


@pytest.fixture
def rides(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rides]:
    """Return the marts as they are published for the first time."""
    monkeypatch.setattr(config, "project_vars", lambda: {"twin": True})
    with connect(warehouse, role="transformer") as connection:
        made = Rides(connection, warehouse)
        made.begin()
        yield made


@pytest.fixture
def follow(rides: Rides) -> Sync:
    """Return a function that brings the twin to what is shown."""
    wanted = config.required(rides.settings)
    return lambda **options: sync.sync(rides.settings, wanted, **options)
