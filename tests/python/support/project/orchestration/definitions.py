"""What Dagster loads: every asset and check, and the jobs that every project has."""

from __future__ import annotations

import dagster as dg

from granary.dagster.assemble import assemble
from granary.warehouse.settings import Settings


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the warehouse that the environment names."""
    return assemble(Settings.load(), lambda _: [], [])
