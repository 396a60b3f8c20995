"""Three marts of a bike rental, published as dbt does it, without dbt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from granary.warehouse.connection import execute, query

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

State = dict[str, str]


def node(name: str, key: tuple[str, ...], **meta: Any) -> dict[str, Any]:
    """Describe a mart as dbt does."""
    grain = [{"name": f"{name}_grain", "columns": list(key), "unique": True}] if key else []
    return {
        "id": f"model.rides.{name}", "name": name, "alias": name, "kind": "model", "schema": "build",
        "materialized": "table", "parents": [], "partition": meta.pop("partition", []),
        "columns": meta.pop("columns", {}), "grants": {"select": ["analyst"]},
        "meta": {"declared_indexes": grain} | meta,
    }  # fmt: skip


class Rides:
    """Three marts of a bike rental.

    `rentals` has a key, days that are overwritten, and riders whose names are masked; `docks` has no key, and rows that
    occur more than once; `stations` has a key that may be null.
    """

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection, self.settings = connection, settings
        self.marts = {
            "rentals": node(
                "rentals", ("rental", "business_date"), partition=["business_date"], measures=["bikes"],
                unmasked={"select": "analyst_pii"},
                columns={"rider": {"personal": "identifier", "subject": "rider"}},
            ),
            "docks": node("docks", ()),
            "stations": node("stations", ("station",)),
        }  # fmt: skip

    def run(self, *statements: str) -> None:
        for statement in statements:
            execute(self.connection, statement)
        self.connection.commit()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        found = query(self.connection, sql, *values)
        self.connection.commit()
        return found

    def document(self, *, despite: tuple[str, ...] = ()) -> str:
        return json.dumps(
            {
                "schema": "marts", "personal": "personal", "build": "build", "invocation": "x", "erasing": False,
                "despite": list(despite), "masks": {"identifier": "mask"}, "nodes": list(self.marts.values()),
                "empty": False, "results": [], "command": "build",
            }
        )  # fmt: skip

    def built(self, *days: str, marts: tuple[str, ...] = ("rentals", "docks", "stations")) -> None:
        """Say that marts were built; of rentals these days only, if there are any."""
        for mart in marts:
            for day in days if days and mart == "rentals" else (None,):
                execute(
                    self.connection,
                    "insert into ops.unpublished (schema_name, mart, partition, invocation_id)"
                    " values ('marts', $1, $2, 'x')",
                    mart,
                    day,
                )
        self.connection.commit()

    def publish(self, *days: str, despite: tuple[str, ...] = ()) -> int:
        """Publish as dbt does, after all was built, or these days of rentals; return the publish's number."""
        self.built(*days)
        planned = query(self.connection, "select ops.publish_script($1)", self.document(despite=despite))[0][0]
        self.connection.commit()
        self.connection.autocommit = True
        execute(self.connection, planned["script"])
        self.connection.autocommit = False
        ((number,),) = self.rows("select ops.shown_publish('marts')")
        return int(number)

    def state(self, schema: str = "marts") -> State:
        """Return a hash of each mart by the rows that the owner sees, as no function of the engine counts them."""
        hashes = ", ".join(
            f"(select md5(string_agg(r::text, '|' order by r::text)) from {schema}.{mart} as r)" for mart in self.marts
        )
        return dict(zip(self.marts, self.rows(f"select {hashes}")[0], strict=True))

    def begin(self) -> None:
        """Build the marts and publish them for the first time."""
        self.run(
            "create schema build",
            "create table build.rentals (rental bigint not null, rider text, business_date date not null,"
            " bikes integer, price numeric(12, 2))",
            "insert into build.rentals values (1, 'Ada', '2021-01-05', 1, 4.50), (2, 'Bo', '2021-01-31', 2, 9.00),"
            " (3, 'Ada', '2021-02-01', 1, 4.50)",
            "create table build.docks (dock text, business_date date)",
            "insert into build.docks values ('A', '2021-01-05'), ('A', '2021-01-05'), (null, null)",
            "create table build.stations (station integer, name text)",
            "insert into build.stations values (1, 'Park'), (null, 'unknown'), (null, 'unknown, too')",
        )
        self.publish()


def week(rides: Rides) -> list[State]:
    """Publish four times more; return the five states."""
    found = [rides.state()]
    for statements in (
        ("update build.rentals set price = 10 where rental = 2", "insert into build.docks values ('A', '2021-01-05')"),
        ("delete from build.rentals where rental = 1", "delete from build.docks where dock is null"),
        ("insert into build.rentals select 4, 'Cy', '2021-02-02', 3, 1", "delete from build.stations where station=1"),
        ("update build.rentals set bikes = 9", "update build.stations set name = 'nowhere' where name = 'unknown'"),
    ):  # fmt: skip
        rides.run(*statements)
        rides.publish()
        found.append(rides.state())
    return found
