"""The contracts as files, `contracts/<mart>.odcs.yaml`: written, compared with the project, and judged."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import yaml

from granary.contracts.changes import FIRST, Change, custom, differences, ended, judged, next_version
from granary.contracts.document import document, marts
from granary.contracts.users import users
from granary.scaffold.dbt import dump
from granary.warehouse.errors import GranaryError, unknown
from granary.warehouse.project import PROJECT, project_vars

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from granary.contracts.changes import Kind
    from granary.contracts.users import User
    from granary.warehouse.connection import Connection

    Document = dict[str, Any]

FOLDER, SUFFIX = "contracts", ".odcs.yaml"
HISTORY = "changes"
"""The custom property in which a contract keeps how it became what it is, newest first."""
KEPT = 20
"""Entries of that history which are kept."""
NOTICE = 30
"""Days from the word that something will go to the last day on which it is there, unless the var says otherwise."""
NOTICE_VAR = "contract_notice_days"


@dataclass(frozen=True)
class Verdict:
    """A mart whose contract on file is not what the project says now."""

    mart: str
    kind: Kind
    version: str
    """The version on file; '' for a mart without a contract."""
    becomes: str
    """The version that `granary contracts write` gives it; '' for a mart that is gone."""
    changes: tuple[Change, ...]
    users: tuple[User, ...]
    """Who reads what breaks; of other changes nobody is listed."""

    @property
    def breaks(self) -> bool:
        """Whether it breaks a promise that is still to be kept."""
        return any(change.kind == "breaking" and not change.is_due(today()) for change in self.changes)


def today() -> date:
    """Return the day, in UTC, by which promises are judged."""
    return datetime.now(timezone.utc).date()


def on_file() -> dict[str, Document]:
    """Return the contracts of the project by mart.

    Raises:
        GranaryError: a file is no contract of a mart.
    """
    folder = PROJECT / FOLDER
    files = sorted(folder.glob(f"*{SUFFIX}"))
    return {path.name.removesuffix(SUFFIX): _parsed(path.read_text(encoding="utf-8"), path.name) for path in files}


def at(reference: str) -> dict[str, Document]:
    """Return the contracts of an earlier state of the project in git, by mart.

    Raises:
        GranaryError: git knows no such state, or a file there is no contract.
    """
    if reference.startswith("-"):
        raise GranaryError(f"{reference!r} is no state of the project", todo="name a commit, a branch or a tag")
    listed = _git("ls-tree", "--name-only", "-r", "-z", reference, "--", FOLDER)
    found = [name for name in listed.split("\0") if name.endswith(SUFFIX)]
    return {
        name.rpartition("/")[2].removesuffix(SUFFIX): _parsed(_git("show", f"{reference}:./{name}"), name)
        for name in found
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        said = " ".join(done.stderr.split())[:200]
        raise GranaryError(f"git: {said}", str(PROJECT), "name a commit, a branch or a tag that is here")
    return done.stdout


def _parsed(text: str, name: str) -> Document:
    try:
        found = yaml.safe_load(text)
        [int(part) for part in found["version"].split(".")]
        found["schema"][0]["properties"]
    except (yaml.YAMLError, KeyError, TypeError, IndexError, ValueError, AttributeError):
        todo = "take it from the project's history, or remove it and run `granary contracts write`"
        raise GranaryError("this is no contract of a mart", f"{FOLDER}/{name.rpartition('/')[2]}", todo) from None
    return dict(found)


def judge(
    manifest: Mapping[str, Any],
    before: Mapping[str, Document],
    chosen: Collection[str] = (),
    database: Connection | None = None,
) -> list[Verdict]:
    """Return the marts whose contract is to change, with what changes for whom.

    Args:
        manifest: dbt's.
        before: the contracts that were given: those on file, or those of an earlier state.
        chosen: marts to look at; none of them means all.
        database: the warehouse, to look for people's views; None where it is down.

    Raises:
        UsageError: there is no such mart.
    """
    now = {name: document(manifest, node) for name, node in marts(manifest).items()}
    for name in chosen:
        if name not in now.keys() | before.keys():
            raise unknown("mart", name, now)
    verdicts = []
    for name in sorted(now.keys() | before.keys()):
        if chosen and name not in chosen:
            continue
        changes = _changes(before.get(name), now.get(name))
        if not changes:
            continue
        kind, version = judged(changes), before[name]["version"] if name in before else ""
        becomes = "" if name not in now else next_version(version, kind) if version else FIRST
        broken = [change for change in changes if change.kind == "breaking"]
        hit = {user: None for change in broken for user in users(manifest, name, change.column, database)}
        verdicts.append(Verdict(name, kind, version, becomes, tuple(changes), tuple(hit)))
    return verdicts


def _changes(old: Document | None, new: Document | None) -> list[Change]:
    if old is None:
        return [Change("additive", "the mart is new")]
    return [ended(old)] if new is None else differences(old, new)


def texts(manifest: Mapping[str, Any], verdicts: Iterable[Verdict], reason: str = "") -> dict[str, str | None]:
    """Return what is to be written: path below the project -> content, or None for a file that goes.

    Args:
        manifest: dbt's.
        verdicts: what `judge` found against the files.
        reason: why promises are broken before their time; '' where none may be.

    Raises:
        GranaryError: a promise would be broken, or something is to go sooner than after the notice that readers have.
    """
    verdicts = list(verdicts)
    if not reason:
        _refuse(verdicts)
    before, nodes = on_file(), marts(manifest)
    made: dict[str, str | None] = {}
    for verdict in verdicts:
        path = f"{FOLDER}/{verdict.mart}{SUFFIX}"
        if not verdict.becomes:
            made[path] = None
            continue
        entry: dict[str, Any] = {"version": verdict.becomes, "date": today().isoformat(), "kind": verdict.kind}
        entry |= {"what": [change.what for change in verdict.changes]}
        if verdict.breaks:
            entry["reason"] = reason
        past = custom(before.get(verdict.mart, {})).get(HISTORY) or []
        new = document(manifest, nodes[verdict.mart]) | {"version": verdict.becomes}
        made[path] = dump(new | {"customProperties": [{"property": HISTORY, "value": [entry, *past][:KEPT]}]})
    return made


def _refuse(verdicts: Iterable[Verdict]) -> None:
    breaks = [verdict for verdict in verdicts if verdict.breaks]
    if breaks:
        first = next(c for c in breaks[0].changes if c.kind == "breaking" and not c.is_due(today()))
        more = f" (and {len(breaks) - 1} marts more)" if len(breaks) > 1 else ""
        raise GranaryError(
            f"{breaks[0].mart} would break what it promises: {first.what}{more}",
            f"{FOLDER}/{breaks[0].mart}{SUFFIX}",
            "announce it first (a column's meta.deprecated, a model's deprecation_date), or say why it cannot wait:"
            " --breaking REASON",
        )
    days = int(project_vars().get(NOTICE_VAR, NOTICE))
    for verdict in verdicts:
        for change in verdict.changes:
            if change.announces is not None and change.announces < today() + timedelta(days=days):
                raise GranaryError(
                    f"{verdict.mart}: {change.what}, and readers have {days} days' notice",
                    f"{FOLDER}/{verdict.mart}{SUFFIX}",
                    f"give {today() + timedelta(days=days)} or later, or say why it cannot wait: --breaking REASON",
                )


def says_so(verdict: Verdict, file: Document | None) -> bool:
    """Return whether the contract on file admits that it breaks what an earlier version promised."""
    if file is None:
        return False
    return int(file["version"].split(".")[0]) > int(verdict.version.split(".")[0])
