"""Where a name or a value stands in a statement, it was quoted: between quotes, or after `from` and its like.

Values are parameters. What cannot be one (names, and values of statements that take none) goes through `quote_name` and
`quote_relation`, or is a constant of the program. What is called `sql_name` or `relation` was quoted where it was made.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENGINE = PROJECT / "granary"
QUOTING = {"quote_name", "quote_relation", "quoted", "int", "literal", "_quoted", "identifier", "asked", "_table"}
QUOTED = {"sql_name", "relation"}
STATEMENT = re.compile(
    r"\s*(with|select|insert into|update|delete from|create|drop|alter|grant|revoke|truncate|copy|lock table|vacuum"
    r"|analyze|comment on|set)\b",
    re.IGNORECASE,
)
NAME_FOLLOWS = re.compile(
    r"\b(from|join|into|update|table|schema|role|index|on|view|database|only|truncate|copy|vacuum|analyze|publication|to|user"
    r"|exists|column)\s+$",
    re.IGNORECASE,
)
REVIEWED: dict[str, dict[str, str]] = {
    "cdc/postgres/catalog.py": {"names": "quote_name of schema and table, joined by a dot"},
    "cdc/current_table.py": {"same": "quoted columns; the types are those that the catalogue writes"},
    "cdc/postgres/origin.py": {"self.capture.slot": "a-z, 0-9 and _: Capture takes no other"},
    "cdc/postgres/snapshot.py": {"names": "sql_name of each, joined"},
    "cli/publishes.py": {"made.schema": "a name of ours, in a statement for a person to read"},
    "dagster/retention.py": {"table": "a key of POLICIES"},
    "deliver/database.py": {"self.mark": "quoted by SQLAlchemy's dialect"},
    "explain/archived.py": {
        "beside.table": "a temporary table, named by quote_name",
        "view": "a temporary view of the trace, by number",
    },
    "explain/check.py": {"child": "a table of `tables`: temporary ones of the trace, by number", "parent": "the same"},
    "explain/origins.py": {
        "held": "the same",
        "tables[followed.child.node]": "the same",
        "tables[followed.parent.node]": "the same",
    },
    "explain/trace.py": {
        "self.away.relation(followed.parent)": "sql_name, or a temporary view of the trace, by number",
        "child": "a temporary table of the trace, by number",
        "copies[model.node]": "the same",
        "name": "the same",
        "self.tables[followed.child.node]": "the same",
        "self.tables[model.node]": "the same",
        "self.tables[self.root.node]": "the same",
        "table": "the same",
    },
    "monitoring/exposition.py": {"value": "one of two constants"},
    "pages/dashboard/read.py": {"snapshot": "what pg_export_snapshot gave: digits and dashes"},
    "profiling/measure.py": {"among": "the quoted relation, or a temporary table of a fixed name"},
    "readers/database/postgres.py": {
        "self.table": "quote_relation, by who opens the session",
        "snapshot": "what pg_export_snapshot gave: digits and dashes",
        "table": "the same as self.table",
    },
    "readers/database/rights.py": {"login": "as MySQL writes it, in a statement for a person to read"},
    "scaffold/dbt.py": {"source.name": "a checked name, in a file of dbt's", "table.name": "the same"},
    "scaffold/mart_files.py": {"model": "a checked name, in a file of dbt's", "rows": "the same"},
    "scaffold/mart_increments.py": {"mart.model": "a checked name, in a file of dbt's", "rows": "the same"},
    "spark/raw.py": {"folder.as_uri()": "quotes are %27 there"},
    "spark/streaming/fresh.py": {
        "built": "quote_relation, by `prepare`",
        "loader": "quote_ident, by ops.grantee",
        "reader": "the same",
        "table": "quote_relation, by `prepare`",
        "view": "the same",
    },
    "streams/debezium/known.py": {"same": "quoted columns and names of ours, compared"},
    "twin/asking.py": {"one.copy.catalog": "one of two names of ours"},
    "twin/verify.py": {"rows": "a name of ours, quote_name, and a number"},
    "twin/writing.py": {"source": "what regclass writes, or a query of the ledger's"},
    "warehouse/binary_copy.py": {"name": "quoted by each caller"},
    "warehouse/compare.py": {"self._joined()": "quoted relations and columns"},
    "warehouse/doctor.py": {
        "index": "as regclass writes it, in a command for a person to read",
        "slot": "the same",
        "table": "the same",
        "table.rpartition('.')[2]": "the same",
        "value": "a number of ours, in such a command",
    },
    "warehouse/provenance.py": {"_raw(source, table)": "quote_relation"},
    "warehouse/published.py": {"history": "as ops.history_of writes it, or a schema of ours and quote_name"},
    "warehouse/role_script.py": {"name": "quote_name of each"},
    "warehouse/roles.py": {
        "end": "a date that Python writes",
        "value": "digits and a unit: DURATION",
        "verifier.decode()": "base64 and $, as libpq makes it",
    },
    "warehouse/writer.py": {"index": "as regclass writes it", "reader": "quote_ident, by ops.grantee"},
}
"""What the rule cannot see through, and why it is right: by file, the expression."""


def is_quoted(node: ast.expr, tree: ast.Module, depth: int = 0) -> bool:  # noqa: PLR0911
    """Return whether an expression was quoted, or is the program's own, as far as its module shows."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.JoinedStr):
        return all(is_quoted(part.value, tree, depth) for part in node.values if isinstance(part, ast.FormattedValue))
    if isinstance(node, ast.IfExp):
        return is_quoted(node.body, tree, depth) and is_quoted(node.orelse, tree, depth)
    if isinstance(node, ast.BinOp):
        return is_quoted(node.left, tree, depth) and is_quoted(node.right, tree, depth)
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name == "join" and node.args:
            return is_quoted(node.args[0], tree, depth)
        if name == "map" and node.args:
            return getattr(node.args[0], "id", "") in QUOTING
        if name == "replace":  # of text between quotes
            return [getattr(one, "value", None) for one in node.args] == ["'", "''"]
        return name in QUOTING
    if isinstance(node, (ast.GeneratorExp, ast.ListComp)):
        return is_quoted(node.elt, tree, depth)
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(is_quoted(one, tree, depth) for one in node.elts)
    if isinstance(node, (ast.Name, ast.Attribute)):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in QUOTED or re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name):
            return True
        given = assigned(name, tree) if isinstance(node, ast.Name) and depth < 4 else []
        return bool(given) and all(is_quoted(one, tree, depth + 1) for one in given)
    return False


def assigned(name: str, tree: ast.Module) -> list[ast.expr]:
    """Return everything that a module assigns to a name, in whatever function."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found += pairs(target, node.value, name)
        elif isinstance(node, (ast.For, ast.comprehension)):
            found += pairs(node.target, node.iter, name)
        elif isinstance(node, ast.arg) and node.arg == name:
            found.append(ast.Name(id="a parameter", ctx=ast.Load()))
    return found


def pairs(target: ast.expr, value: ast.expr, name: str) -> list[ast.expr]:
    """Return what a name gets by an assignment."""
    if isinstance(target, ast.Name):
        return [value] if target.id == name else []
    if isinstance(target, (ast.Tuple, ast.List)):
        if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
            return [one for pair in zip(target.elts, value.elts, strict=True) for one in pairs(*pair, name)]
        return [value] if any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(target)) else []
    return []


def findings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the places of a module where what stands in a statement was not seen to be quoted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        text = "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
        if not STATEMENT.match(text):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
                continue
            assert isinstance(part, ast.FormattedValue)
            between_quotes = before.replace("''", "").count("'") % 2
            if (between_quotes or NAME_FOLLOWS.search(before)) and not is_quoted(part.value, tree):
                yield part.lineno, ast.unparse(part.value)
            before += "x"


def test_every_name_in_a_statement_is_quoted() -> None:
    reviewed = {(file, what) for file, parts in REVIEWED.items() for what in parts}
    found = {
        (str(path.relative_to(ENGINE)), what): line
        for path in sorted(ENGINE.rglob("*.py"))
        for line, what in findings(path)
    }
    assert {place: line for place, line in found.items() if place not in reviewed} == {}
    assert reviewed - found.keys() == set(), "what is reviewed is there"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('f"select * from {table}"', ["table"]),
        ("f\"delete from t where name = '{name}'\"", ["name"]),
        ('f"select * from {quote_relation(schema, table)}"', []),
        ('table = quote_name(name)\nf"drop table {table}"', []),
        ('table = name\nf"drop table {table}"', ["table"]),
        ('def drop(table): f"drop table {table}"', ["table"]),
        ("f\"set lock_timeout = '{int(seconds)}s'\"", []),
        ('f"no statement: from {table}"', []),
        ('f"select {LOAD_ID} from {target.sql_name} where n = $1"', []),
        ('f"grant {quote_name(role)} to {person}"', ["person"]),
    ],
)
def test_what_is_not_quoted_is_found(tmp_path: Path, code: str, found: list[str]) -> None:
    (tmp_path / "module.py").write_text(code)
    assert [what for _, what in findings(tmp_path / "module.py")] == found
