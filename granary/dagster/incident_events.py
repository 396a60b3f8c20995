"""Incidents on the pages of the assets that they are about: an observation when one opens, changes, or is over."""

import json
from collections.abc import Collection, Iterable
from datetime import datetime, timezone
from typing import Any

import dagster as dg

from granary.alerting.config import Config
from granary.alerting.incidents import Change, Incident, Transition, load
from granary.alerting.message import message
from granary.dagster.links import Links
from granary.dagster.publish_checks import ASSET
from granary.dagster.resources import Warehouse
from granary.warehouse.connection import connect

SECONDS = 30
OPEN = "where closed_at is null or incident_id = any($1) order by incident_id"
"""Those that are open, and those that were when this looked last."""
PAGE = "operation.html"


@dg.sensor(
    name="incidents",
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Says on the pages of assets which incidents they have, and when these are over.",
)
def incidents_of_assets(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SensorResult:
    """Observe the assets of the incidents that are other than when this looked last."""
    before = json.loads(context.cursor or "{}")
    with connect(warehouse.settings) as connection:
        found = load(connection, OPEN, [int(number) for number in before])
    states = {str(one.incident_id): _state(one) for one in found if not one.closed_at}
    changed = [one for one in found if before.get(str(one.incident_id)) != _state(one)]
    if not changed:
        return dg.SensorResult(skip_reason="as before", cursor=json.dumps(states))
    known = context.repository_def.asset_graph.get_all_asset_keys()  # type: ignore[union-attr]
    events = [event for one in changed for event in observations(one, known, is_new=str(one.incident_id) not in before)]
    return dg.SensorResult(asset_events=events, cursor=json.dumps(states))


def observations(one: Incident, known: Collection[dg.AssetKey], *, is_new: bool) -> Iterable[dg.AssetObservation]:
    """Yield an observation of each asset that an incident is about."""
    transition: Transition = "closed" if one.closed_at else "opened" if is_new else "updated"
    said = message(Change(transition, one), "", datetime.now(timezone.utc), Config())
    metadata: dict[str, Any] = {
        "incident": one.incident_id,
        "severity": one.severity,
        "all of it": f"granary incidents show {one.incident_id}",
        **dict(said.lines),
    }
    page = Links.load().page(PAGE)
    if page.startswith("http"):
        metadata["Operation (granary dashboard)"] = dg.MetadataValue.url(page)
    for key in assets_of(one, known):
        yield dg.AssetObservation(key, description=said.headline, metadata=metadata)


def assets_of(one: Incident, known: Collection[dg.AssetKey]) -> list[dg.AssetKey]:
    """Return the assets of an incident's cause: a table, a node, all tables of a source.

    Of what is none, such as a test or the disk, they are the marts that it reaches; without any, that of what was
    published.
    """
    of = [key for key in known if one.cause in (".".join(key.path), key.path[-1], key.path[0])]
    marts = {each.name for each in one.affected if each.kind == "mart"}
    reached = [key for key in known if key.path[-1] in marts]
    return sorted(of or reached or [ASSET], key=str)


def _state(one: Incident) -> str:
    """Return what makes an incident other than before: not how many signals it has, which may be many in a run."""
    return f"{'over' if one.closed_at else 'open'} {one.cause} {one.severity} {one.times}"
