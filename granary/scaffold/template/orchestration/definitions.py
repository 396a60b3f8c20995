"""What `dagster dev -m orchestration.definitions` loads: every asset, check, job and schedule.

Nothing is loaded at import; Dagster asks for the definitions when it wants them.
"""

from __future__ import annotations

import dagster as dg

from granary.dagster.assemble import assemble
from granary.warehouse.settings import Settings
from orchestration.jobs import jobs
from orchestration.schedules import SCHEDULES


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the warehouse that the environment names."""
    return assemble(Settings.load(), jobs, SCHEDULES)
