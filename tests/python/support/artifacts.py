"""A shop of bicycles as dbt would tell of it: manifest and catalog of seven tables, small enough to read.

raw_shop.rentals > stg_shop__rentals > fct_rentals > daily_rentals; raw_shop.bikes > snap_shop__bikes > dim_bike; the
seed bike_kinds. fct_rentals.bike_key is tested to be in dim_bike, fct_rentals.kind to be in bike_kinds, where it is not
unique.
"""

from __future__ import annotations

from typing import Any

SOURCE, MODEL = "source.shop.shop", "model.shop"


def _node(kind: str, name: str, schema: str, columns: dict[str, str], **more: Any) -> dict[str, Any]:
    config = {"materialized": "table", "meta": {}, **more.pop("config", {})}
    return {
        "resource_type": kind,
        "unique_id": f"{kind}.shop.{name}",
        "name": name,
        "alias": name,
        "database": "shop",
        "schema": schema,
        "fqn": ["shop", more.pop("layer", schema), more.pop("area", "core"), name],
        "description": f"One row per {name}.",
        "columns": {one: {"data_type": type_, "description": f"The {one}."} for one, type_ in columns.items()},
        "config": config,
        "depends_on": {"nodes": more.pop("reads", [])},
        **more,
    }


def _mart(name: str, columns: dict[str, str], key: list[str], **more: Any) -> dict[str, Any]:
    indexes = [{"columns": key, "unique": True}, {"columns": list(columns)[-1:]}]
    config = {"schema": "build", "meta": {"declared_indexes": indexes}}
    return _node("model", name, "build", columns, layer="marts", config=config, **more)


def _source(name: str, columns: dict[str, str]) -> dict[str, Any]:
    made = _node("source", name, "raw_shop", columns)
    return made | {"unique_id": f"{SOURCE}.{name}", "source_name": "shop", "identifier": name}


def _join(name: str, kind: str, column: str, to: str, field: str) -> dict[str, Any]:
    about, other = f"{MODEL}.fct_rentals", f"{'seed.shop' if to == 'bike_kinds' else MODEL}.{to}"
    return {
        "resource_type": "test",
        "unique_id": f"test.shop.{name}",
        "name": name,
        "attached_node": about,
        "depends_on": {"nodes": [other, about]},
        "test_metadata": {"name": kind, "kwargs": {"column_name": column, "to": f"ref('{to}')", "field": field}},
    }


def manifest(text: str = "") -> dict[str, Any]:
    """Return the manifest; `text` is put into descriptions."""
    rentals = {"rental_id": "bigint", "bike_id": "bigint", "kind": "text", "price": "double precision"}
    bikes = {"bike_id": "bigint", "colour": "text", "changed_at": "timestamp with time zone"}
    added = dict.fromkeys(("dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to"), "text")
    sources = [_source("rentals", rentals), _source("bikes", bikes)]
    nodes = [
        _node(
            *("model", "stg_shop__rentals", "staging", rentals),
            compiled_code="select rental_id, bike_id, kind, price::numeric(12, 2) as price from raw_shop.rentals",
            reads=[f"{SOURCE}.rentals"],
        ),
        _node(
            *("snapshot", "snap_shop__bikes", "snapshots", bikes | added),
            config={"materialized": "snapshot", "unique_key": "bike_id", "updated_at": "changed_at"},
            reads=[f"{SOURCE}.bikes"],
        ),
        _mart(
            *("dim_bike", {"bike_key": "text", "bike_id": "bigint", "colour": "text"}, ["bike_key"]),
            compiled_code="select md5(bike_id || dbt_valid_from) as bike_key, bike_id, colour"
            " from snapshots.snap_shop__bikes",
            reads=["snapshot.shop.snap_shop__bikes"],
        ),
        _mart(
            *("fct_rentals", {"rental_id": "bigint", "bike_key": "text", "kind": "text", "price": "numeric(12,2)"}),
            ["rental_id"],
            compiled_code="select r.rental_id, b.bike_key, r.kind, r.price from staging.stg_shop__rentals as r"
            " inner join build.dim_bike as b on r.bike_id = b.bike_id",
            reads=[f"{MODEL}.stg_shop__rentals", f"{MODEL}.dim_bike"],
        ),
        _mart(
            *("daily_rentals", {"bike_key": "text", "rentals": "bigint", "price": "numeric(12,2)"}, ["bike_key"]),
            compiled_code="select bike_key, count(*) as rentals, sum(price) as price"
            " from build.fct_rentals group by bike_key",
            reads=[f"{MODEL}.fct_rentals"],
            area="sales",
        ),
        _node(
            *("seed", "bike_kinds", "build", {"kind": "text", "size": "text"}),
            config={"materialized": "seed", "schema": "build"},
        ),
        _join("rentals_bike_known", "relationships", "bike_key", "dim_bike", "bike_key"),
        _join("rentals_kind_known", "members_known", "kind", "bike_kinds", "kind"),
    ]
    # Of another test that reads two marts, no join comes.
    nodes.append(
        nodes[-1] | {"name": "other", "unique_id": "test.shop.other", "test_metadata": {"name": "x", "kwargs": {}}}
    )
    for node in (*sources, *nodes):
        node["description"] = f"{node.get('description', '')} {text}".strip()
    exposure = {"label": "Dashboard: Bikes", "url": "http://127.0.0.1:8090/bikes.html"}
    return {
        "sources": {node["unique_id"]: node for node in sources},
        "nodes": {node["unique_id"]: node for node in nodes},
        "exposures": {
            "bikes": exposure | {"depends_on": {"nodes": [f"{MODEL}.daily_rentals"]}},
            "report": {"label": "A report", "url": None, "depends_on": {"nodes": [f"{MODEL}.daily_rentals"]}},
        },
    }


def catalog(of: dict[str, Any]) -> dict[str, Any]:
    """Return the catalog of the manifest's tables, all of them built as declared."""

    def columns(node: dict[str, Any]) -> dict[str, Any]:
        return {"columns": {name: {"type": one["data_type"]} for name, one in node["columns"].items()}}

    stored = {key: columns(node) for key, node in of["nodes"].items() if node["resource_type"] != "test"}
    return {"nodes": stored, "sources": {key: columns(node) for key, node in of["sources"].items()}}
