"""What is daily is said once: of a table by its contract, of a model by what it overwrites."""

import re
from pathlib import Path
from typing import Any

import pytest

import granary
from granary.dagster.translator import is_daily

ENGINE = Path(granary.__file__).parent
STRATEGY = {"incremental_strategy": "overwrite_partitions"}


@pytest.mark.parametrize(
    ("config", "daily"),
    [
        (STRATEGY | {"meta": {"partition_by": "business_date"}}, True),
        (STRATEGY | {"meta": {"partition_by": "week"}, "tags": ["daily"]}, False),
        ({"incremental_strategy": "append", "meta": {"partition_by": "business_date"}}, False),
        ({"meta": {"partition_by": "business_date"}, "materialized": "table", "tags": ["daily"]}, False),
    ],
)
def test_a_fact_is_daily_if_it_overwrites_whole_business_dates(config: dict[str, Any], daily: bool) -> None:
    node = {"resource_type": "model", "config": config, "tags": config.get("tags", [])}
    assert is_daily(node) == daily


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
