"""Which partitions changed is worked out by one macro: models, audits, tests and publishing ask it."""

import re
from pathlib import Path

import pytest

import granary

MACROS = Path(granary.__file__).parent / "dbt_package" / "macros"


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (r"log\.load_id > seen\.previous_load_id", {"changed_partitions.sql"}),
        # What is past a watermark, as loads: the log of changes itself, and the tests of new loads.
        (r"previous_load_id", {"changed_partitions.sql", "log_changes.sql", "watermarks.sql"}),
        (r"var\(.from_date.\)", {"increments.sql"}),
        (r"granary_partitions", {"increments.sql"}),
        (r"published_partitions\(", {"increments.sql", "test_scope.sql"}),
    ],
)
def test_only_one_macro_works_it_out(words: str, files: set[str]) -> None:
    assert {path.name for path in MACROS.rglob("*.sql") if re.search(words, path.read_text())} == files
