"""Statements in the log: which of them alter a captured table so that its rows differ and no change says so.

The log has the text of `alter table`, `truncate` and the like, and no rows. What is known to leave rows as they are is
listed here; of whatever else names a captured table it is assumed that it does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = re.compile(
    r"""/\*!\d*|/\*.*?\*/|\*/|--[ \t][^\n]*|\#[^\n]*  # comments; what is in /*! … */ is executed
    |`(?:[^`]|``)*`|'(?:[^'\\]|''|\\.)*'|"(?:[^"\\]|""|\\.)*"|[\w$]+|[(),.;=]|\S""",
    re.VERBOSE | re.DOTALL,
)
COMMENT = re.compile(r"/\*|\*/|--[ \t]|#")

HARMLESS = re.compile(
    r"(create|drop)( or replace)?( (?:unique|fulltext|spatial))? index\b"
    r"|(create|drop|alter)( or replace)?( definer = .*?)?( sql security \w+)? (view|trigger|procedure|function|event"
    r"|user|role|sequence|server)\b"
    r"|create( or replace)? (temporary table|database|schema)\b|create table if not exists\b|drop temporary table\b"
    r"|(create|alter) algorithm\b|create aggregate\b"
    r"|(analyze|optimize|check|repair|flush|grant|revoke|set|lock|unlock|savepoint|rollback to|release|use)\b"
)
"""Statements that leave the rows and columns of tables alone, whatever they name."""

ADDED_INDEX = r"(?:add|drop|rename) (?:(?:unique|fulltext|spatial) )?(?:index|key|constraint|foreign key|check)\b.*"
CLAUSE = re.compile(
    ADDED_INDEX + r"|(?:add|drop) primary key\b.*|add (?:unique|fulltext|spatial)\b.*"
    r"|(?:engine|comment|auto_increment|row_format|stats_\w+|checksum|max_rows|min_rows|avg_row_length|key_block_size"
    r"|page_compressed|page_compression_level|encrypted|encryption|encryption_key_id|algorithm|lock) =? ?(?:'.*'|\S+)"
    r"|(?:default )?(?:character set|charset|collate) =? ?\w+(?: collate =? ?\w+)?"
    r"|(?:enable|disable) keys|force|alter (?:index|constraint)\b.*|(?:order by|nowait|wait)\b.*"
    r"|alter (?:column )?\S+ (?:set default|drop default)\b.*"
)
"""What `alter table` may do, beside adding and dropping columns, without a row reading differently."""

ADDED = re.compile(r"add (?:column )?(?:if not exists )?(?!\()(\S+) (.*)")
DROPPED = re.compile(r"drop (?:column )?(?:if exists )?(\S+)(?: restrict| cascade)?")
FILLED = re.compile(r"\b(?:not null|default|auto_increment|generated|as|primary key|serial|unique key)\b")


@dataclass(frozen=True)
class Effect:
    """What a statement does to a captured table, named by its contract: it empties it, or why it has to be copied."""

    contract: str
    why: str = ""

    @property
    def truncates(self) -> bool:
        """Whether all its rows are gone, and nothing else."""
        return not self.why


def effect(  # noqa: PLR0911 - one rule, one line
    sql: str, schema: str, captured: Mapping[tuple[str, str], str]
) -> Effect | None:
    """Return what a statement in the log does to a captured table, None if it does nothing to any.

    Args:
        sql: the statement.
        schema: the default database of the session that ran it.
        captured: the contracts' names by schema and table.
    """
    tokens = [token for token in TOKEN.findall(sql) if not COMMENT.match(token)]
    words = [token if token[0] in "`'\"" else token.lower() for token in tokens]
    line = " ".join(words)
    if words[:2] == ["xa", "commit"]:
        return Effect("", "a distributed transaction (XA) was committed, whose changes the log has elsewhere")
    if line in ("begin", "commit", "rollback", "") or words[0] == "xa" or HARMLESS.match(line):
        return None
    named = _named(tokens, schema, captured)
    if not named:
        if words[:2] in (["drop", "database"], ["drop", "schema"]) and any(
            _bare(words[-1]) == one for one, _ in captured
        ):
            return Effect("", f"database {_bare(words[-1])} was dropped")
        return None
    contract = named[0]
    if words[0] == "truncate":
        return Effect(contract)
    if words[:2] == ["alter", "table"] and not (unknown := _unknown_clause(words)):
        return None
    what = f"`{unknown}`" if words[:2] == ["alter", "table"] and unknown else f"`{' '.join(words[:2])}`"
    return Effect(
        contract, f"table {contract} was altered at the source so that rows differ and no change says so: {what}"
    )


def _bare(token: str) -> str:
    return token[1:-1].replace("``", "`") if token[0] == "`" else token


def _named(tokens: list[str], schema: str, captured: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the captured tables that a statement names, first those named first; case decides nothing here."""
    known = {(one.lower(), name.lower()): contract for (one, name), contract in captured.items()}
    found: list[str] = []
    for place, token in enumerate(tokens):
        name = _bare(token).lower()
        given = _bare(tokens[place - 2]).lower() if place > 1 and tokens[place - 1] == "." else schema.lower()
        contract = known.get((given, name))
        if contract and contract not in found:
            found.append(contract)
    return found


def _unknown_clause(words: list[str]) -> str:
    """Return the first clause of an `alter table` that is not known to leave the rows as they are, or ''."""
    at = 2
    if words[at : at + 2] == ["if", "exists"]:
        at += 2
    at += 3 if words[at + 1 : at + 2] == ["."] else 1
    clauses: list[list[str]] = [[]]
    depth = 0
    for word in words[at:]:
        depth += (word == "(") - (word == ")")
        if word == "," and not depth:
            clauses.append([])
        elif word != ";":
            clauses[-1].append(word)
    for clause in clauses:
        text = " ".join(word for word in clause)
        if text and not _leaves_rows(text):
            return " ".join(clause[:3])
    return ""


def _leaves_rows(clause: str) -> bool:
    if CLAUSE.fullmatch(clause):
        return True
    if found := ADDED.fullmatch(clause):
        plain = re.sub(r"'(?:[^'\\]|''|\\.)*'|\"(?:[^\"\\]|\"\"|\\.)*\"|`(?:[^`]|``)*`", "", found[2])
        kind = plain.split(" ", 1)[0]
        if kind == "timestamp" and not re.search(r"(?<!not )null\b", plain):
            return False  # it would not be null, and filled with the time of the statement
        return not FILLED.search(plain.replace("default null", ""))
    return DROPPED.fullmatch(clause) is not None
