"""Marts of a bike rental, published as dbt does it, and the targets that they go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from granary.deliver import deliver as room
from granary.deliver.spec import Delivery, HttpApi
from granary.readers.api.spec import Api
from granary.warehouse.connection import connect
from tests.python.support import mariadb
from tests.python.support.delivery_service import service as run_service
from tests.python.support.rides import Rides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.deliver.deliver import Delivered
    from granary.deliver.spec import Target
    from granary.warehouse.settings import Settings
    from tests.python.support.delivery_service import Service

    Send = Callable[..., Delivered]


def delivery(target: Target, **more: Any) -> Delivery:
    """Return a delivery of rentals."""
    said: dict[str, Any] = {"name": "rentals_out", "description": "Rentals.", "owner": "tests", "mart": "rentals"}
    return Delivery(settings=(), target=lambda _: target, **(said | more))


@pytest.fixture
def rides(warehouse: Settings) -> Iterator[Rides]:
    """Return the marts as they are published for the first time."""
    with connect(warehouse, role="transformer") as connection:
        made = Rides(connection, warehouse)
        made.begin()
        yield made


@pytest.fixture
def service() -> Iterator[Service]:
    """Return a service that honours idempotency keys."""
    with run_service() as found:
        yield found


@pytest.fixture
def api(service: Service) -> HttpApi:
    """Return the service as a target."""
    return HttpApi(Api(service.url, attempts=3), "/rentals")


@pytest.fixture
def send(rides: Rides) -> Send:
    """Return a function that delivers rentals to a target."""

    def sent(target: Target, options: dict[str, bool] | None = None, **more: Any) -> Delivered:
        return room.deliver(rides.settings, delivery(target, **more), **(options or {}))

    return sent


@pytest.fixture(scope="session")
def maria() -> Iterator[mariadb.MariaDB]:
    """Return a server, once for all tests."""
    if not (program := mariadb.binary()):
        pytest.skip(f"there is no MariaDB server here: install the Debian package {mariadb.PACKAGE}")
    server = mariadb.start(program)
    yield server
    server.stop()
