"""OpenLineage events: what a load, a model or a publish read and wrote, for catalogues that other teams have.

On where the standard configuration says so: OPENLINEAGE_URL (with OPENLINEAGE_ENDPOINT and OPENLINEAGE_API_KEY), the
variables OPENLINEAGE__TRANSPORT__*, or a file openlineage.yml (OPENLINEAGE_CONFIG names another). Events follow the
specification 2-0-2, https://openlineage.io/spec/2-0-2/OpenLineage.json, and are sent after the fact: a receiver that
does not answer is a warning and fails nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import notify
from granary.warehouse.migrate import engine_version
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.warehouse.settings import Settings

SPEC = "https://openlineage.io/spec"
SCHEMA_URL = f"{SPEC}/2-0-2/OpenLineage.json#/definitions/RunEvent"
FACETS = {
    "schema": "1-1-1/SchemaDatasetFacet",
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "dataQualityAssertions": "1-0-1/DataQualityAssertionsDatasetFacet",
    "parent": "1-0-1/ParentRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-3/JobTypeJobFacet",
}
"""Facets by their name in an event, with version and definition."""
RUNS = UUID("6b1f0f0e-52a8-4c3c-9d0c-0d4f3c9a3a11")
"""Namespace of the ids of runs, which OpenLineage wants as UUIDs."""
SECONDS = 5
ENDPOINT = "api/v1/lineage"


@dataclass(frozen=True)
class Dataset:
    """A table or what a source delivers: its columns with their types, and of each of them what it is made from.

    `made_from` has (namespace, name, column) by column; `checks` whether each passed, by name.
    """

    namespace: str
    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    made_from: Mapping[str, Sequence[tuple[str, str, str]]] = field(default_factory=dict)
    rows: int | None = None
    size: int | None = None
    checks: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """A load, a model or a publish that has ended: what it read and wrote, and the run that it was part of."""

    kind: str
    name: str
    run_id: str
    started_at: datetime
    finished_at: datetime
    inputs: Sequence[Dataset]
    outputs: Sequence[Dataset]
    error: str | None = None
    parent: tuple[str, str] | None = None
    """Id and name of the run around it."""


@dataclass(frozen=True)
class Transport:
    """Where events go: to a URL, with a key if one is needed, or to the end of a file."""

    url: str = ""
    key: str = field(default="", repr=False)
    path: Path | None = None
    namespace: str = "granary"

    def send(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Send events in order.

        Raises:
            OSError: the receiver does not answer, or refuses one; or the file cannot be written.
        """
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(event) + "\n" for event in events)
            return
        import requests  # noqa: PLC0415 - takes 0.1 s, and most warehouses send nothing

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        with requests.Session() as session:
            session.trust_env = False
            for event in events:
                session.post(self.url, json=event, headers=headers, timeout=SECONDS).raise_for_status()


def transport() -> Transport | None:
    """Return where events go by the configuration of this process; None if they go nowhere.

    Raises:
        GranaryError: the configuration names a kind of transport that there is not, or lacks where to.
    """
    if os.environ.get("OPENLINEAGE_DISABLED", "").lower() in ("true", "1"):
        return None
    namespace = os.environ.get("OPENLINEAGE_NAMESPACE") or "granary"
    if url := os.environ.get("OPENLINEAGE_URL"):
        end = os.environ.get("OPENLINEAGE_ENDPOINT") or ENDPOINT
        return Transport(_joined(url, end), os.environ.get("OPENLINEAGE_API_KEY") or "", namespace=namespace)
    where, given = _configured()
    kind = str(given.get("type") or "")
    if not given or kind == "noop":
        return None
    key = (given.get("auth") or {}).get("apiKey") or (given.get("auth") or {}).get("api_key") or ""
    if kind == "http" and given.get("url"):
        return Transport(_joined(given["url"], given.get("endpoint") or ENDPOINT), str(key), namespace=namespace)
    if kind == "file" and given.get("log_file_path"):
        return Transport(path=PROJECT / str(given["log_file_path"]), namespace=namespace)
    needs = "write type: http with a url, or type: file with a log_file_path"
    raise GranaryError(f"there is no OpenLineage transport {kind!r} as it is configured", where, needs)


def _configured() -> tuple[str, dict[str, Any]]:
    """Return where a transport is configured, and how."""
    prefix = "OPENLINEAGE__TRANSPORT__"
    found: dict[str, Any] = {}
    for name, value in os.environ.items():
        if name.startswith(prefix):
            *parts, last = name.removeprefix(prefix).lower().split("__")
            place = found
            for part in parts:
                place = place.setdefault(part, {})
            place["apiKey" if last == "apikey" else last] = value
    if found:
        return prefix, found
    path = Path(os.environ.get("OPENLINEAGE_CONFIG") or PROJECT / "openlineage.yml")
    if not path.is_file():
        return str(path), {}
    import yaml  # noqa: PLC0415 - takes 60 ms

    try:
        return str(path), dict(yaml.safe_load(path.read_text(encoding="utf-8")).get("transport") or {})
    except (yaml.YAMLError, OSError, AttributeError, TypeError, ValueError):
        raise GranaryError("the configuration of OpenLineage cannot be read", str(path), "correct its YAML") from None


def _joined(url: str, end: str) -> str:
    return f"{url.rstrip('/')}/{end.strip('/')}"


def emit(works: Sequence[Work]) -> None:
    """Send two events of each piece of work, that it began and how it ended; warn if that is not possible."""
    try:
        if works and (found := transport()):
            found.send([event for work in works for event in events(work, found.namespace)])
    except (GranaryError, OSError) as error:  # those of `requests` are OSErrors
        words = error if isinstance(error, GranaryError) else type(error).__name__
        notify(f"warning: OpenLineage events are not sent: {words}")


def is_on() -> bool:
    """Return whether events go anywhere; a configuration that is wrong is told when they are sent."""
    try:
        return transport() is not None
    except GranaryError:
        return True


def table(settings: Settings, relation: str, **more: Any) -> Dataset:
    """Return a table of the warehouse, named as OpenLineage names those of Postgres."""
    host = settings.host if settings.external else "localhost"
    return Dataset(f"postgres://{host}:{settings.port}", f"{settings.database}.{relation}", **more)


def events(work: Work, namespace: str) -> list[dict[str, Any]]:
    """Return the events of a piece of work: START, and COMPLETE or FAIL."""
    facets: dict[str, Any] = {}
    if work.parent:
        run_id, name = work.parent
        around = {"run": {"runId": run_uuid(run_id)}, "job": {"namespace": namespace, "name": name}}
        facets["parent"] = _facet("parent", **around)
    ended = dict(facets)
    if work.error is not None:
        ended["errorMessage"] = _facet("errorMessage", message=work.error, programmingLanguage="SQL")
    kind = {"processingType": "BATCH", "integration": "GRANARY", "jobType": work.kind.upper()}
    job = {"namespace": namespace, "name": work.name, "facets": {"jobType": _facet("jobType", **kind)}}
    run_id = run_uuid(f"{work.run_id} {work.name}")

    def event(which: str, at: datetime, of_run: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "eventType": which,
            "eventTime": at.astimezone(timezone.utc).isoformat(),
            "producer": _producer(),
            "schemaURL": SCHEMA_URL,
            "run": {"runId": run_id, "facets": dict(of_run)},
            "job": job,
            "inputs": [_dataset(one, is_output=False) for one in work.inputs],
            "outputs": [_dataset(one, is_output=True) for one in work.outputs],
        }

    last = "FAIL" if work.error is not None else "COMPLETE"
    return [event("START", work.started_at, facets), event(last, work.finished_at, ended)]


def run_uuid(run_id: str) -> str:
    """Return a run's id as a UUID: itself if it is one."""
    try:
        return str(UUID(run_id))
    except ValueError:
        return str(uuid5(RUNS, run_id))


def _dataset(one: Dataset, *, is_output: bool) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if one.columns:
        fields = [{"name": name, "type": kind} for name, kind in one.columns.items()]
        facets["schema"] = _facet("schema", fields=fields)
    if one.made_from:
        lineage = {
            column: {
                "inputFields": [dict(zip(("namespace", "name", "field"), origin, strict=True)) for origin in found]
            }
            for column, found in one.made_from.items()
        }
        facets["columnLineage"] = _facet("columnLineage", fields=lineage)
    if one.checks:
        said = [{"assertion": name, "success": passed} for name, passed in one.checks.items()]
        facets["dataQualityAssertions"] = _facet("dataQualityAssertions", assertions=said)
    found: dict[str, Any] = {"namespace": one.namespace, "name": one.name, "facets": facets}
    counted = {"rowCount": one.rows, "size": one.size}
    if is_output and (known := {name: value for name, value in counted.items() if value is not None}):
        found["outputFacets"] = {"outputStatistics": _facet("outputStatistics", **known)}
    return found


def _facet(name: str, **content: Any) -> dict[str, Any]:
    version, _, definition = FACETS[name].partition("/")
    url = f"{SPEC}/facets/{version}/{definition}.json#/$defs/{definition}"
    return {"_producer": _producer(), "_schemaURL": url, **content}


def _producer() -> str:
    return f"urn:granary-elt:{engine_version()}"
