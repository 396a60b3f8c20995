"""User-facing errors of a dbt run that failed, and whether it is worth another try."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from granary.dbt.failures import last_error, problem_of, problems_of
from granary.dbt.run_events import Problem

if TYPE_CHECKING:
    from pathlib import Path

MODEL = {"name": "fct_sales", "resource_type": "model", "original_file_path": "models/marts/core/fct_sales.sql"}
TEST = {
    "name": "fct_sales_grain",
    "resource_type": "test",
    "original_file_path": "models/marts/core/fct_sales.yml",
    "attached_node": "model.grocer.fct_sales",
}


def results(folder: Path, *statuses: tuple[str, str, str, int | None]) -> None:
    keys = ("unique_id", "status", "message", "failures")
    rows = [dict(zip(keys, row, strict=True)) for row in statuses]
    (folder / "run_results.json").write_text(json.dumps({"results": rows}))


@pytest.mark.parametrize(
    ("status", "message", "transient"),
    [
        ("error", "Database Error in model fct_sales\n  server closed the connection", True),
        ("error", "Compilation Error in model fct_sales\n  audit: fct_sales_grain", False),
    ],
    ids=["a lost connection may come back", "a failed audit fails again"],
)
def test_what_may_help_is_tried_again(tmp_path: Path, status: str, message: str, transient: bool) -> None:
    results(tmp_path, ("m", status, message, None), ("t", "skipped", "", None))
    problems, again = problems_of(tmp_path, {"nodes": {"m": MODEL, "t": TEST}})
    assert again is transient
    assert [problem.where for problem in problems] == ["models/marts/core/fct_sales.sql"]
    assert problems[0].what == "model fct_sales failed: " + " ".join(message.split())
    assert "dbt build --select fct_sales+" in problems[0].todo


def test_a_failed_test_is_not_tried_again_and_says_how_to_see_its_rows(tmp_path: Path) -> None:
    results(tmp_path, ("t", "fail", "Got 3 results, configured to fail if != 0", 3))
    problems, again = problems_of(tmp_path, {"nodes": {"t": TEST}})
    assert not again
    assert problems == [
        Problem(
            "test fct_sales_grain on fct_sales found 3 rows",
            "models/marts/core/fct_sales.yml",
            "see them with `dbt show --select fct_sales_grain`, fix the source, run again",
        )
    ]


@pytest.mark.parametrize("kind", ["unique", "unique_combination_of_columns"])
def test_a_key_that_came_again_in_a_source_is_merged_where_files_correct_each_other(tmp_path: Path, kind: str) -> None:
    test = TEST | {"attached_node": "model.shop.stg", "test_metadata": {"name": kind}}
    staging = MODEL | {"depends_on": {"nodes": ["source.shop.raw.orders", "macro.x"]}}
    mart = MODEL | {"depends_on": {"nodes": ["model.shop.stg"]}}
    results(tmp_path, ("t", "fail", "", 1))
    told = [
        problems_of(tmp_path, {"nodes": {"t": test, "model.shop.stg": model}})[0][0].todo for model in (staging, mart)
    ]
    assert told == [
        "see them with `dbt show --select fct_sales_grain`, fix the source (or, where later files correct earlier ones,"
        ' have raw.orders merged by its key: disposition="merge", `granary guide sources/files`), run again',
        "see them with `dbt show --select fct_sales_grain`, fix the source, run again",
    ]


def test_one_row_is_one_row_and_a_broken_test_says_why() -> None:
    assert "found 1 row" in problem_of(TEST, {"status": "fail", "message": "", "failures": 1}).what
    broken = problem_of(TEST, {"status": "error", "message": "column x does not exist", "failures": None})
    assert broken.what == "test fct_sales_grain on fct_sales failed: column x does not exist"


def test_a_dbt_that_died_is_tried_again_with_its_last_words(tmp_path: Path) -> None:
    lines = ("[error] [MainThread]: first", "[error] [Thread-2 (]: out\nof memory", "[info ] [MainThread]: the end")
    (tmp_path / "dbt.log").write_text("".join(f"20:38:17.018601 {line}\n" for line in lines) + "20:38:17.0")
    assert last_error(tmp_path) == "out of memory"
    problems, again = problems_of(tmp_path, {"nodes": {}})
    assert again
    assert problems[0].what == "dbt stopped: out of memory"


def test_a_held_publish_says_what_holds_it_and_a_broken_one_why() -> None:
    held = "granary.on-run-end.0 failed, error:\n nothing was published; marts stays as it was: dim_one would shrink"
    told = problem_of({"resource_type": "operation"}, result(f"{held}\n CONTEXT:  PL/pgSQL function at RAISE"))
    assert told.what == "nothing was published; marts stays as it was: dim_one would shrink"
    told = problem_of({"resource_type": "operation"}, result("granary.on-run-end.0 failed, error:\n disk is full"))
    assert told.what == "publishing failed: disk is full"


def test_a_model_names_what_it_was_made_from_when_it_failed() -> None:
    told = problem_of(MODEL, result("integer out of range"), lambda *_: "a.parquet, row 3, load 7 of pos.transactions")
    assert told.what == (
        "model fct_sales failed: integer out of range; made from a.parquet, row 3, load 7 of pos.transactions"
    )


def result(message: str) -> dict[str, object]:
    return {"unique_id": "m", "status": "error", "message": message, "failures": None}
