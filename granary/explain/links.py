"""What models declare of their rows: `meta.explained_by` says which rows of which parents a row is made from.

    explained_by:
      - model: fct_orders                # a parent, however far up
        join: {dim_date: date_day = business_date}   # models that its expressions need beside it, if any
        loads: {int_..._changed_weeks: week}         # a model that says which loads hold which rows, where it helps
        match: [shop_id]                 # columns that are equal; or column: expression over the parent's row
        where: business_date < this.as_of_date       # a further condition, if any
        via: int_shop__product_versions  # a model that dbt has between the two, where it knows several ways
        columns: [is_gift]               # the columns that come this way; without it, the row itself does
        numbers:                         # columns that can be computed again from those rows, and how
          amount: sum(amount)

In expressions a plain name is a column of the parent, `this.x` one of the row that is explained, `model.x` one of a
joined model. The chain ends at the staging views: each is one source table with its load and row numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from granary.dbt.lineage import DIALECT
from granary.dbt.manifest_nodes import PUBLISHED, is_mart, published
from granary.dbt.tiers import is_masked
from granary.explain.condition import ConditionError
from granary.warehouse.connection import quote_relation
from granary.warehouse.errors import GranaryError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KEYS = ("model", "join", "loads", "match", "where", "via", "columns", "numbers")


@dataclass(frozen=True)
class Link:
    """How to find the rows of a parent that a row is made from, and what to compute from them again.

    Expressions are SQL over `this`, `parent` and the joined models' names.
    """

    parent: str
    match: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    join: Mapping[str, str] = field(default_factory=dict)
    loads: Mapping[str, str] = field(default_factory=dict)
    via: str = ""
    columns: frozenset[str] | None = None
    numbers: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    """Expressions by column, as they were declared."""

    def feeds(self, wanted: frozenset[str]) -> bool:
        """Return whether these columns of the row come this way."""
        return self.columns is None or bool(wanted & (self.columns | set(self.numbers)))

    def needs(self, wanted: frozenset[str]) -> frozenset[str]:
        """Return the parent's columns that these columns of the row are made from, or found by."""
        used = [*self.match.values(), self.where, *self.join.values()]
        used += [self.numbers.get(name, f'parent."{name}"') for name in wanted]
        return frozenset(column for text in used if text for column in _columns_of(text, "parent"))


@dataclass(frozen=True)
class Model:
    """A model of the manifest: its node id, where people read it, its links, and the reason if it has none."""

    node: str
    name: str
    relation: str
    sql_name: str
    links: tuple[Link, ...]
    reason: str
    personal: frozenset[str]
    """Columns that are masked for most, and never printed."""
    source: tuple[str, str] | None
    """Of a staging view, its source and table."""


def model_of(manifest: Mapping[str, Any], name: str) -> Model:
    """Return a model by its name.

    Raises:
        GranaryError: there is no such model, or what it declares cannot be read.
    """
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] in ("model", "seed", "snapshot") and node["name"] == name:
            return _model(manifest, unique_id, node)
    raise GranaryError(f"there is no model {name!r}", "meta.explained_by", "name one of the project")


def find_mart(manifest: Mapping[str, Any], text: str) -> Model:
    """Return the mart that a person means by `marts.daily_orders` or `daily_orders`.

    Raises:
        ConditionError: there is none of that name.
    """
    marts = [
        _model(manifest, unique_id, node)
        for unique_id, node in sorted(manifest["nodes"].items())
        if is_mart(node) and node["resource_type"] == "model"
    ]
    for mart in marts:
        if text in (mart.relation, mart.name, f"{PUBLISHED}.{mart.name}"):
            return mart
    error = unknown("mart", text, (mart.name for mart in marts))
    raise ConditionError(error.what, error.where, error.todo)


def _model(manifest: Mapping[str, Any], unique_id: str, node: Mapping[str, Any]) -> Model:
    relation = published(node)
    meta = node["config"].get("meta") or {}
    parents = [manifest["sources"].get(parent) for parent in manifest["parent_map"].get(unique_id, ())]
    sources = [(parent["source_name"], parent["identifier"]) for parent in parents if parent]
    staging = node["path"].startswith("staging/") and len(sources) == 1
    return Model(
        node=unique_id,
        name=str(node["name"]),
        relation=relation,
        sql_name=quote_relation(*relation.split(".", 1)),
        links=tuple(link(node["name"], declared) for declared in meta.get("explained_by") or ()),
        reason=str(meta.get("not_explained") or ""),
        personal=frozenset(name for name, column in node["columns"].items() if is_masked(column)),
        source=sources[0] if staging else None,
    )


def link(model: str, declared: Mapping[str, Any]) -> Link:
    """Return the link that a model declares.

    Raises:
        GranaryError: it has a key that says nothing here, or an expression that cannot be read.
    """
    joined = declared.get("join") or {}
    match = declared.get("match") or {}
    if not isinstance(match, dict):
        match = {name: name for name in match}
    if unknown := sorted(map(str, set(declared) - set(KEYS))):
        raise GranaryError(
            f"{model}: {unknown[0]!r} says nothing", "meta.explained_by", f"say {', '.join(sorted(KEYS))}"
        )
    numbers = declared.get("numbers") or {}
    return Link(
        parent=str(declared["model"]),
        match={name: expression(text, joined, model) for name, text in match.items()},
        where=expression(declared["where"], joined, model) if declared.get("where") else "",
        join={name: _join(name, text, joined, model) for name, text in joined.items()},
        loads=dict(declared.get("loads") or {}),
        via=str(declared.get("via") or ""),
        columns=frozenset(declared["columns"]) if "columns" in declared else None,
        numbers={name: expression(text, joined, model) for name, text in numbers.items()},
        words={name: str(text) for name, text in {**match, **numbers}.items()},
    )


def _join(name: str, text: str, joined: Iterable[str], model: str) -> str:
    """Return the condition of a join: `product_key` means that both have it, else it is the condition itself."""
    return f'parent."{text}" = {name}."{text}"' if text.isidentifier() else expression(text, joined, model)


def expression(text: str, joined: Iterable[str], model: str) -> str:
    """Return a declared expression with every plain column taken from the parent.

    Raises:
        GranaryError: it is not SQL, or takes a column of a model that is not joined.
    """
    try:
        tree = exp.paren(parse_one(str(text), dialect=DIALECT), copy=False)
    except SqlglotError as error:
        raise GranaryError(f"{model}: {text!r} is not SQL", "meta.explained_by", str(error).splitlines()[0]) from None
    for column in tree.find_all(exp.Column):
        if column.table and column.table not in ("this", *joined):
            raise GranaryError(f"{model}: {column.sql()} is of no joined model", "meta.explained_by", "add it to join")
        column.set("table", exp.to_identifier(column.table or "parent"))
        column.this.set("quoted", True)
    return tree.this.sql(DIALECT) if not isinstance(tree.this, exp.Connector) else tree.sql(DIALECT)


def _columns_of(text: str, table: str) -> Iterator[str]:
    return (column.name for column in parse_one(text, dialect=DIALECT).find_all(exp.Column) if column.table == table)
