"""What a load that failed leaves to be done: everything that does not follow from its table.

Dagster leaves out the whole dbt step when one loader fails. But sources do not wait for one another: a snapshot that is
not taken today is history that is lost, and marts of other systems have no reason to be late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from granary.dagster.loader_assets import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable

REST_OF = "granary/rest_of"
"""Run tag with the id of the run whose rest it builds."""


def failed_loaders(events: Iterable[Any]) -> list[dg.AssetKey]:
    """Return the source tables whose load failed in a run with these events, or entries of its log."""
    found = (getattr(event, "dagster_event", event) for event in events)
    steps = {event.step_key for event in found if event is not None and event.is_step_failure}
    return [key for key in KEYS if key.to_python_identifier() in steps]


def rest(graph: Any, selected: Iterable[dg.AssetKey], failed: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
    """Return the dbt assets of those selected that follow from none of these source tables.

    Args:
        graph: the asset graph that all keys are of.
        selected: what the run was about.
        failed: the source tables that it could not load.
    """
    held = dg.AssetSelection.assets(*failed).downstream().resolve(graph)
    return sorted(set(selected) - held - set(KEYS))


def is_daily(graph: Any, keys: Iterable[dg.AssetKey]) -> bool:
    """Return whether a run of these assets has a business day as its partition."""
    return any(graph.get(key).partitions_def is not None for key in keys)
