"""A time of change in the future moves no watermark, whatever the cursor is and wherever the rows come from."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load.api import load_table
from granary.readers.files import FileReader
from granary.readers.graphql import GraphqlReader, Query
from granary.readers.rest import Api, Endpoint, RestReader, Since
from granary.sources.spec import Column
from granary.warehouse.connection import connect, execute
from tests.python.engine.apis.test_collections import items

if TYPE_CHECKING:
    from pathlib import Path

    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings
    from tests.python.engine.apis.conftest import Service
    from tests.python.engine.apis.test_collections import Declare, Rows

NOW = datetime.now(timezone.utc)
SOON, LATE, FAR = NOW + timedelta(days=1), NOW + timedelta(days=3), datetime(2099, 1, 1, tzinfo=timezone.utc)
AT = Column("at", pa.timestamp("us", tz="UTC"), "When it changed.")
WATERMARK = "select value from ops.watermarks where source = 'shop'"
REFUSED = "select payload ->> 'id', column_name, reason from ops.quarantine where status = 'open' order by 1"


def changed(kind: pa.DataType = AT.type, **more: Any) -> Table:
    at = Column("at", kind, "When it changed.")
    return items(at, **{"disposition": "merge", "cursor": "at", "max_refused": 0.9} | more)


def row(number: int, at: datetime | date) -> dict[str, Any]:
    return {"id": number, "name": f"item {number}", "at": at.isoformat()}


@pytest.mark.parametrize("kind", [AT.type, pa.timestamp("us"), pa.date32()], ids=str)
def test_a_row_of_the_far_future_is_refused(
    warehouse: Settings, service: Service, source: Declare, rows: Rows, kind: pa.DataType
) -> None:
    def written(number: int, at: datetime) -> dict[str, Any]:
        naive = at if kind == AT.type else at.replace(tzinfo=None)
        return row(number, naive.date() if pa.types.is_date(kind) else naive)

    found = [written(1, NOW), written(2, SOON), written(3, LATE), written(4, FAR)]
    service.routes["/items"] = lambda _: {"data": found}
    source(lambda: RestReader(Api(service.url), Endpoint("/items", since=Since("since"))), changed(kind))
    assert load_table(warehouse, "shop", "items").rows_loaded == 2
    assert rows(WATERMARK) == [(found[1]["at"],)]
    assert rows(REFUSED) == [("3", "at", "lies in the future"), ("4", "at", "lies in the future")]
    found[2:] = [written(4, NOW), written(5, SOON)]
    assert load_table(warehouse, "shop", "items").rows_loaded == 4
    assert rows("select count(*) from raw_shop.items") == [(4,)]
    assert rows("select status from ops.quarantine where payload ->> 'id' = '4'") == [("superseded",)]


def test_queries_and_files_have_the_same_bound(
    warehouse: Settings, service: Service, source: Declare, rows: Rows, tmp_path: Path
) -> None:
    service.routes["/graphql"] = lambda _: {"data": {"items": [row(1, NOW), row(2, FAR)]}}
    query = Query("/items", "query Items { items { id name at } }", "items")
    source(lambda: GraphqlReader(Api(f"{service.url}/graphql"), query), changed())
    assert load_table(warehouse, "shop", "items").rows_loaded == 1
    (tmp_path / "items.csv").write_text(f"id,name,at\n3,c,{SOON.isoformat()}\n4,d,{FAR.isoformat()}\n")
    table = changed()
    table = type(table)(**{**table.__dict__, "location": "items.csv"})
    source(lambda: FileReader(str(tmp_path)), table)
    assert load_table(warehouse, "shop", "items").rows_loaded == 1
    assert rows(WATERMARK) == [(SOON.isoformat(),)]
    assert rows(REFUSED) == [("2", "at", "lies in the future"), ("4", "at", "lies in the future")]


def test_a_watermark_that_is_there_already_is_not_believed(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    service.routes["/items"] = lambda _: {"data": [row(1, NOW)]}
    source(lambda: RestReader(Api(service.url), Endpoint("/items", since=Since("since"))), changed())
    load_table(warehouse, "shop", "items")
    with connect(warehouse, autocommit=True) as connection:
        execute(connection, "update ops.watermarks set value = $1 where source = 'shop'", FAR.isoformat())
    load_table(warehouse, "shop", "items")
    assert [query.get("since") for query in service.paths("/items")] == [None, None]
    assert rows(WATERMARK) == [(NOW.isoformat(),)]
