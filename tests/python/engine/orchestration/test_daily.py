"""What is daily is said once: of a table by its contract, of a model by what it overwrites."""

import re
from pathlib import Path
from typing import Any

import pytest

import granary
from granary.dagster.translator import is_daily
from granary.dbt.manifest_nodes import overwritten_by

ENGINE = Path(granary.__file__).parent
STRATEGY = {"incremental_strategy": "overwrite_partitions"}


@pytest.mark.parametrize(
    ("config", "column"),
    [
        (STRATEGY | {"meta": {"partition_by": "business_date"}}, "business_date"),
        (STRATEGY | {"meta": {"partition_by": "week"}, "tags": ["daily"]}, "week"),
        ({"incremental_strategy": "append", "meta": {"partition_by": "business_date"}}, None),
        ({"meta": {"partition_by": "business_date"}, "materialized": "table", "tags": ["daily"]}, None),
    ],
)
def test_a_fact_is_daily_if_it_overwrites_whole_business_dates(config: dict[str, Any], column: str | None) -> None:
    node = {"resource_type": "model", "config": config, "tags": config.get("tags", [])}
    assert overwritten_by(node) == column
    assert is_daily(node) == (column == "business_date")


@pytest.mark.parametrize(
    ("word", "modules"),
    [
        (r'partition == "day"', {"sources/spec.py"}),
        (r'"daily"', set()),
        (r'[!=]= "overwrite_partitions"', {"dbt/manifest_nodes.py"}),
    ],
)
def test_nothing_else_says_so(word: str, modules: set[str]) -> None:
    found = {str(path.relative_to(ENGINE)) for path in ENGINE.rglob("*.py") if re.search(word, path.read_text())}
    assert found == modules
