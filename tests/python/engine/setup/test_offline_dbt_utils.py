"""The stand-in for dbt_utils: it has what the project calls and nothing else, and answers as the real one does.

Both packages build the same small dbt project on Postgres: a table of tricky values, keys made of them, and
generic tests that must refuse some of them. The results are compared with values that are worked out here, so
this says something where the real package is absent too. Where it is present (in $GRANARY_REAL_DBT_UTILS, or in
dbt_packages/ instead of a link to the stand-in) it is held to the same values.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from granary.warehouse.connection import connect, execute, query
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings

Answers = dict[str, list[tuple[Any, ...]]]
"""The rows of each relation that a package built."""

STAND_IN = PROJECT / "granary/setup/offline/dbt_utils"
NULL = "_dbt_utils_surrogate_key_null_"

PROJECT_YML = """
name: parity
version: "1.0.0"
profile: parity
models: {+materialized: table}
flags: {send_anonymous_usage_stats: false}
"""

PROFILES_YML = """
parity:
  target: it
  outputs:
    it:
      type: postgres
      host: "{{ env_var('PGHOST') }}"
      port: "{{ env_var('PGPORT') | as_number }}"
      user: "{{ env_var('PGUSER') }}"
      password: "{{ env_var('PGPASSWORD', '') }}"
      dbname: "{{ env_var('PGDATABASE') }}"
      schema: "{{ env_var('PARITY_SCHEMA') }}"
      threads: 2
"""

# No two rows may get one key, although they look alike once they are joined to a text.
TRICKY = """
select id, a, b, amount, day
from (values
    (1, 'x', 'y', 1.50::numeric(12, 2), date '2017-03-12'),
    (2, 'x', null, 0.00, date '2017-11-05'),
    (3, null, null, null, null),
    (4, '', '', -0.01, date '2016-02-29'),
    (5, '-', '', 99999999.99, date '9999-12-31'),
    (6, '', '-', 100.00, date '0001-01-01'),
    (7, 'Müsli "süß"', E'two\\nlines', 100.01, date '2017-12-25'),
    (8, 'it''s', ' padded ', 1.50, date '2017-03-12'),
    (9, 'x', 'y', 7.00, date '2017-03-12'),
    (10, 'x', null, 7.00, null)
) as t (id, a, b, amount, day)
"""

KEYS = """
select
    id,
    {{ dbt_utils.generate_surrogate_key(['a']) }} as one,
    {{ dbt_utils.generate_surrogate_key(['id', 'a', 'b', 'amount', 'day', "amount > 1"]) }} as many,
    {{ dbt_utils.generate_surrogate_key(["a || b"]) }} as expression
from {{ ref('tricky') }}
"""

TESTS = """
models:
  - name: tricky
    config: {tags: [parity]}
    data_tests:
      - dbt_utils.unique_combination_of_columns:
          name: pairs
          arguments: {combination_of_columns: [a, b]}
          config: &kept {severity: warn, store_failures: true}
      - dbt_utils.unique_combination_of_columns:
          name: pairs_quoted
          arguments: {combination_of_columns: [a, b, amount], quote_columns: true}
          config: *kept
      - dbt_utils.expression_is_true:
          name: expression
          arguments: {expression: "amount < 100 or a = '-'"}
          config: *kept
      - dbt_utils.expression_is_true:
          name: expression_where
          arguments: {expression: "a = 'x'"}
          config: {severity: warn, store_failures: true, where: "id <= 2 or id = 7"}
    columns:
      - name: amount
        data_tests:
          - dbt_utils.expression_is_true:
              name: expression_column
              arguments: {expression: ">= 0"}
              config: *kept
          - dbt_utils.accepted_range:
              name: range_both
              arguments: {min_value: 0, max_value: 100}
              config: *kept
          - dbt_utils.accepted_range:
              name: range_strict
              arguments: {min_value: 0, max_value: 100, inclusive: false}
              config: *kept
          - dbt_utils.accepted_range:
              name: range_upper
              arguments: {max_value: "id * 10"}
              config: *kept
"""

# The rows that each test must keep, as the first column's values: ids, or the values of the combination.
REFUSED: Answers = {
    "pairs": [("x", "y"), ("x", None)],
    "pairs_quoted": [],
    "expression": [(6,), (7,)],  # 100.00 and 100.01; row 5 is saved by its '-', row 3 is unknown
    "expression_where": [(7,)],
    "expression_column": [(4,)],
    "range_both": [(4,), (5,), (7,)],  # the bound 100.00 (row 6) and 0.00 (row 2) are allowed, null too
    "range_strict": [(2,), (4,), (5,), (6,), (7,)],
    "range_upper": [(5,), (6,), (7,)],  # 100.00 > 60, 100.01 > 70
}


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def packages() -> dict[str, Path]:
    """The stand-in, and the real dbt_utils if this machine has it."""
    found = {"stand_in": STAND_IN}
    installed = PROJECT / "dbt_packages" / "dbt_utils"
    if named := os.environ.get("GRANARY_REAL_DBT_UTILS"):
        found["real"] = Path(named)
    elif installed.is_dir() and not installed.is_symlink():
        found["real"] = installed
    return found


def build(settings: Settings, package: Path, folder: Path, schema: str) -> Answers:
    """Build the parity project with one of the packages; every relation's rows, in order."""
    files = {
        "dbt_project.yml": PROJECT_YML,
        "profiles.yml": PROFILES_YML,
        "models/tricky.sql": TRICKY,
        "models/keys.sql": KEYS,
        "models/tests.yml": TESTS,
        "macros/generate_schema_name.sql": "{% macro generate_schema_name(name, node) %}{{ target.schema }}"
        "{% endmacro %}",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "dbt_packages").mkdir()
    (folder / "dbt_packages" / "dbt_utils").symlink_to(package)
    where = {"PGHOST": settings.host, "PGPORT": str(settings.port), "PGUSER": settings.user}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), "--no-use-colors", "build", "--quiet"],
        cwd=folder,
        env=settings.environment() | where | {"PARITY_SCHEMA": schema},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with connect(settings, autocommit=True) as connection:
        try:
            names = f"select table_name::text from information_schema.tables where table_schema = '{schema}'"
            rows = 'select * from "{}"."{}" order by 1, 2'
            return {
                str(name): [tuple(row) for row in query(connection, rows.format(schema, name))]
                for (name,) in query(connection, names)
            }
        finally:
            execute(connection, f'drop schema "{schema}" cascade')


@pytest.fixture(scope="module", params=packages())
def answers(request: pytest.FixtureRequest, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What a package answers, for each package that is here."""
    package: str = request.param
    folder = tmp_path_factory.mktemp(package)
    return build(settings, packages()[package], folder, f"parity_{package}_{os.getpid()}")


def test_the_stand_in_has_the_name_and_the_pinned_version_of_the_real_package() -> None:
    project = (STAND_IN / "dbt_project.yml").read_text()
    pinned = re.search(r"dbt_utils\s+version: ([\d.]+)", (PROJECT / "packages.yml").read_text())
    assert pinned
    assert "\nname: dbt_utils\n" in project
    assert f'\nversion: "{pinned[1]}"\n' in project


def test_keys_are_the_worked_out_hashes(answers: Answers) -> None:
    one = {row[0]: row[1] for row in answers["keys"]}
    assert one[1] == "9dd4e461268c8034f5c8564e155c67a6"  # md5 of the letter x, from any md5 tool
    assert one[3] == md5(NULL)
    assert one[4] == md5("")
    assert one[7] == md5('Müsli "süß"')
    many = {row[0]: row[2] for row in answers["keys"]}
    assert many == {
        1: md5("1-x-y-1.50-2017-03-12-true"),
        2: md5(f"2-x-{NULL}-0.00-2017-11-05-false"),
        3: md5(f"3-{NULL}-{NULL}-{NULL}-{NULL}-{NULL}"),
        4: md5("4----0.01-2016-02-29-false"),
        5: md5("5----99999999.99-9999-12-31-true"),
        6: md5("6----100.00-0001-01-01-true"),
        7: md5('7-Müsli "süß"-two\nlines-100.01-2017-12-25-true'),
        8: md5("8-it's- padded -1.50-2017-03-12-true"),
        9: md5("9-x-y-7.00-2017-03-12-true"),
        10: md5(f"10-x-{NULL}-7.00-{NULL}-true"),
    }
    expression = {row[0]: row[3] for row in answers["keys"]}
    assert expression[1] == md5("xy")
    assert expression[2] == md5(NULL)  # text || null is null


@pytest.mark.parametrize("test", sorted(REFUSED))
def test_generic_tests_refuse_the_worked_out_rows(answers: Answers, test: str) -> None:
    if test.startswith("pairs"):
        assert answers[test] == REFUSED[test]
    else:  # whole rows of the table
        assert answers[test] == [row for row in answers["tricky"] if row[:1] in REFUSED[test]]
        assert [row[:1] for row in answers[test]] == REFUSED[test]
