"""The benchmark of answers: what it asks, and how it counts; the warehouse is not needed for either."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.answers import Answer, Question, main, questions
from dashboards import PAGES


def test_every_query_is_asked_once() -> None:
    names = [question.name for question in questions()]
    assert len(names) == len(set(names))
    datasets = {f"dashboard: {dataset.name}" for page in PAGES for dataset in page.datasets}
    assert {name for name in names if name.startswith("dashboard: ")} == datasets
    numbers = {int(name.partition(": ")[2].partition(".")[0]) for name in names if name.startswith("guide/")}
    assert numbers == set(range(1, 31))
    assert any(name.startswith("marts/") for name in names)


def test_p95_is_the_nineteenth_of_twenty() -> None:
    answer = Answer(Question("a", "analyst", "select 1"), [float(n) for n in range(20, 0, -1)], [], 0.0, 1)
    assert answer.p95 == 19


def test_p95_of_one_round_is_that_round() -> None:
    assert Answer(Question("a", "analyst", "select 1"), [0.5], [], 0.0, 1).p95 == 0.5


def test_no_warehouse_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("PGHOST", raising=False)
    with pytest.raises(SystemExit, match=r"asks a warehouse that is there: .*start it with `granary up`"):
        main()
    assert not (tmp_path / "none").exists()
