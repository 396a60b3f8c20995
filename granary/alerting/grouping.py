"""Signals that one cause explains, by lineage: what lies most upstream is the cause, the rest follows from it.

The graph is dbt's manifest, with each source system above its tables, and what is said of all marts below them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from granary.alerting.rules import rule_of
from granary.dbt import manifest as dbt_manifest
from granary.dbt.manifest_nodes import is_mart
from granary.deliver import discovery as deliveries
from granary.sources.discovery import SOURCES
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from granary.warehouse.settings import Settings
    from granary.warehouse.signals import Signal

MARTS, RUNS, RUN_OF_DBT = "marts", "runs", "the run of dbt"
"""The subjects of what is said of all marts together, of runs, which fail because of anything, and of a run of dbt."""
EXPLAINS = timedelta(days=1)
"""So long after it happened last, what recurs is the cause of what begins below it."""
USED = ("exposure", "metric")
HOLDING = ("model", "seed", "snapshot", "test")
"""What keeps all marts from being published when it fails."""


@dataclass(frozen=True)
class Downstream:
    """What follows from a cause: the names of marts, dashboards and other uses, and metrics, each in order.

    `reads` are by use or metric the marts that it reads.
    """

    marts: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    reads: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """One cause and all signals that it explains, its own first."""

    cause: str
    signals: tuple[Signal, ...]


class Graph:
    """Who is upstream of whom, by names as signals have them: `shop.orders`, `fct_sales`, the name of a test."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        """Read dbt's manifest; an empty one knows the sources only."""
        self.nodes: dict[str, Mapping[str, Any]] = {
            unique_id: node
            for kind in ("sources", "nodes", "exposures", "metrics", "semantic_models", "saved_queries")
            for unique_id, node in manifest.get(kind, {}).items()
        }
        self.names = {unique_id: _name(node) for unique_id, node in self.nodes.items()}
        self.groups: Mapping[str, Any] = {one["name"]: one for one in manifest.get("groups", {}).values()}
        self.parents: dict[str, set[str]] = defaultdict(set)
        self.children: dict[str, set[str]] = defaultdict(set)
        self.by_name: dict[str, Mapping[str, Any]] = {self.names[key]: node for key, node in self.nodes.items()}
        for child, parents in manifest.get("parent_map", {}).items():
            for parent in parents:
                if child in self.names and parent in self.names:
                    self._join(self.names[parent], self.names[child])
        for test, node in [(name, node) for name, node in self.by_name.items() if node["resource_type"] == "test"]:
            tested = self.names.get(node.get("attached_node") or "", "")
            above = self.upstream(test) if len(self.parents[test]) > 1 else frozenset()
            for reader in self.children[tested] - self.tests(tested) - above:
                self._join(test, reader)  # dbt skips what reads a node whose test fails
        for source, spec in SOURCES.items():
            for table in spec.tables:
                self._join(source, f"{source}.{table.name}")
        for name, node in self.by_name.items():
            if node["resource_type"] in HOLDING:
                self._join(name, MARTS)
        self._join(RUN_OF_DBT, MARTS)
        self._join(MARTS, RUNS)
        for source, spec in SOURCES.items():
            for table in spec.tables:
                self._join(f"{source}.{table.name}", RUNS)

    def _join(self, parent: str, child: str) -> None:
        self.parents[child].add(parent)
        self.children[parent].add(child)

    def upstream(self, name: str) -> frozenset[str]:
        """Return everything that a name is made from."""
        return _closure(self.parents, name)

    def downstream(self, name: str) -> Downstream:
        """Return the marts, uses and metrics that are made from a name; of a test, from what it is about."""
        tested = self.names.get(self.by_name.get(name, {}).get("attached_node") or "")
        starts = self.parents[MARTS] if name == MARTS else {tested or name}
        below = frozenset(starts).union(*(_closure(self.children, start) for start in starts))
        nodes = {one: self.by_name[one] for one in below if one in self.by_name}
        marts = {one for one, node in nodes.items() if node["resource_type"] in ("model", "seed") and is_mart(node)}
        used = {kind: sorted(one for one, node in nodes.items() if node["resource_type"] == kind) for kind in USED}
        reads = {one: frozenset(self.upstream(one) & marts) for kind in USED for one in used[kind]}
        return Downstream(tuple(sorted(marts)), tuple(used["exposure"]), tuple(used["metric"]), reads)

    def tests(self, name: str) -> frozenset[str]:
        """Return the tests of a node."""
        return frozenset(one for one in self.children[name] if self.by_name.get(one, {}).get("resource_type") == "test")

    def owner(self, name: str) -> str:
        """Return who looks after a table, a source, a delivery or a node; '' if nobody says."""
        source = SOURCES.get(name.partition(".")[0])
        if source is not None:
            return source.owner
        if delivery := deliveries.declared()[0].get(name.removeprefix(f"{deliveries.PACKAGE}.")):
            return delivery.owner
        node = self.by_name.get(name, {})
        group = self.groups.get(node.get("config", {}).get("group") or node.get("group") or "")
        return str(group["owner"].get("name") or group["owner"].get("email")) if group else ""

    def label(self, name: str) -> str:
        """Return what people call a use."""
        node = self.by_name.get(name, {})
        return str(node.get("label") or node.get("name") or name)


def graph_of(settings: Settings) -> Graph:
    """Return the graph of the project as it was parsed last; it is parsed if it never was."""
    path = dbt_manifest.folder(settings) / dbt_manifest.MANIFEST
    try:
        return Graph(dbt_manifest.load(path if path.exists() else dbt_manifest.prepare(settings)))
    except (GranaryError, OSError, ValueError):
        return Graph({})


def groups(signals: Iterable[Signal], graph: Graph) -> list[Group]:
    """Return the causes of these signals, each with everything that it explains.

    A signal with several causes is with each of them. Where a rule says so, several tables of a source have one cause:
    the source. What a rule sums up of a model is no cause of what else is wrong with it, such as its failing test; and
    an unusual delivery none of what begins days later.
    """
    found = list(signals)
    causing = [one for one in found if not rule_of(one.kind).sums_up]
    named = {one.subject for one in causing}
    summed = [one.subject for one in found if one.subject not in named]
    within = {one: sorted(graph.tests(one) & named) for one in summed}
    subjects = named | {one for one in summed if not within[one]} | _sources(found)
    last, began = _last_times(causing), {one.subject: one.since for one in causing}
    causes: dict[str, list[Signal]] = {}

    @cache
    def roots(subject: str, since: datetime | None) -> frozenset[str]:
        above = {
            one
            for one in graph.upstream(subject) & subjects
            if one not in last or since is None or since - last[one] <= EXPLAINS
        }
        return frozenset(one for one in above if not graph.upstream(one) & above) or frozenset({subject})

    for signal in found:
        of = within.get(signal.subject) or [signal.subject]
        for root in sorted(frozenset().union(*(roots(one, began.get(one, signal.since)) for one in of))):
            causes.setdefault(root, []).append(signal)
    return [
        Group(cause, tuple(sorted(of, key=lambda one: (one.subject != cause, one.severity != "critical"))))
        for cause, of in causes.items()
    ]


def _last_times(signals: Iterable[Signal]) -> dict[str, datetime]:
    """Return when it happened last, of what has only signals that recur."""
    found: dict[str, list[Signal]] = defaultdict(list)
    for one in signals:
        found[one.subject].append(one)
    return {
        subject: max(one.since for one in of if one.since)
        for subject, of in found.items()
        if all(rule_of(one.kind).recurs and one.since for one in of)
    }


def _sources(signals: Iterable[Signal]) -> set[str]:
    """Return the sources of which several tables have the same signal."""
    tables: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in signals:
        source, _, table = one.subject.partition(".")
        if rule_of(one.kind).per_source and table:
            tables[one.kind, source].add(table)
    return {source for (_, source), of in tables.items() if len(of) > 1}


def _name(node: Mapping[str, Any]) -> str:
    """Return what signals call a node; a metric may have the name of a model."""
    kind, name = str(node["resource_type"]), str(node["name"])
    if kind == "source":
        return f"{node['source_name']}.{name}"
    return name if kind in HOLDING else f"{kind} {name}"


def _closure(edges: Mapping[str, set[str]], start: str) -> frozenset[str]:
    seen: set[str] = set()
    todo = list(edges.get(start, ()))
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += edges.get(one, ())
    return frozenset(seen)
