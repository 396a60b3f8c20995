"""What `alter table` does to rows without a word in the log: found in the source's catalogue, before it is too late.

Logical replication carries rows that are written. Rows that a statement rewrites (a new type), that read otherwise from
then on (a default for rows that are there, a renamed column), or that come and go with a partition are not in it. The
catalogue tells most of these from what is harmless: a column keeps its number (pg_attribute.attnum) when it is renamed
and never gets that of a dropped one; the xmin of its entry moves when it is altered; the file of a table (relfilenode)
is another one after a rewrite; pg_attribute.atthasmissing says that older rows read as a default that they do not hold.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.cdc.postgres.origin import Origin

SHAPE = """
select jsonb_build_object(
    'published', jsonb_build_array(
        p.oid::bigint,
        (select jsonb_build_array(r.oid::bigint, to_jsonb(r) -> 'prattrs') from pg_publication_rel as r
            where r.prpubid = p.oid and r.prrelid = c.oid),
        (select to_jsonb(t) -> 'rowfilter' from pg_publication_tables as t
            where t.pubname = p.pubname and t.schemaname = $2 and t.tablename = $3)),
    'files', coalesce(
        (select jsonb_object_agg(l.oid::text, l.relfilenode::bigint)
            from pg_partition_tree(c.oid) as t join pg_class as l on l.oid = t.relid where t.isleaf),
        case when c.relkind = 'r' then jsonb_build_object('', c.relfilenode::bigint) else '{}' end),
    'columns', (select jsonb_object_agg(a.attname, jsonb_build_object(
            'number', a.attnum,
            'kind', format_type(a.atttypid, a.atttypmod),
            'generated', case when a.attgenerated <> '' then coalesce(pg_get_expr(d.adbin, d.adrelid), '') else '' end,
            'altered', a.xmin::text,
            'fills', a.atthasmissing,
            'labels', coalesce((select jsonb_object_agg(e.oid::text, e.enumlabel) from pg_enum as e
                where e.enumtypid in (k.oid, k.typelem, k.typbasetype)), '{}')))
        from pg_attribute as a join pg_type as k on k.oid = a.atttypid
        left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))::text
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace, pg_publication as p
where p.pubname = $1 and n.nspname = $2 and c.relname = $3
"""

EARLIER = """
select i.xmin::text, coalesce(pg_get_partition_constraintdef(i.inhrelid), 'true'), i.inhrelid::regclass::text
from pg_inherits as i where i.inhrelid = $1::bigint::oid
"""

ITSELF = ""
"""The key of the file of a table that has no partitions."""

WIDTH = re.compile(r"\(.*?\)")
TEXTS = ("text", "character varying")


@dataclass(frozen=True)
class Shape:
    """What the source's catalogue says of a captured table.

    `published` is its entry in the publication, `files` the file number of each leaf partition by oid (its own, of a
    table without partitions), `columns` what is known of each column. `dropped` are those that only the copy has.
    """

    published: tuple[Any, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    @classmethod
    def look(cls, origin: Origin, schema: str, name: str) -> Shape:
        """Return the shape of a table that is there and published."""
        values = json.loads(origin.query(SHAPE, origin.capture.publication, schema, name)[0][0])
        return cls(tuple(values["published"]), values["files"], values["columns"])

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Shape:
        """Return the shape that `dump` wrote; of a capture from before there were shapes, an empty one."""
        return cls(**{**values, **{name: tuple(values.get(name, ())) for name in ("published", "dropped")}})

    def dump(self) -> dict[str, Any]:
        """Return the shape as JSON values."""
        return asdict(self)

    def after(self, before: Shape) -> Shape:
        """Return the shape with the columns that the copy has and the source has no more."""
        gone = set(before.dropped) | (set(before.columns) - set(self.columns))
        return Shape(self.published, self.files, self.columns, tuple(sorted(gone)))


def altered(before: Shape, now: Shape, names: Mapping[str, str]) -> str | None:
    """Return what happened to rows without a change in the log, or None if nothing did.

    Args:
        before: the table's shape when its rows were last known to be right.
        now: its shape now.
        names: delivered names of columns -> the contract's.
    """
    return next(_alterations(before, now, names), None) if before.columns else None


def _alterations(before: Shape, now: Shape, names: Mapping[str, str]) -> Iterator[str]:
    if before.published != now.published:
        yield "it was published in another way"
    rewritten = any(now.files.get(oid, file) != file for oid, file in before.files.items())
    known = {column["number"]: (name, column) for name, column in before.columns.items()}
    for name, column in now.columns.items():
        if column["number"] not in known:
            yield from _added(name, column, before, rewritten=rewritten)
    for name, column in now.columns.items():
        if column["number"] in known:
            yield from _altered(name, column, *known[column["number"]], rewritten=rewritten, names=names)
    touched = [
        name
        for name, column in now.columns.items()
        if column["number"] in known and column["altered"] != known[column["number"]][1]["altered"]
    ]
    if rewritten and touched:
        yield f"the rows were written anew when {', '.join(sorted(touched))} was altered"
    if ITSELF not in before.files and not before.files.items() <= now.files.items():
        yield "a partition was detached, dropped, truncated or rewritten"


def _added(name: str, column: Mapping[str, Any], before: Shape, *, rewritten: bool) -> Iterator[str]:
    if column["fills"]:
        yield f"column {name} was added with a default, which its older rows have"
    if rewritten:
        yield f"column {name} was added and the rows were written anew"
    if name in before.columns or name in before.dropped:
        yield f"column {name} was dropped and added again"


def _altered(
    name: str,
    column: Mapping[str, Any],
    earlier: str,
    known: Mapping[str, Any],
    *,
    rewritten: bool,
    names: Mapping[str, str],
) -> Iterator[str]:
    if name != earlier and names.get(name, name) != names.get(earlier, earlier):
        yield f"column {earlier} was renamed to {name}"
    if column["generated"] and column["generated"] != known["generated"]:
        yield f"column {name} is generated by another expression"
    if column["kind"] != known["kind"] and (rewritten or not _reads_the_same(known["kind"], column["kind"])):
        yield f"column {name} was altered from {known['kind']} to {column['kind']}"
    if any(column["labels"].get(oid, label) != label for oid, label in known["labels"].items()):
        yield f"a value of the enumeration in column {name} was renamed"


def _reads_the_same(before: str, now: str) -> bool:
    """Return whether values that were not rewritten are the same text in both types."""
    before, now = WIDTH.sub("", before), WIDTH.sub("", now)
    return before == now or (before in TEXTS and now in TEXTS)


def attached(origin: Origin, sql_name: str, before: Shape, now: Shape) -> str | None:
    """Return which new partition came with rows of its own, or None.

    A partition that was created as one is empty at first, and its rows are in the log. One that was attached has rows
    that are older than its entry in pg_inherits. They are read through the table, which is what we may read.
    """
    for oid in now.files.keys() - before.files.keys() if before.columns else ():
        for since, holds, name in origin.query(EARLIER, int(oid)):
            (found,) = origin.query(
                f"select exists (select 1 from {sql_name} where {holds} and tableoid = $1::bigint::oid"
                " and age(xmin) >= age($2::text::xid))",
                int(oid),
                since,
            )[0]
            if found:
                return f"partition {name} was attached with rows"
    return None


def heirs(origin: Origin, schema: str, name: str) -> list[str]:
    """Return the tables that inherit from one that is not partitioned; their rows are in its select, not in its log."""
    sql = (
        "select i.inhrelid::regclass::text from pg_inherits as i join pg_class as c on c.oid = i.inhparent"
        " join pg_namespace as n on n.oid = c.relnamespace"
        " where n.nspname = $1 and c.relname = $2 and c.relkind = 'r' order by 1"
    )
    return [str(row[0]) for row in origin.query(sql, schema, name)]
