"""Whatever a source calls its things: the files parse, hold exactly that as data, and pass the project's linters."""

from __future__ import annotations

import ast
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from granary.scaffold import dbt
from granary.scaffold.declared import differences
from granary.scaffold.keywords import KEYWORDS
from granary.scaffold.names import LONGEST, check_source, raw_names, staged_names, table_names
from granary.scaffold.plan import Found, Opening, PlannedSource, enumeration, plan
from granary.scaffold.source import Group, literal, module
from granary.scaffold.verify import check
from granary.scaffold.write import files, write
from granary.sources.spec import NAME, Source
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTILE = (
    '"', "'", "\\", '"""', "'''", "{{ 1 }}", "{% raw %}", "{# x #}", "a\nb", "\t", "\r", "\0", "{", "}", "#", "--",
    "; drop table x", "${X}", "%s", "\u2028", "\u202e", "é", "日", "🚲", "null", "yes", "~", "- a", "a: b", "&a", "*a",
    "!x", "x" * 130, "a b " * 40, "1", "_row", "_load_id", "load_id", "select", "date", "A", "a", "",
)  # fmt: skip
PIECES = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
TEXT = st.lists(PIECES, max_size=3).map("".join)


def planned(
    headers: Sequence[str], values: Sequence[str], name: str = "rentals", place: str = "r.csv"
) -> PlannedSource:
    """Return the plan of a source with one table, whose columns all hold these values."""
    column = pa.array([values[n % len(values)] for n in range(24)], pa.string())
    sample = pa.Table.from_arrays([column for _ in headers], names=list(headers))
    opening = Opening(
        imports=("from granary.readers.files import FileReader",),
        expression=Group("FileReader", ('settings["GRANARY_BIKES_LANDING"]',)),
        settings={"GRANARY_BIKES_LANDING": "/landing"},
    )
    found = Found(name, place, sample, timedelta(days=8), text="all", complete=True, whole=True)
    return plan("bikes", "csv", opening, [found])


def run(text: str) -> Source:
    """Return the source that a module defines."""
    ast.parse(text)
    space: dict[str, Any] = {}
    exec(compile(text, "bikes.py", "exec"), space)
    found: Source = space["SOURCE"]
    return found


def as_dbt_reads(source: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of a source's YAML; a table inherits the config of its source."""
    nodes = {}
    for table in source["tables"]:
        config = source["config"] | table.get("config", {})
        nodes[table["name"]] = table | {
            "source_name": source["name"],
            "source_description": source["description"],
            "loaded_at_query": config["loaded_at_query"],
            "freshness": config["freshness"],
            "columns": {column["name"]: column for column in table["columns"]},
        }
    return {"sources": nodes}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            ("description",),
            "x",
            ": the source: the contract says Bikes, as its owner delivers it (csv)., and dbt's source x",
        ),
        (
            ("tables", 0, "description"),
            "x",
            ": the contract says One row per rental, from `r.csv`., and dbt's source x",
        ),
        (
            ("tables", 0, "config", "freshness", "warn_after", "count"),
            36,
            ": warn_after: the contract says 8 days, 0:00:00, and dbt's source 1 day, 12:00:00",
        ),
        (
            ("tables", 0, "config", "freshness", "error_after"),
            {"count": 15, "period": "day"},
            ": error_after: the contract says 16 days, 0:00:00, and dbt's source 15 days, 0:00:00",
        ),
        (
            ("tables", 0, "config", "freshness"),
            None,
            ": warn_after: the contract says 8 days, 0:00:00, and dbt's source nothing",
        ),
        (("config", "loaded_at_query"), "select now()", ": its loaded_at_query does not ask ops.freshness"),
        (("tables", 0, "columns", 0, "name"), "other", ".email: dbt's source has no such column"),
        (("tables", 0, "columns", 0, "description"), "", ".email: the contract says email: "),
        (
            ("tables", 0, "columns", 0, "config", "meta", "personal"),
            "pseudonym",
            ".email: personal: the contract says identifier, and dbt's source pseudonym",
        ),
        (
            ("tables", 0, "columns", 0, "config", "meta", "subject"),
            "rider",
            ".email: subject: the contract says nothing, and dbt's source rider",
        ),
    ],
)
def test_what_a_source_s_yaml_says_otherwise_than_its_contract_is_named(
    path: tuple[Any, ...], value: Any, words: str
) -> None:
    source = planned(["email"], ["ann@example.org", "bob@example.org"])
    (declared,) = yaml.safe_load(files(source)["models/staging/bikes/_bikes__sources.yml"])["sources"]
    contract = run(module(source))
    assert differences([contract], as_dbt_reads(declared)) == []
    part = declared
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    found = differences([contract], as_dbt_reads(declared))
    assert found[0].startswith(f"bikes.rentals{words}")
    assert len(found) == 1 + (path[-1] == "freshness")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXT, min_size=1, max_size=5, unique=True), st.lists(TEXT, min_size=1, max_size=4), TEXT, TEXT)
def test_generated_files_hold_hostile_text_as_data(
    headers: list[str], values: list[str], name: str, place: str
) -> None:
    source = planned(headers, values, name, place)
    (table,) = run(module(source)).tables
    assert table.location == place
    for column, header in zip(table.columns, headers, strict=True):
        assert column.name == header if not column.aliases else column.aliases == (header,)
        assert NAME.fullmatch(column.name)
    contents = files(source)
    check(source, contents)
    (model,) = yaml.safe_load(contents[f"models/staging/bikes/stg_bikes__{table.name}.yml"])["models"]
    (declared,) = yaml.safe_load(contents["models/staging/bikes/_bikes__sources.yml"])["sources"]
    assert [one["name"] for one in declared["tables"][0]["columns"]][:-2] == [column.name for column in table.columns]
    assert differences([run(module(source))], as_dbt_reads(declared)) == []
    shown = {one["name"]: one for one in model["columns"]}
    (made,) = source.tables
    for planned_column in made.columns:
        for test in shown[planned_column.staged].get("data_tests", []):
            (body,) = test.values()
            assert len(body["name"]) <= LONGEST
            if "accepted_values" in test:
                assert body["arguments"]["values"] == sorted({value.strip() or value for value in values} - {""})
    descriptions = " ".join([model["description"], *(one["description"] for one in model["columns"])])
    assert not re.search(r"\{[{%#]", descriptions)
    sql = contents[f"models/staging/bikes/stg_bikes__{table.name}.sql"]
    assert re.fullmatch(r"[a-z0-9_ ,()*\n]+", sql.replace(f"{{{{ source('bikes', '{table.name}') }}}}", ""))


NUMBERS = st.one_of(
    st.sampled_from(
        ["1.5e25", "-1e+300", "5e-324", "12E5", "00", "-0.0", "1" * 17 + ".5", "9" * 18, "1.10", "$1,234.5", "NA"]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.dates().map(str),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(NUMBERS, min_size=30, max_size=30), min_size=1, max_size=4))
def test_numbers_of_any_size_make_files_that_work(columns: list[list[str]]) -> None:
    sample = pa.table({f"c{place}": values for place, values in enumerate(columns)})
    source = planned(["x"], ["y"])
    found = Found("numbers", "n.csv", sample, timedelta(days=8), text="all", complete=True, whole=True)
    made = plan("bikes", "csv", source.opening, [found])
    check(made, files(made))


@pytest.mark.parametrize(
    "kind", [pa.decimal256(50, 2), pa.decimal256(76, 76), pa.decimal128(38, 38), pa.float64(), pa.int64(), pa.uint64()]
)
def test_the_largest_values_of_each_type_make_files_that_work(kind: pa.DataType) -> None:
    top = {pa.int64(): 2**63 - 1, pa.uint64(): 2**64 - 1, pa.float64(): 1.7976931348623157e308}
    most = top.get(kind) or Decimal("0.5" if kind.scale == kind.precision else "1e30")
    low = Decimal(0) if pa.types.is_decimal(kind) else 0
    sample = pa.table({"n": pa.array([low, most, low, most], kind), "inf": [math.inf, -math.inf, math.nan, 1.0]})
    source = planned(["x"], ["y"])
    made = plan("bikes", "parquet", source.opening, [Found("t", "t.parquet", sample, timedelta(days=8), complete=True)])
    check(made, files(made))


def test_a_file_that_would_not_work_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = planned(["id"], ["1"])
    monkeypatch.setattr(dbt, "LARGEST_BOUND", 2**80)
    sample = pa.table({"id": ["1", "2"], "n": ["9" * 20 + ".5", "1.5"]})
    made = plan("bikes", "csv", source.opening, [Found("t", "t.csv", sample, timedelta(days=8), "all", True)])
    with pytest.raises(GranaryError, match="larger than what dbt can hold"):
        write(made, tmp_path / "project", tmp_path / "home", force=False)
    assert not (tmp_path / "project").exists()
    broken = replace(source, opening=replace(source.opening, imports=("import nothing_that_is_there",)))
    with pytest.raises(GranaryError, match="nothing_that_is_there"):
        write(broken, tmp_path / "project", tmp_path / "home", force=False)
    assert not (tmp_path / "home").exists()


@given(TEXT)
def test_a_literal_is_its_text(text: str) -> None:
    assert ast.literal_eval(literal(text)) == text
    assert "\n" not in literal(text)


@given(st.recursive(TEXT, lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXT, inner)), max_leaves=6))
def test_yaml_reads_back_as_what_was_written(content: Any) -> None:
    assert yaml.safe_load(dbt.dump({"x": content})) == {"x": content}


@given(st.lists(TEXT, unique=True, max_size=8), st.sampled_from(["rentals", "order", "batches", "x"]))
def test_column_names_are_safe_and_told_apart(headers: list[str], table: str) -> None:
    raw = raw_names(headers, table)
    staged = staged_names(raw, table)
    for names in (raw, staged):
        assert len(set(names)) == len(headers)
        assert all(NAME.fullmatch(name) for name in names)
    assert not set(staged) & {"load_id", "load_row", *KEYWORDS}
    assert all(name == header or name not in headers for name, header in zip(raw, headers, strict=True))


@given(st.lists(TEXT, max_size=8))
def test_table_names_leave_room_for_their_model(wanted: list[str]) -> None:
    names = table_names("a" * 24, wanted)
    assert len(set(names)) == len(wanted)
    assert all(NAME.fullmatch(name) and len(f"stg_{'a' * 24}__{name}") <= LONGEST for name in names)


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/b", "Bikes", "a b", "", "a__b", "_a", "1a", "a" * 25, "ops", "marts", "select", "a\n", "{{x}}"],
)
def test_a_name_that_could_be_a_path_or_code_is_refused(name: str) -> None:
    with pytest.raises(GranaryError):
        check_source(name)


@pytest.mark.parametrize("value", ["1.50", "1_000", "0x10", "b'x'", "it's", "{{ x }}", "(1)", "a\\", " a", "[1]"])
def test_values_that_could_be_read_as_something_else_are_not_tested(value: str) -> None:
    (table,) = planned(["state"], [value, "open", "paid"]).tables
    assert enumeration(table.columns[0]) == ()


def test_every_word_of_sql_may_be_a_header_and_the_files_pass_the_linters(tmp_path: Path) -> None:
    words = [word.upper() for word in sorted(KEYWORDS)]
    parts = [planned(words[start : start + 150], ["open", "paid"]) for start in range(0, len(words), 150)]
    hostile = planned([text for text in HOSTILE if text], ["open", "paid"], "Öffnungen", "a'b\"c\\{{ x }}\n.csv")
    tables = [found(part, f"rentals {number}") for number, part in enumerate(parts)]
    both = plan("bikes", "csv", hostile.opening, [*tables, found(hostile, "hours")])
    for path, content in files(both).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    for package in ("ingestion", "ingestion"):
        (tmp_path / package / "__init__.py").touch()
    for name in (".sqlfluff", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path)
    rules = (PROJECT / ".yamllint").read_text().replace("ignore-from-file: .gitignore", "")
    shutil.copytree(PROJECT / "macros", tmp_path / "macros")
    for command in (
        ["ruff", "check", "--no-cache", "ingestion"],
        ["ruff", "format", "--no-cache", "--diff", "ingestion"],
        ["yamllint", "--strict", "-d", rules, "models"],
        ["sqlfluff", "lint", "models"],
    ):  # fmt: skip
        tool = Path(sys.executable).with_name(command[0])
        done = subprocess.run([tool, *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command[0]}: {done.stdout[-3000:]}{done.stderr[-2000:]}"


def found(source: PlannedSource, name: str) -> Found:
    """Return what a planned table was made from."""
    (table,) = source.tables
    sample = pa.table({column.header: ["open", "paid"] * 12 for column in table.columns})
    return Found(name, table.location, sample, timedelta(days=8), text="all", complete=True, whole=True)


def test_the_tests_say_what_was_seen() -> None:
    sample = pa.table(
        {
            "Rental ID": [str(n) for n in range(40)],
            "price": [f"{n * 7 % 40 * 1.5:.2f}" for n in range(40)],
            "total": [f"{n * 1.5:.2f}" for n in range(40)],
            "Start": [f"2024-0{1 + n % 3}-15" for n in range(40)],
            "channel": ["app", "desk"] * 20,
            "note": ["", "x"] * 20,
            "email": [f"{n}@example.org" for n in range(40)],
        }
    )
    opening = Opening(("import x",), Group("X", ()), {})

    def tests(complete: bool) -> dict[str, list[Any]]:
        one = Found("rentals", "r", sample, timedelta(1), "all", complete, whole=True)
        made = plan("bikes", "csv", opening, [one])
        (table,) = made.tables
        (model,) = yaml.safe_load(dbt.staging_yaml(made, table))["models"]
        return {column["name"]: column.get("data_tests", []) for column in model["columns"]}

    warn = {"config": {"severity": "warn"}}
    whole = tests(complete=True)
    assert whole["rental_id"] == [
        {"unique": {"name": "bikes_rentals_rental_id_unique"}},
        {"not_null": {"name": "bikes_rentals_rental_id_present"}},
    ]
    assert whole["price"] == [
        {"not_null": {"name": "bikes_rentals_price_present"}},
        {
            "dbt_utils.accepted_range": {
                "name": "bikes_rentals_price_in_range",
                "arguments": {"min_value": 0, "max_value": 59},
                **warn,
            }
        },
    ]
    assert whole["total"] == [{"not_null": {"name": "bikes_rentals_total_present"}}]  # it rises: later rows are above
    assert whole["rental_start"][1]["dbt_utils.accepted_range"]["arguments"] == {"min_value": "date '2024-01-01'"}
    assert whole["channel"][1] == {
        "accepted_values": {"name": "bikes_rentals_channel_known", "arguments": {"values": ["app", "desk"]}}
    }
    assert whole["note"] == []
    assert whole["email"] == [{"not_null": {"name": "bikes_rentals_email_present"}}]
    sampled = tests(complete=False)
    assert sampled["channel"][1]["accepted_values"]["config"] == {"severity": "warn"}
    assert sampled["rental_id"] == whole["rental_id"]


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("58.5", 58, 59), ("-7.31", -7.4, -7.3), ("1234", 1200, 1300), ("0.00123", 0.0012, 0.0013), ("0", 0, 0)],
)
def test_ranges_are_rounded_away_from_the_values(value: str, low: float, high: float) -> None:
    assert (dbt._outward(float(value), math.floor), dbt._outward(float(value), math.ceil)) == (low, high)
