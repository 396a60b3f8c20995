"""A project's SQL, which is written for Postgres, as Spark's: with the same answers, to the last digit.

Models and tests stay as they are; dbt compiles them, and what it compiled is translated here (dbt_granary.py), so
`target/compiled` shows what Spark is asked. sqlglot knows the words of both; the rules of this module are what its
words alone do not keep: what `-` and `/` mean depends on the types, which are read from Spark's catalogue.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlglot import MappingSchema, exp, parse_one
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlglot.optimizer.annotate_types import TypeAnnotator

FROM, TO = "postgres", "spark"
Columns = dict[str, str]
"""Column name to Spark's type."""

PARTED = exp.DataType.build("decimal(26, 8)", dialect=TO)
"""What both sides of a division become: the quotient has twelve digits behind the point, and eighteen before it.
Spark's own rule leaves six where a sum is divided by a sum."""
AVERAGED = exp.DataType.build("decimal(38, 20)", dialect=TO)
"""What a mean is taken of, where Postgres gives sixteen significant digits and Spark four more than the column has."""
UNBOUND = exp.DataType.build("decimal(38, 10)", dialect=TO)
"""`numeric` without precision, which is a whole number in Spark."""
WHOLE = exp.DataType.INTEGER_TYPES
DOUBLES = (exp.DType.DOUBLE, exp.DType.FLOAT)
NAIVE = (exp.DType.TIMESTAMP, exp.DType.TIMESTAMPNTZ)
MOMENTS = (*NAIVE, exp.DType.TIMESTAMPTZ, exp.DType.TIMESTAMPLTZ)
PARTS = {"ISODOW": "DAYOFWEEK_ISO", "ISOYEAR": "YEAROFWEEK"}
"""Fields of `extract` that Spark calls otherwise."""
PATTERNS = {"Day": "EEEE", "Month": "MMMM", "YYYY-MM-DD": "yyyy-MM-dd", "YYYY-MM": "yyyy-MM", "YYYY": "yyyy"}
"""Patterns of `to_char` that are the same in every language of a server."""
PADDED = ("Day", "Month")
"""Those that Postgres fills up with blanks to nine letters."""


def translated(sql: str, types: Callable[[str], Columns], where: str) -> str:
    """Return a query for Postgres as one for Spark.

    Args:
        sql: one statement, without Jinja.
        types: gives the columns of a relation (`schema.name`) with Spark's types, or nothing if it is not there.
        where: what the query is of, for the error.

    Raises:
        GranaryError: it holds something that has no counterpart with the same meaning.
    """
    try:
        tree = parse_one(sql, dialect=FROM)
        _before(tree)
        tree = qualify(
            tree, schema=_schema(tree, types), dialect=FROM, validate_qualify_columns=False, quote_identifiers=False,
        )  # fmt: skip
        tree = annotate_types(tree, schema=_schema(tree, types), dialect=FROM, expression_metadata=_metadata())
        for node in list(tree.walk(bfs=False))[::-1]:  # parts before what holds them
            if type(node).__name__.startswith("JSON"):
                raise NotImplementedError(node.sql(dialect=FROM))
            rule = RULES.get(type(node))
            made = rule(node) if rule else None
            if made is not None and made is not node:
                made.type = made.type or node.type
                node.replace(made)
        return str(tree.sql(dialect=TO, pretty=True, unsupported_level=ErrorLevel.RAISE))
    except (SqlglotError, NotImplementedError) as error:
        todo = "say it in SQL that both know, or leave it out there: enabled: \"{{ target.type == 'postgres' }}\""
        said = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
        raise GranaryError(f"Spark cannot be asked this: {said[:300]}", where, todo) from None


def _schema(tree: exp.Expr, types: Callable[[str], Columns]) -> MappingSchema:
    schema = MappingSchema(dialect=FROM)
    made = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if (table.db and isinstance(table.this, exp.Identifier)) or (table.name and table.name not in made):
            found = types(f"{table.db}.{table.name}") if table.db else {}
            if found:
                columns = {name: exp.DataType.build(kind, dialect=TO) for name, kind in found.items()}
                schema.add_table(exp.table_(table.name, db=table.db), columns, dialect=FROM)
    return schema


def _metadata() -> dict[type[exp.Expr], dict[str, object]]:
    """Return how the types of expressions follow from those of their parts, where it is otherwise than sqlglot says."""

    def literal(self: TypeAnnotator, node: exp.Literal) -> exp.Expr:
        kind = "VARCHAR" if node.is_string else "INT" if node.is_int else "DECIMAL"
        return self._set_type(node, exp.DType[kind])

    def subtracted(self: TypeAnnotator, node: exp.Sub) -> exp.Expr:
        if node.left.is_type(exp.DType.DATE) and node.right.is_type(exp.DType.DATE):
            return self._set_type(node, exp.DType.INT)
        if node.left.is_type(*MOMENTS) and node.right.is_type(*MOMENTS):
            return self._set_type(node, exp.DType.INTERVAL)
        return self._annotate_binary(node)

    def at_zone(self: TypeAnnotator, node: exp.AtTimeZone) -> exp.Expr:
        naive = node.this.is_type(*NAIVE)
        return self._set_type(node, exp.DType.TIMESTAMPTZ if naive else exp.DType.TIMESTAMP)

    def divided(self: TypeAnnotator, node: exp.Div) -> exp.Expr:
        kinds = [side.type.this if side.type else None for side in (node.left, node.right)]
        whole = all(kind in WHOLE for kind in kinds)
        kind = exp.DType.BIGINT if whole else exp.DType.DOUBLE if set(kinds) & set(DOUBLES) else exp.DType.DECIMAL
        return self._set_type(node, kind)

    def averaged(self: TypeAnnotator, node: exp.Avg) -> exp.Expr:
        return self._set_type(node, exp.DType.DOUBLE if node.this.is_type(*DOUBLES) else exp.DType.DECIMAL)

    metadata = dict(Dialect.get_or_raise(FROM).EXPRESSION_METADATA)
    metadata[exp.Literal] = {"annotator": literal}
    metadata[exp.Sub] = {"annotator": subtracted}
    metadata[exp.AtTimeZone] = {"annotator": at_zone}
    metadata[exp.Div] = {"annotator": divided}
    metadata[exp.Avg] = {"annotator": averaged}
    metadata[exp.Extract] = {"returns": exp.DType.DECIMAL}
    return metadata


def _before(tree: exp.Expr) -> None:
    """Write out what names cannot be resolved through: series in `from`, values beside a lateral, rows compared."""
    for table in list(tree.find_all(exp.Table)):
        if isinstance(table.this, exp.ExplodingGenerateSeries):
            series, alias = table.this, table.args["alias"]
            name = alias.columns[0] if alias.columns else alias.this
            items = exp.GenerateSeries(start=series.args["start"], end=series.args["end"], step=series.args.get("step"))
            rows = exp.select(exp.alias_(exp.Explode(this=items), name.name))
            table.replace(rows.subquery(alias.this.name))
    for values in list(tree.find_all(exp.Values)):
        if isinstance(values.parent, (exp.Lateral, exp.Subquery)) and values.find_ancestor(exp.Lateral):
            _values_as_rows(values)
    for node in list(tree.find_all(exp.NullSafeNEQ, exp.NullSafeEQ)):
        left, right = node.this.unnest(), node.expression.unnest()
        if isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple):
            kind = type(node)
            pairs = [kind(this=a, expression=b) for a, b in zip(left.expressions, right.expressions, strict=True)]
            node.replace(exp.paren((exp.or_ if kind is exp.NullSafeNEQ else exp.and_)(*pairs)))
    for node in list(tree.find_all(exp.EQ)):
        inner = node.expression.this.unnest() if isinstance(node.expression, exp.Any) else None
        if isinstance(inner, exp.Array) and inner.expressions and isinstance(inner.expressions[0], exp.Query):
            node.replace(exp.In(this=node.this, query=inner.expressions[0].subquery()))
    for array in list(tree.find_all(exp.Array)):
        if array.expressions and isinstance(array.expressions[0], exp.Query):
            query = array.expressions[0].subquery("_rows")
            column = array.expressions[0].named_selects[0]
            array.replace(exp.select(exp.func("collect_list", exp.column(column, "_rows"))).from_(query).subquery())
    for cte in tree.find_all(exp.CTE):
        cte.set("materialized", None)


def _values_as_rows(values: exp.Values) -> None:
    """Write values that a lateral makes of the row beside it as selects: Spark takes constants only."""
    holders = [node for node in (values, values.parent, values.find_ancestor(exp.Lateral)) if node is not None]
    alias = next(found for node in holders if (found := node.args.get("alias")))
    names = [column.name for column in alias.columns]
    rows = [
        exp.select(*(exp.alias_(value, name) for value, name in zip(row.expressions, names, strict=True)))
        for row in values.expressions
    ]
    query = rows[0] if len(rows) == 1 else exp.union(*rows, distinct=False)
    values.replace(query if isinstance(values.parent, exp.Subquery) else query.subquery())


def _subtract(node: exp.Sub) -> exp.Expr | None:
    if node.left.is_type(exp.DType.DATE) and node.right.is_type(exp.DType.DATE):
        return exp.func("datediff", node.left, node.right)
    return None


def _divide(node: exp.Div) -> exp.Expr | None:
    kinds = [side.type.this if side.type else exp.DType.UNKNOWN for side in (node.left, node.right)]
    if all(kind in WHOLE for kind in kinds):
        return exp.paren(exp.IntDiv(this=node.left, expression=node.right))
    if set(kinds) & set(DOUBLES):
        return None
    return exp.Div(this=_cast(node.left, PARTED), expression=_cast(node.right, PARTED), typed=False, safe=False)


def _average(node: exp.Avg) -> exp.Expr | None:
    if not node.this.is_type(*DOUBLES):
        node.set("this", _cast(node.this, AVERAGED))
    return None


def _convert(node: exp.Cast) -> exp.Expr | None:
    kind, wanted = node.this.type, node.args["to"]
    if wanted.this in WHOLE and not (kind and kind.this in (*WHOLE, *exp.DataType.TEXT_TYPES, exp.DType.BOOLEAN)):
        node.set("this", exp.Round(this=node.this))  # Postgres rounds, Spark cuts off
    if wanted.this == exp.DType.DECIMAL and not wanted.expressions:
        node.set("to", UNBOUND.copy())
    if wanted.this == exp.DType.TIMESTAMP:
        node.set("to", exp.DataType.build("timestamp_ntz", dialect=TO))
    return None


def _at_zone(node: exp.AtTimeZone) -> exp.Expr:
    zone = node.args["zone"]
    if node.this.is_type(*NAIVE):
        return exp.func("to_utc_timestamp", _cast(node.this, exp.DataType.build("timestamptz")), zone)
    return _cast(_call("from_utc_timestamp", node.this, zone), exp.DataType.build("timestamp_ntz", dialect=TO))


def _extract(node: exp.Extract) -> exp.Expr | None:
    part, moment = node.name.upper(), node.expression.unnest()
    if part == "EPOCH":
        both = (moment.left, moment.right) if isinstance(moment, exp.Sub) else (moment,)
        if not all(one.is_type(*MOMENTS, exp.DType.DATE) for one in both):
            raise NotImplementedError("extract(epoch from …) of what is no time, nor the difference of two")
        micros = [_cast(_call("unix_micros", _moment(one)), exp.DataType.build("decimal(20, 0)")) for one in both]
        whole = exp.paren(exp.Sub(this=micros[0], expression=micros[1])) if len(micros) > 1 else micros[0]
        return exp.paren(exp.Mul(this=whole, expression=exp.Literal.number("0.000001")))
    node.set("this", exp.var(PARTS.get(part, part)))
    return None


def _moment(node: exp.Expr) -> exp.Expr:
    return _cast(node, exp.DataType.build("timestamptz"))


def _pattern(node: exp.TimeToStr) -> exp.Expr:
    given = Dialect.get_or_raise(FROM)
    wanted = exp.TimeToStr(this=exp.column("x"), format=node.args["format"].copy()).sql(dialect=given)
    pattern = wanted.partition("'")[2].rpartition("'")[0]
    if pattern not in PATTERNS:
        raise NotImplementedError(f"to_char(…, '{pattern}')")
    made = _call("date_format", node.this, exp.Literal.string(PATTERNS[pattern]))
    return _call("rpad", made, exp.Literal.number(9)) if pattern in PADDED else made


def _bucket(node: exp.WidthBucket) -> exp.Expr | None:
    bounds = node.args.get("threshold")
    if bounds is None:
        return None
    given, value = bounds.sql(dialect=TO), node.this.sql(dialect=TO)
    # The size of what is null is -1 there.
    return exp.var(f"if({given} is null or {value} is null, null, size(filter({given}, one -> one <= {value})))")


def _collect(node: exp.ArrayAgg) -> exp.Expr:
    """Collect nulls, too, and nothing of no rows, as Postgres does."""
    if isinstance(node.parent, exp.Filter):
        raise NotImplementedError("array_agg with a filter")
    ordered = node.this if isinstance(node.this, exp.Order) else None
    value = ordered.this if ordered else node.this
    if ordered and [(one.this, bool(one.args.get("desc"))) for one in ordered.expressions] != [(value, False)]:
        raise NotImplementedError("array_agg in the order of something else than what it collects")
    rows = f"transform(collect_list(named_struct('one', {value.sql(dialect=TO)})), each -> each.one)"
    return exp.var(f"if(count(*) > 0, {f'array_sort({rows})' if ordered else rows}, null)")


def _within(node: exp.WithinGroup) -> exp.Expr:
    name = {exp.PercentileDisc: "percentile_disc", exp.PercentileCont: "percentile_cont"}.get(type(node.this))
    if name is None:
        raise NotImplementedError(f"{node.this.sql(dialect=FROM)} within group")
    of = node.expression.expressions[0]
    direction = " desc" if of.args.get("desc") else ""
    share = node.this.this.sql(dialect=TO)
    made = exp.var(f"{name}({share}) within group (order by {of.this.sql(dialect=TO)}{direction})")
    kind = of.this.type  # Spark gives a double, whatever the values are
    kept = name == "percentile_disc" and kind is not None and (kind.this in WHOLE or kind.expressions)
    return exp.Cast(this=made, to=kind.copy()) if kept and kind else made


def _search(node: exp.Substring) -> exp.Expr | None:
    start = node.args.get("start")
    if start is None or not start.is_string:
        return None
    groups = 1 if "(" in start.name.replace("\\(", "") else 0
    found = _call("regexp_extract", node.this, start, exp.Literal.number(groups))
    return _call("nullif", found, exp.Literal.string(""))


def _named(node: exp.Anonymous) -> exp.Expr | None:
    name = node.name.lower()
    if name == "hashtextextended":  # numbers for names, of which only equality counts
        return _call("xxhash64", *node.expressions)
    if name.startswith(("jsonb_", "pg_", "has_")) or isinstance(node.parent, exp.Dot):
        raise NotImplementedError(f"the function {name}")
    return None


def _cast(node: exp.Expr, to: exp.DataType) -> exp.Cast:
    return exp.Cast(this=node.copy(), to=to.copy())


def _call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=[one.copy() for one in arguments])


RULES: Mapping[type[exp.Expr], Callable[..., exp.Expr | None]] = {
    exp.Anonymous: _named,
    exp.ArrayAgg: _collect,
    exp.AtTimeZone: _at_zone,
    exp.Avg: _average,
    exp.Cast: _convert,
    exp.Div: _divide,
    exp.Extract: _extract,
    exp.Sub: _subtract,
    exp.Substring: _search,
    exp.TimeToStr: _pattern,
    exp.WidthBucket: _bucket,
    exp.WithinGroup: _within,
}
