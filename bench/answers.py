"""How long people wait for an answer: every query of the guide, of the other documents and of the dashboard.

    python -m bench answers

It asks the warehouse that is there (`GRANARY_HOME`), and changes nothing. Queries run in turns, as the roles that the
documents and the dashboard use, and are fetched to the last row; the first round fills the caches and is not counted. A
machine is noisy, so each is also told as a ratio to a reference in the same round: the server adding up one column of
all sales lines, the least that any question about all of them can cost.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import TYPE_CHECKING

from dashboards import PAGES
from granary.cli import output
from granary.pages.dashboard.read import sql_of
from granary.warehouse.connection import connect, execute, query, quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings
from tests.python.support.documents import documents, examples, heading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.connection import Connection

ROUNDS = 20
TARGET = 0.3
"""Seconds that 95 of 100 answers do not exceed."""
SLOWEST = 10
REFERENCE = "select sum(sales_value) from marts.fct_sales"


@dataclass(frozen=True)
class Question:
    """A query, where it stands, and the role that asks it."""

    name: str
    role: str
    sql: str


@dataclass(frozen=True)
class Answer:
    """Seconds of each counted round, the same as ratios to the reference, the plan's total cost, and rows."""

    question: Question
    seconds: list[float]
    ratios: list[float]
    cost: float
    rows: int

    @property
    def p95(self) -> float:
        """The seconds that 95 percent of the rounds do not exceed (nearest rank)."""
        return sorted(self.seconds)[ceil(0.95 * len(self.seconds)) - 1]


def questions() -> Iterator[Question]:
    """Return every query that the documents answer, and every query of the dashboard."""
    seen: Counter[str] = Counter()
    for path in documents():
        for example in examples(path):
            if example.kind == "sql":
                name = f"{path.relative_to(PROJECT / 'docs')}: {heading(example)}"
                seen[name] += 1
                yield Question(f"{name} ({seen[name]})" if seen[name] > 1 else name, "analyst", example.command)
    for dataset in dict.fromkeys(dataset for page in PAGES for dataset in page.datasets):
        yield Question(f"dashboard: {dataset.name}", dataset.role, sql_of(dataset))


def measure(connection: Connection, asked: list[Question], rounds: int) -> list[Answer]:
    """Return the answers' times, after a round that is not counted."""
    answers = [Answer(question, [], [], *_plan(connection, question)) for question in asked]
    for number in range(rounds + 1):
        reference = _seconds(connection, Question("reference", "analyst", REFERENCE))
        for answer in answers:
            seconds = _seconds(connection, answer.question)
            if number:
                answer.seconds.append(seconds)
                answer.ratios.append(seconds / reference)
    return answers


def _seconds(connection: Connection, question: Question) -> float:
    execute(connection, f"set role {quote_name(question.role)}")
    began = time.perf_counter()
    query(connection, question.sql)
    return time.perf_counter() - began


def _plan(connection: Connection, question: Question) -> tuple[float, int]:
    """Return the total cost of the plan, in the planner's units, and the rows of the answer."""
    execute(connection, f"set role {quote_name(question.role)}")
    plan = query(connection, f"explain (format json) {question.sql}")[0][0]
    return float(plan[0]["Plan"]["Total Cost"]), len(query(connection, question.sql))


def main() -> None:
    """Ask everything, and print the slowest.

    Raises:
        SystemExit: there is no warehouse, or no marts in it.
    """
    try:
        connection = connect(Settings.load(), autocommit=True)
    except GranaryError as error:
        sys.exit(f"bench answers asks a warehouse that is there: {error}")
    with connection:
        if not query(connection, "select to_regclass('marts.fct_sales') is not null")[0][0]:
            sys.exit("bench answers asks a warehouse that is there: it has no marts; make them with `granary run`")
        lines = query(connection, "select count(*) from marts.fct_sales")[0][0]
        answers = measure(connection, [Question("reference", "analyst", REFERENCE), *questions()], ROUNDS)
    reference = answers.pop(0)
    answers.sort(key=lambda answer: answer.p95, reverse=True)
    target = f"{TARGET * 1000:.0f} ms"
    output.table(
        f"The slowest {SLOWEST} of {len(answers)} answers; {lines:,} lines, {ROUNDS} rounds; target: p95 in {target}",
        ("query", "median, ms", "p95, ms", "ratio", "plan's cost", "rows"),
        [_row(answer) for answer in [*answers[:SLOWEST], reference]],
    )
    late = sum(answer.p95 > TARGET for answer in answers)
    output.line(f"{len(answers) - late} of {len(answers)} answers have their p95 within {target}.")


def _row(answer: Answer) -> tuple[object, ...]:
    return (
        answer.question.name,
        round(1000 * median(answer.seconds)),
        round(1000 * answer.p95),
        f"{median(answer.ratios):.2f}",
        round(answer.cost),
        answer.rows,
    )
