"""The engine; in a notebook, `granary.read("marts.orders")` and `granary.metric("sales", by="metric_time__month")`.

What works on a warehouse is imported when it is called: `import granary` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from granary.warehouse.reading import To


def read(what: str, to: To = "arrow", *, role: str = "analyst") -> Any:
    """Return a relation or a query's answer as Arrow, pandas or Polars: see `granary.warehouse.reading.read`."""
    from granary.warehouse import reading

    return reading.read(what, to, role=role)
