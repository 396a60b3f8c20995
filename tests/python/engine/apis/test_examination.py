"""`granary doctor SOURCE` at APIs: answers, keys, columns and clocks."""

from __future__ import annotations

import time
from datetime import timedelta
from email.utils import formatdate
from typing import TYPE_CHECKING

import pyarrow as pa

from granary.load.api import load_table
from granary.readers.rest import Api, ApiKey, Endpoint, RestReader
from granary.sources.spec import Column, Table
from granary.warehouse.connection import connect, query
from tests.python.engine.apis.conftest import Reply
from tests.python.support.worked_examples import example

if TYPE_CHECKING:
    import pytest

    from granary.warehouse.settings import Settings
    from tests.python.engine.apis.conftest import Service

ORDERS = Table(
    name="orders",
    description="Orders.",
    location="orders",
    columns=(Column("id", pa.int64(), "Number.", nullable=False), Column("total", pa.int64(), "Cents.")),
    disposition="merge",
    freshness=timedelta(days=1),
    key=("id",),
)


def reader(service: Service) -> RestReader:
    return RestReader(Api(service.url, auth=ApiKey("X-Key", "secret-key"), attempts=1), Endpoint("orders"))


def test_a_service_whose_clock_is_an_hour_ahead(service: Service) -> None:
    ahead = formatdate(time.time() + 3_600, usegmt=True)
    service.routes["/orders"] = lambda _: Reply({"data": [{"id": 1, "total": 2}]}, headers={"Date": ahead})
    (found,) = reader(service).examine([ORDERS])
    assert (found.what, found.where, found.severity) == ("the source's clock is not ours", service.url, "problem")
    assert found.how_large.endswith("s ahead")
    assert 3_500 < float(found.how_large.split()[0].replace(",", "")) <= 3_600


def test_a_key_that_is_refused_is_said_and_not_shown(service: Service) -> None:
    service.routes["/orders"] = lambda _: Reply({}, 401)
    (found,) = reader(service).examine([ORDERS])
    assert (found.severity, found.todo) == ("problem", "check the source's key")
    assert "secret-key" not in f"{found}"


def test_a_service_that_is_well_is_asked_once_a_table(service: Service) -> None:
    service.routes["/orders"] = lambda _: {"data": [{"id": 1, "total": 2}]}
    assert list(reader(service).examine([ORDERS])) == []
    assert len(service.asked) == 1


def test_the_guide_s_example(service: Service, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    order = {"id": 7, "ship_to": {"city": "Ulm"}, "updated_at": "2024-02-29T12:00:00Z"}
    lines = [{"sku": "a", "amount": 1.5}, {"sku": "b", "amount": 2}]
    service.routes["/token"] = lambda _: {"access_token": "t", "token_type": "Bearer", "expires_in": 3600}
    service.routes["/v1/orders"] = lambda _: {"data": [order | {"lines": lines}], "meta": {"next": None}}
    login = {"GRANARY_SHOP_CLIENT": "me", "GRANARY_SHOP_SECRET": "secret"}
    source = example("apis", monkeypatch, GRANARY_SHOP_URL=service.url, **login)
    assert load_table(warehouse, "shop", "orders").rows_loaded == 1
    assert load_table(warehouse, "shop", "order_lines").rows_loaded == 2
    with connect(warehouse) as connection:
        assert query(connection, "select id, city from raw_shop.orders") == [(7, "Ulm")]
        found = query(connection, "select order_id, line, sku, amount::text from raw_shop.order_lines order by line")
    assert found == [(7, 1, "a", "1.50"), (7, 2, "b", "2.00")]
    assert list(source.reader(warehouse).examine(source.tables)) == []
