"""What a load that failed leaves to be done: everything that does not follow from its table alone.

Dagster leaves out the whole dbt step when one loader fails. But sources do not wait for one another: a snapshot that is
not taken today is history that is lost, and orders have no reason to be late because a list of prices is. Its table
holds what it held before, just as on a day on which it has nothing new. The run stays failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from granary.dagster.loader_assets import KEYS
from granary.warehouse.connection import connect
from granary.warehouse.raw_tables import expected, lost
from granary.warehouse.records import Target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from granary.warehouse.settings import Settings

REST_OF = "granary/rest_of"
"""Run tag with the id of the run whose rest it builds."""


def failed_loaders(events: Iterable[Any]) -> list[dg.AssetKey]:
    """Return the source tables whose load failed in a run with these events, or entries of its log."""
    found = (getattr(event, "dagster_event", event) for event in events)
    steps = {event.step_key for event in found if event is not None and event.is_step_failure}
    return [key for key in KEYS if key.to_python_identifier() in steps]


def standing(settings: Settings, failed: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
    """Return those of these tables that hold what their earlier loads brought: a load that fails changes no row.

    Left out are those that never held any, and those from which somebody took rows: marts would be built without them.
    """
    found = []
    with connect(settings, role="loader") as connection:
        for key in failed:
            target = Target(key.path[0], key.path[1], pa.schema([]), ())
            if expected(connection, target) and not lost(connection, target, by_load=False):
                found.append(key)
    return found


def rest(
    graph: Any, selected: Iterable[dg.AssetKey], failed: Collection[dg.AssetKey], standing: Collection[dg.AssetKey] = ()
) -> list[dg.AssetKey]:
    """Return the dbt assets that are to be built though some tables were not loaded, as if nothing had come for these.

    What follows from failed tables only has nothing new. What follows from others, too, is built on the failed ones as
    they stand; not if one of them does not.

    Args:
        graph: the asset graph that all keys are of.
        selected: what the run was about.
        failed: the source tables that it could not load.
        standing: those of them that hold what their earlier loads brought.
    """

    def after(tables: Iterable[dg.AssetKey]) -> set[dg.AssetKey]:
        return set(dg.AssetSelection.assets(*tables).downstream().resolve(graph))

    held = after(failed) - after(key for key in KEYS if key not in failed)
    return sorted(set(selected) - held - after(key for key in failed if key not in standing) - set(KEYS))


def is_daily(graph: Any, keys: Iterable[dg.AssetKey]) -> bool:
    """Return whether a run of these assets has a business day as its partition."""
    return any(graph.get(key).partitions_def is not None for key in keys)
