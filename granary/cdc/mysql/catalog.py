"""What the source must be like before anything is captured, asked of its catalogue; every refusal says what to run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.cdc.mysql.server import quoted
from granary.cdc.rows import source_names
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.cdc.mysql.server import Server
    from granary.sources.spec import Table

WANTED = {
    "log_bin": ("ON", "set log_bin there and restart it"),
    "binlog_format": ("ROW", "run `set global binlog_format = 'ROW'` there, and set it in its configuration"),
    "binlog_row_image": ("FULL", "run `set global binlog_row_image = 'FULL'` there, and set it in its configuration"),
    "binlog_row_metadata": (
        "FULL",
        "run `set global binlog_row_metadata = 'FULL'` there (MySQL 8, MariaDB 10.5), and set it in its configuration",
    ),
    "log_bin_compress": ("OFF", "run `set global log_bin_compress = off` there"),
    "binlog_transaction_compression": ("OFF", "run `set global binlog_transaction_compression = off` there"),
    "binlog_row_value_options": ("", "run `set global binlog_row_value_options = ''` there"),
    "gtid_mode": ("ON", "set gtid_mode = on and enforce_gtid_consistency = on there"),
    "mysql56_temporal_format": ("ON", "run `set global mysql56_temporal_format = on` there"),
}
"""Settings, what each has to be where the server knows it, and how to get there."""
NEEDED = ("log_bin", "binlog_format", "binlog_row_image", "binlog_row_metadata")

COLUMNS = """
select column_name, data_type, column_type, character_set_name, datetime_precision, numeric_precision, numeric_scale
from information_schema.columns where table_schema = %s and table_name = %s order by ordinal_position
"""
UNIQUE = """
select index_name, column_name, sub_part from information_schema.statistics
where table_schema = %s and table_name = %s and non_unique = 0 order by index_name, seq_in_index
"""
CASCADES = re.compile(r"CONSTRAINT `((?:[^`]|``)+)` FOREIGN KEY .* ON (?:DELETE|UPDATE) (?:CASCADE|SET)")
"""A foreign key that changes rows, as `show create table` writes it, which a login that only reads may ask for."""

CODECS = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "ascii": "utf-8", "binary": "utf-8", "latin1": "cp1252",
    "latin2": "iso8859-2", "latin5": "iso8859-9", "latin7": "iso8859-13", "greek": "iso8859-7", "hebrew": "iso8859-8",
    "cp1250": "cp1250", "cp1251": "cp1251", "cp1256": "cp1256", "cp1257": "cp1257", "cp850": "cp850", "cp852": "cp852",
    "cp866": "cp866", "koi8r": "koi8-r", "koi8u": "koi8-u", "macroman": "mac-roman", "macce": "mac-latin2",
    "tis620": "tis-620", "ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be",
    "gbk": "gbk", "gb2312": "gb2312", "gb18030": "gb18030", "big5": "big5", "sjis": "shift-jis", "cp932": "cp932",
    "ujis": "euc-jp", "eucjpms": "euc-jp", "euckr": "euc-kr",
}  # fmt: skip
"""Python's codecs of MySQL's character sets."""

TYPES = frozenset(
    [
        "tinyint",
        "smallint",
        "mediumint",
        "int",
        "bigint",
        "decimal",
        "float",
        "double",
        "bit",
        "year",
        "date",
        "datetime",
        "timestamp",
        "time",
        "char",
        "varchar",
        "binary",
        "varbinary",
        "tinytext",
        "text",
        "mediumtext",
        "longtext",
        "tinyblob",
        "blob",
        "mediumblob",
        "longblob",
        "enum",
        "set",
        "json",
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    ]
)
GEOMETRIES = ("geom", "point", "linestring", "polygon", "multi")


@dataclass(frozen=True)
class OriginColumn:
    """A column at the source: its type in the words of information_schema, and in those of the log (`words`)."""

    name: str
    type: str
    words: str


@dataclass(frozen=True)
class Origins:
    """A captured table at the source, as its catalogue writes it."""

    schema: str
    name: str
    columns: tuple[OriginColumn, ...]

    @property
    def sql_name(self) -> str:
        """The quoted, qualified name."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def types(self) -> dict[str, str]:
        """The type of each column in the words of the log."""
        return {column.name: column.words for column in self.columns}


def codecs(server: Server) -> dict[int, str]:
    """Return Python's codec for the text of each collation of the source."""
    sql = "select id, character_set_name from information_schema.collations where id is not null"
    if server.is_mariadb and server.version >= (10, 10):
        sql = "select id, character_set_name from information_schema.collation_character_set_applicability"
    return {int(number): CODECS[name] for number, name in server.query(sql) if name in CODECS}


def check_server(server: Server) -> None:
    """Refuse a server whose log does not say all that a capture needs.

    Raises:
        GranaryError: it says what is missing, and the statement that fixes it.
    """
    found = server.variables(*WANTED)
    for name, (value, todo) in WANTED.items():
        has = found.get(name)
        if has is None and name not in NEEDED:
            continue
        if (has or "").upper() != value:
            said = f"{name} = {has}" if has else f"no {name}" if value else name
            raise GranaryError(f"the source has {said}", server.where, todo)


def look(server: Server, tables: Sequence[Table]) -> dict[str, Origins]:
    """Return the captured tables as the source has them now, by the contract's name.

    Raises:
        GranaryError: one cannot be captured as it is; it says why and what to run.
    """
    _check_filters(server, tables)
    return {table.name: _table(server, table) for table in tables}


def place(server: Server, table: Table) -> tuple[str, str]:
    """Return the database and the name of a table at the source; without a database it is that of the URI."""
    schema, dot, name = table.location.partition(".")
    return (schema, name) if dot else (server.database, schema)


def _check_filters(server: Server, tables: Sequence[Table]) -> None:
    """Refuse a log that leaves out databases of ours (binlog_do_db, binlog_ignore_db)."""
    _, _, only, without, *_ = server.status()
    for table in tables:
        schema, _ = place(server, table)
        if (only and schema not in only.split(",")) or schema in without.split(","):
            raise GranaryError(
                f"the source's log leaves out database {schema}",
                server.where,
                "take it out of binlog_ignore_db, or put it into binlog_do_db, there",
            )


def _table(server: Server, table: Table) -> Origins:
    schema, name = place(server, table)
    where = f"{server.where}, {schema}.{name}"
    rows = server.query(
        "select table_schema, table_name, table_type, engine from information_schema.tables"
        " where table_schema = %s and table_name = %s",
        schema,
        name,
    )
    if not rows:
        raise GranaryError(
            "the source has no such table, or our login may not read it",
            where,
            "fix the table's location in ingestion/ (database.table), or grant select on it there",
        )
    schema, name, kind, engine = rows[0]
    if kind != "BASE TABLE" or engine != "InnoDB":
        what = f"a table of engine {engine}" if kind == "BASE TABLE" else f"a {kind.lower()}"
        raise GranaryError(
            f"it is {what}, of which no copy can be made that its changes continue", where, "capture InnoDB tables only"
        )
    columns = tuple(_column(row, where) for row in server.query(COLUMNS, schema, name))
    _check_contract(table, {column.name for column in columns}, where)
    _check_unique(table, server.query(UNIQUE, schema, name), where)
    created = server.query(f"show create table {quoted(schema)}.{quoted(name)}")[0][1]
    if cascading := CASCADES.search(created):
        raise GranaryError(
            f"foreign key {cascading[1]} changes its rows without a word in the log",
            where,
            "let it restrict instead of cascade or set null, or take the table out of the source",
        )
    return Origins(str(schema), str(name), columns)


def _column(row: tuple[Any, ...], where: str) -> OriginColumn:
    values: list[Any] = [value.decode() if isinstance(value, bytes) else value for value in row]
    name, kind, full, charset, fraction, digits, scale = values
    if kind not in TYPES or "COMPRESSED" in str(full).upper():
        raise GranaryError(
            f"column {name} is of type {full}, which is not captured", where, "take the table out of the source"
        )
    if charset is not None and charset not in CODECS:
        raise GranaryError(
            f"column {name} has the character set {charset}, which is not known here", where, "convert it to utf8mb4"
        )
    return OriginColumn(str(name), str(full), _words(kind, str(full), fraction, digits, scale))


def _words(kind: str, full: str, fraction: int | None, digits: int | None, scale: int | None) -> str:
    """Return a type as `LogColumn.words` writes it."""
    if kind == "decimal":
        kind = f"decimal({digits},{scale})"
    elif kind in ("datetime", "timestamp", "time") and fraction:
        kind = f"{kind}({fraction})"
    elif kind == "bit":
        kind = f"bit({digits})"
    elif kind in ("enum", "set"):
        labels = re.findall(r"'((?:[^']|'')*)'", full)
        kind = f"{kind}({','.join(label.replace(chr(39) * 2, chr(39)) for label in labels)})"
    elif kind.startswith(GEOMETRIES):
        kind = "geometry"
    return kind + (" unsigned" if " unsigned" in full and kind != "year" else "")


def _check_contract(table: Table, there: set[str], where: str) -> None:
    for column in table.columns:
        if column.name in table.key and not there & {column.name, *column.aliases}:
            raise GranaryError(f"the source has no column {column.name}, which is the key", where, "fix the contract")


def _check_unique(table: Table, rows: Sequence[tuple[Any, ...]], where: str) -> None:
    names = source_names(table)
    indexes: dict[str, set[str | None]] = {}
    for index, column, part in rows:
        indexes.setdefault(index, set()).add(names.get(column) if part is None else None)
    if not any(index <= set(table.key) for index in indexes.values()):
        raise GranaryError(
            f"no unique index of the source keeps {', '.join(table.key)} from being there twice",
            where,
            "make the contract's key that of a primary key or unique index of whole columns",
        )


def captured(tables: Mapping[str, Origins]) -> dict[tuple[str, str], str]:
    """Return the contracts' names by schema and table."""
    return {(origins.schema, origins.name): name for name, origins in tables.items()}
