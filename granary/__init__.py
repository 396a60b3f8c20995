"""The engine; in a notebook, `granary.read("marts.orders")` and `granary.metric("sales", by="metric_time__month")`.

What works on a warehouse is imported when it is called: `import granary` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.warehouse.reading import To


def read(what: str, to: To = "arrow", *, role: str = "analyst") -> Any:
    """Return a relation or a query's answer as Arrow, pandas or Polars: see `granary.warehouse.reading.read`.

    Where the project has a twin of its marts, it answers if the answer is the same and comes sooner.
    """
    from granary.twin import config
    from granary.warehouse import reading

    if not config.is_wanted():
        return reading.read(what, to, role=role)
    from granary.twin import answers
    from granary.warehouse.settings import Settings

    return answers.read(Settings.load(), what, to, role=role)


def metric(
    *metrics: str,
    by: Sequence[str] = (),
    where: Sequence[str] = (),
    start: str | None = None,
    end: str | None = None,
    order: Sequence[str] = (),
    limit: int | None = None,
    role: str = "analyst",
) -> Any:
    """Return the answer to a question for metrics as a `pyarrow.Table`: see `granary.dbt.semantic.answer`."""
    from granary.dbt import semantic
    from granary.warehouse.settings import Settings

    question = semantic.Question(metrics, _texts(by), _texts(where), start, end, _texts(order), limit)
    return semantic.answer(Settings.load(), question, role)


def _texts(given: Sequence[str]) -> tuple[str, ...]:
    """Return what was given, of which one may stand by itself."""
    return (given,) if isinstance(given, str) else tuple(given)
