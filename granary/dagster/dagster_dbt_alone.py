"""dagster-dbt as it is where dbt-core is not installed: it has names of its own for the three that it takes of dbt.

With them come a second of imports, and a selector of dbt's that looks for the nodes that a manifest lists. The dbt of
the project is a process of its own, and has these to itself.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DagsterDbtTranslator", "DagsterDbtTranslatorSettings", "DbtCliInvocation", "dbt_assets"]


@contextmanager
def missing(module: str) -> Iterator[None]:
    """Have a module look as if it were not installed."""
    before = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment] # documented: to import it raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before


with missing("dbt.version"):
    from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliInvocation, dbt_assets
