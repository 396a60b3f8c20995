"""Which columns of its parents each column of a model comes from, read out of the compiled SQL with sqlglot.

dagster-dbt has `fetch_column_metadata()` for this, which was measured and not taken: 11 s of processor time for 40
relations. It keeps a core busy while it waits for dbt (one of the two that Postgres would use), asks the database about
every parent of every model again, and optimises the statement once per column. Here the statement is resolved once:
some 4 ms a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import MappingSchema, exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from granary.dbt.manifest_nodes import DELTA

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DIALECT = "postgres"
PARTITIONS = "granary_partitions"
"""The temporary table in which an increment has the partitions that it overwrites."""
OF_CHANGES = {"version": "bigint", "sign": "smallint"}
"""What the rows in which the versions of a model differ have besides its columns."""
Columns = dict[str, str]
"""Column name to type."""
Lineage = dict[str, list[tuple[str, str]]]
"""Column to the (relation, column) pairs that it is made from; a relation is `schema.name`."""


def column_lineage(sql: str, parents: Mapping[str, Columns], itself: str = "") -> Lineage:
    """Return the lineage of every column that a select statement gives; parents are named `schema.name`.

    It is the lineage of values: what a column is computed from, what it is sorted and partitioned by in a window. What
    only decides which rows count (filters, joins, groups) is not in it.

    Args:
        sql: The compiled statement.
        parents: The columns of every relation that it may read.
        itself: The relation that it builds, where it reads its own earlier rows; those are no origin.

    Returns:
        The origins by column: none for a constant or a count of rows. A column gets no entry when the origin of any
        part of it cannot be resolved: half a lineage would look whole.
    """
    schema = MappingSchema(dialect=DIALECT)
    for relation, columns in parents.items():
        schema.add_table(_table(relation), dict(columns), dialect=DIALECT)
        schema.add_table(_table(relation + DELTA), {**columns, **OF_CHANGES}, dialect=DIALECT)
    try:
        tree = parse_one(sql, dialect=DIALECT)
        for table in tree.find_all(exp.Table):
            table.set("catalog", None)
        if itself and isinstance(tree, exp.Query):
            schema.add_table(_table(itself), dict.fromkeys(tree.named_selects, "text"), dialect=DIALECT)
        _leave_out_partitions(tree)
        _write_out(tree)
        tree = qualify(tree, schema=schema, dialect=DIALECT, validate_qualify_columns=False, quote_identifiers=False)
        _look_through_functions(tree)
        scope = build_scope(tree)
    except SqlglotError:
        return {}
    found: Lineage = {}
    for column in tree.named_selects if isinstance(tree, exp.Query) else []:
        try:
            # Copies and trimmed statements are for people to look at; they took nine tenths of the time.
            node = lineage(column, tree, schema=schema, scope=scope, dialect=DIALECT, copy=False, trim_selects=False)
        except (SqlglotError, ValueError):
            continue
        origins = _origins(node, parents, itself)
        if origins is not None:
            found[column] = sorted(origins)
    return found


def snapshot_lineage(parents: Mapping[str, Columns], unique_key: Iterable[str], updated_at: str) -> Lineage:
    """Return the lineage of a snapshot (strategy `timestamp`) of its one parent, with the columns that dbt adds."""
    ((relation, columns),) = parents.items()
    changed = [(relation, updated_at)]
    added = {
        "dbt_scd_id": sorted({*changed, *((relation, name) for name in unique_key)}),
        **dict.fromkeys(("dbt_updated_at", "dbt_valid_from", "dbt_valid_to"), changed),
    }
    return {name: [(relation, name)] for name in columns} | added


def _leave_out_partitions(tree: exp.Expr) -> None:
    """Take queries for the partitions that an increment overwrites out: they decide which rows count."""
    for table in list(tree.find_all(exp.Table)):
        if table.name == PARTITIONS and (select := table.find_ancestor(exp.Select)):
            select.replace(exp.select("null"))


def _write_out(tree: exp.Expr) -> None:
    """Write out what sqlglot's lineage passes over: windows that are named, and lateral subqueries.

    It takes `over w` for a window without columns, and a lateral subquery for the tables beside it. As a plain
    subquery it is read well; a column of the tables beside it that comes into its values stays unresolved.
    """
    for select in tree.find_all(exp.Select):
        named = {window.name: window for window in select.args.get("windows") or []}
        for window in list(select.find_all(exp.Window)) if named else []:
            base = named.get(window.alias)
            while base is not None:
                for part in ("partition_by", "order"):
                    if not window.args.get(part) and base.args.get(part):
                        window.set(part, base.copy().args[part])
                base = named.get(base.alias)
    for lateral in list(tree.find_all(exp.Lateral)):
        if isinstance(lateral.this, exp.Subquery):
            plain = lateral.this.copy()
            plain.set("alias", lateral.args.get("alias"))
            lateral.replace(plain)


def _look_through_functions(tree: exp.Expr) -> None:
    """Put what a function in `from` is given in the place of what it returns: `jsonb_each(t.sums) as s` is `t.sums`."""
    for table in list(tree.find_all(exp.Table)):
        given = list(table.find_all(exp.Column)) if isinstance(table.this, exp.Func) else []
        select = table.find_ancestor(exp.Select)
        for column in list(select.find_all(exp.Column)) if given and select else []:
            if column.table == table.alias:
                column.replace(exp.func("concat", *(one.copy() for one in given)))


def _origins(node: Node, parents: Mapping[str, Columns], itself: str) -> set[tuple[str, str]] | None:
    """Return what a column is made from, or None if a part of it leads nowhere."""
    found: set[tuple[str, str]] = set()
    for leaf in node.walk():
        if leaf.downstream:
            continue
        source = leaf.expression
        relation = f"{source.db}.{source.name}" if isinstance(source, exp.Table) else ""
        if relation.endswith(DELTA):  # the changes of a parent, or all of it
            relation = relation.removesuffix(DELTA)
            if exp.to_column(leaf.name).name in OF_CHANGES:
                continue
        if relation in parents and (name := exp.to_column(leaf.name).name) in parents[relation]:
            found.add((relation, name))
        elif not _is_made_here(leaf) and (not itself or relation != itself):
            return None
    return found


def _is_made_here(leaf: Node) -> bool:
    """Whether a leaf is a value that the statement makes of no column: a constant, a count of rows, a series."""
    made: exp.Expr
    if isinstance(leaf.source, exp.Values):
        made = leaf.source
    elif isinstance(leaf.expression, exp.Alias):
        made = leaf.expression
    elif isinstance(leaf.expression, exp.Table) and isinstance(leaf.expression.this, exp.Func):
        made = leaf.expression.this
    else:
        return False
    return made.find(exp.Column) is None


def _table(relation: str) -> exp.Table:
    schema, _, name = relation.partition(".")
    return exp.table_(name, db=schema)
