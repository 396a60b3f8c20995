"""All models build on Spark from what Postgres has loaded, and every mart has the same rows there."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.python.spark.conftest import EVENING, dbt, granary

if TYPE_CHECKING:
    from pathlib import Path

    from granary.spark.cluster import Cluster
    from tests.python.project.pipeline.conftest import Pipeline


@pytest.fixture(scope="module")
def built(loaded: Pipeline, spark: Cluster) -> Pipeline:
    """Return the slice when all of it has been built on Spark, too."""
    granary(loaded.settings, "spark", "load")
    dbt(loaded.settings, "build", "--exclude-resource-type", "unit_test")
    return loaded


def compared(pipeline: Pipeline, *words: str, succeeds: bool = True) -> dict[str, tuple[int, int, bool]]:
    said = granary(pipeline.settings, "spark", "compare", "--json", *words, succeeds=succeeds)
    return {one["mart"]: (one["postgres_rows"], one["spark_rows"], one["is_equal"]) for one in json.loads(said)}


def loads(pipeline: Pipeline) -> dict[int, int]:
    """Return the loads of the sales with their rows."""
    found = pipeline.query("select _load_id, count(*) from raw_pos.transactions group by _load_id")
    return {int(load): int(rows) for load, rows in found}


def test_every_mart_is_equal_by_row_hash(built: Pipeline) -> None:
    found = compared(built)
    there = {name: rows for name, (rows, _) in built.marts().items()}
    assert found == {name: (rows, rows, True) for name, rows in there.items()}
    assert sum(rows for rows in there.values()) > 1_000


def test_what_changed_is_loaded_and_what_follows_is_equal_again(built: Pipeline) -> None:
    again = json.loads(granary(built.settings, "spark", "load", "--json"))
    assert {(one["written"], one["removed"]) for one in again} == {(0, 0)}
    before = loads(built)
    with built.at_hand():
        built.day(EVENING + timedelta(days=1))
    after = loads(built)
    moved = {one["relation"]: one for one in json.loads(granary(built.settings, "spark", "load", "--json"))}
    lines = moved["raw_pos.transactions"]
    assert (lines["rows"], lines["written"], lines["removed"]) == (
        sum(after.values()),
        len(after.items() - before.items()),
        len(before.items() - after.items()),
    )
    assert 0 < lines["written"] < len(after)
    assert not compared(built, "fct_sales", succeeds=False)["fct_sales"][2]
    dbt(built.settings, "build", "--exclude-resource-type", "test", "unit_test")
    assert {name for name, (_, _, equal) in compared(built).items() if not equal} == set()


def test_a_row_that_differs_is_found(built: Pipeline) -> None:
    assert compared(built, "dim_store")["dim_store"][2]
    built.execute(
        "update marts.dim_store set is_inferred = not is_inferred where store_id = (select min(store_id) from"
        " marts.dim_store)"
    )
    try:
        assert not compared(built, "dim_store", succeeds=False)["dim_store"][2]
    finally:
        built.execute(
            "update marts.dim_store set is_inferred = not is_inferred where store_id = (select min(store_id)"
            " from marts.dim_store)"
        )
    assert compared(built, "dim_store")["dim_store"][2]


def test_a_mart_that_is_not_there_is_named_with_those_that_are(built: Pipeline) -> None:
    said = granary(built.settings, "spark", "compare", "fct_sale", succeeds=False)
    assert "there is no mart 'fct_sale'" in said
    assert "did you mean fct_sales" in said


def test_dbt_without_a_cluster_says_how_to_start_one(opened: Pipeline, tmp_path: Path) -> None:
    elsewhere = replace(opened.settings, home=tmp_path)
    said = dbt(elsewhere, "run", succeeds=False)
    assert "Spark is not up" in said
    assert "granary spark up" in said
