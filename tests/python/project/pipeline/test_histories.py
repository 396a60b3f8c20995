"""Random histories of the whole project: whatever happened, increments leave what a full refresh makes of raw.

`make histories` plays as many as one likes, and shows the least that leads to a difference.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.python.project.histories.planted import Planted
from tests.python.project.histories.proof import BEGINNING, PLAIN, STEPS_BY_NAME, Proof, beginning, history

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.python.project.pipeline.conftest import Pipeline

SEEDS = (101, 102, 103, 104)


@pytest.fixture(scope="module")
def proof(pipeline: Pipeline) -> Iterator[Proof]:
    made = beginning(pipeline, {})
    yield made
    pipeline.drop(BEGINNING)


def test_every_kind_of_step_is_in_one_of_as_many_histories() -> None:
    kinds = len(STEPS_BY_NAME)
    for first in (1, 8):
        played = {step.name for seed in range(first, first + kinds) for step in history(seed, 2)}
        assert played == set(STEPS_BY_NAME)


@pytest.mark.long
def test_increments_equal_a_full_refresh_and_wrong_declarations_are_caught(proof: Proof) -> None:
    """The wrong ones are those of copies, built beside their models."""
    wrong = {
        ("build.fct_sales", "int_sales__changed_dates: late left out"),
        ("build.daily_sales", "fct_baskets: only what went"),
        ("intermediate.int_products__totals", "fct_sales: never"),
    }
    planted = Planted(proof)
    planted.plant(wrong)
    for seed in SEEDS:
        proof.watch = partial(planted.look, seed)
        difference = proof.run(history(seed, 6))
        assert difference is None, str(difference)
    assert {(planted.faults[name].model, planted.faults[name].what) for name in planted.caught} == wrong


@pytest.mark.long
def test_dbt_itself_finds_nothing_to_do_after_a_history(proof: Proof, pipeline: Pipeline) -> None:
    """What was sent again is what dbt would have sent: to it, everything is built."""
    assert proof.run(history(SEEDS[0], 3)) is None
    versions = "select max(version) from ops.model_versions"
    before, marts = pipeline.query(versions), pipeline.marts()
    proof.builds.build_by_dbt(PLAIN)
    assert (pipeline.query(versions), pipeline.marts()) == (before, marts)
