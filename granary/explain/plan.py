"""Which models a row of a mart leads to, in the order in which their rows are found; and dbt's own graph as a tree."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import published
from granary.explain.links import Link, Model, model_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from granary.dbt.lineage import Columns


@dataclass(frozen=True)
class Followed:
    """One link on the way, with what is asked of the row that it explains."""

    child: Model
    link: Link
    parent: Model
    wanted: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """All models of a trace, each after those whose rows lead to it, and the links between them."""

    models: tuple[Model, ...]
    links: tuple[Followed, ...]

    def into(self, model: Model) -> list[Followed]:
        """Return the links that lead to a model."""
        return [followed for followed in self.links if followed.parent.node == model.node]


@dataclass(frozen=True)
class Step:
    """A line of the tree: a relation, how deep it is, and whether what is above it was shown before."""

    depth: int
    node: str
    relation: str
    repeated: bool


def plan(manifest: Mapping[str, Any], root: Model, wanted: frozenset[str], columns: Callable[[str], Columns]) -> Plan:
    """Follow the declared links from these columns of a mart to the staging views.

    Raises:
        GranaryError: a link names a model that does not exist.
    """
    needed: dict[str, frozenset[str]] = {root.name: wanted}
    models, links = [], []
    for model in _in_order(manifest, root):
        if model.name not in needed:
            continue
        models.append(model)
        asked = needed[model.name]
        for link in model.links:
            if not link.feeds(asked):
                continue
            parent = model_of(manifest, link.parent)
            mine = asked if link.columns is None else asked & (link.columns | set(link.numbers))
            links.append(Followed(model, link, parent, mine))
            known = frozenset(columns(parent.relation))
            needed[parent.name] = needed.get(parent.name, frozenset()) | (link.needs(mine) & known)
    return Plan(tuple(models), tuple(links))


def _in_order(manifest: Mapping[str, Any], root: Model) -> list[Model]:
    """Return every model that can be reached, each after all that lead to it."""
    done: dict[str, Model] = {}

    def visit(model: Model) -> None:
        if model.name not in done:
            for link in model.links:
                visit(model_of(manifest, link.parent))
            done[model.name] = model

    visit(root)
    return list(reversed(done.values()))


def tree(manifest: Mapping[str, Any], route: Plan) -> list[Step]:
    """Return the way from a mart to its sources, with the models of dbt's graph that lie between."""
    steps: list[Step] = []
    seen: set[str] = set()

    def add(node: str, depth: int, *, repeated: bool = False) -> None:
        steps.append(Step(depth, node, published(_node(manifest, node)), repeated))

    def walk(model: Model, depth: int) -> None:
        onwards = [followed for followed in route.links if followed.child.node == model.node]
        add(model.node, depth, repeated=model.node in seen)
        if model.node in seen:
            return
        seen.add(model.node)
        for followed in onwards:
            between = _between(manifest, followed)
            for number, node in enumerate(between, start=1):
                add(node, depth + number)
            walk(followed.parent, depth + len(between) + 1)
        if model.source:
            for parent in manifest["parent_map"][model.node]:
                add(parent, depth + 1)

    walk(route.models[0], 0)
    return steps


def beside(manifest: Mapping[str, Any], route: Plan) -> list[str]:
    """Return what else dbt reads for the mart: calendars, dimensions that its audit checks, members that are inferred.

    Left out are Granary's own records and the logs that say when a fact must follow (`meta.changes`), not of what.
    """
    logs = {(node["config"].get("meta") or {}).get("changes") for node in manifest["nodes"].values()}
    shown = {step.node for step in tree(manifest, route)}
    found: set[str] = set()
    waiting = [route.models[0].node]
    while waiting:
        for parent in manifest["parent_map"].get(waiting.pop(), ()):
            node = _node(manifest, parent)
            if parent not in found and node["name"] not in logs and node.get("source_name") != "ops":
                found.add(parent)
                waiting.append(parent)
    return sorted(published(_node(manifest, node)) for node in found - shown)


def _between(manifest: Mapping[str, Any], followed: Followed) -> list[str]:
    """Return the nodes that dbt has between a model and one further up: the shortest way, through `via` if declared."""
    stops = [followed.child.node, followed.parent.node]
    if followed.link.via:
        stops.insert(1, model_of(manifest, followed.link.via).node)
    return [node for here, there in pairwise(stops) for node in _route(manifest, here, there)[1:]][:-1]


def _route(manifest: Mapping[str, Any], child: str, parent: str) -> list[str]:
    ways = {child: [child]}
    waiting = [child]
    while waiting and parent not in ways:
        node = waiting.pop(0)
        for one in sorted(manifest["parent_map"].get(node, ())):
            if one not in ways:
                ways[one] = [*ways[node], one]
                waiting.append(one)
    return ways.get(parent, [child, parent])


def _node(manifest: Mapping[str, Any], unique_id: str) -> Mapping[str, Any]:
    node: Mapping[str, Any] = manifest["nodes"].get(unique_id) or manifest["sources"][unique_id]
    return node
