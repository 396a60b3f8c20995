"""What changed in the template of projects since a project was made of it, file by file.

A project remembers in `.granary-project.json` what was decided about it and the text of each file as the template had
it. With the template of the engine that is installed now and the project's own file, that makes three versions to
merge. Nobody's edit is ever overwritten: `apply` writes files only that are as the template had them.
"""

from __future__ import annotations

import difflib
import json
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError
from granary.warehouse.migrate import engine_version, is_newer

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORD = ".granary-project.json"
FORMAT = 1

UNEDITED, EDITED, CONFLICT, REMOVED = "unedited", "edited", "conflict", "removed"


@dataclass(frozen=True)
class Record:
    """What a project remembers of the template that it was made of."""

    engine: str
    """The version of the engine whose template it is."""
    answers: Mapping[str, str]
    """What was decided about the project: its name, time zone and first business date."""
    files: Mapping[str, str]
    """Each file of the template, as it was rendered for this project."""

    def text(self) -> str:
        """Return what is written to the project."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Change:
    """A file in which the template of the engine differs from the one that the project remembers."""

    path: str
    state: str
    """`unedited`: as the template had it; `edited`: both changed, apart from each other; `conflict`: both changed the
    same lines; `removed`: it was deleted in the project."""
    diff: str
    """What would have to change in the project's file, as a unified diff; where both conflict, both are in it."""
    text: str | None
    """What the template of the engine has; None where it has no such file any more."""


def read(project: Path) -> Record | None:
    """Return what a project remembers; None for one that `granary init` has not made.

    Raises:
        GranaryError: its record cannot be read, or is one of a newer engine.
    """
    path = project / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format") == FORMAT:
            record = Record(**found)
            if is_newer(record.engine, engine_version()):
                raise _unknown(f"the project is of engine {record.engine}", path)
            return record
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        todo = f"take it from the project's history: git checkout -- {RECORD}"
        raise GranaryError("the project's record of its template cannot be read", str(path), todo) from None
    raise _unknown("the project's record is in another format", path)


def _unknown(why: str, path: Path) -> GranaryError:
    return GranaryError(
        f"the project is of an unknown or newer version: {why}, and this is engine {engine_version()}",
        str(path),
        "install the engine that the project pins, or a newer one",
    )


def changes(project: Path, record: Record, template: Mapping[str, str]) -> list[Change]:
    """Return the files in which the template changed and the project has not followed.

    Args:
        project: the project's folder.
        record: what it remembers.
        template: path -> text, as the installed engine renders it with the project's answers.
    """
    found = []
    for path in sorted({*record.files, *template}):
        before, after, own = record.files.get(path), template.get(path), _read(project / path)
        if after in (before, own):
            continue
        if own is None:
            found.append(Change(path, REMOVED if before is not None else UNEDITED, _diff(path, None, after), after))
        elif own == before:
            found.append(Change(path, UNEDITED, _diff(path, own, after), after))
        elif after is not None:  # otherwise the file is the project's own from now on
            merged, conflicts = _merge(own, before or "", after)
            if merged != own:
                found.append(Change(path, CONFLICT if conflicts else EDITED, _diff(path, own, merged), after))
    return found


def apply(project: Path, record: Record, template: Mapping[str, str], found: list[Change]) -> list[Change]:
    """Write the files that are unedited, remember what the project has followed, and return what is left.

    May be killed at any time and run again: each file is there as a whole, and the record is written last.

    Raises:
        GranaryError: a file cannot be written.
    """
    left = [change for change in found if change.state in (EDITED, CONFLICT)]
    try:
        for change in found:
            if change.state == UNEDITED:
                _write(project / change.path, change.text)
        kept = {change.path: record.files[change.path] for change in left if change.path in record.files}
        new = {path: text for path, text in template.items() if path not in {change.path for change in left}}
        _write(project / RECORD, replace(record, engine=engine_version(), files=new | kept).text())
    except OSError as error:
        todo = "make it writable and run this again"
        raise GranaryError(f"a file cannot be written: {error.strerror}", str(error.filename), todo) from None
    return left


def refuse_uncommitted(project: Path) -> None:
    """See that what is about to change can be taken back.

    Raises:
        GranaryError: the project has changes that are not committed, or is not a git repository.
    """
    git = shutil.which("git")
    done = git and subprocess.run(
        [git, "status", "--porcelain", "--", "."], cwd=project, capture_output=True, text=True, check=False
    )
    if not done or done.returncode:
        raise GranaryError(
            "this is not a git repository", str(project), "commit the project, so that --apply can be undone"
        )
    if done.stdout.strip():
        names = ", ".join(line[3:] for line in done.stdout.splitlines()[:3])
        todo = "commit or stash them, and run this again"
        raise GranaryError(f"the project has uncommitted changes: {names}", str(project), todo)


def _merge(own: str, before: str, after: str) -> tuple[str, bool]:
    """Return the project's file with the template's changes, and whether they conflict."""
    git = shutil.which("git")
    if git is None:
        raise GranaryError("git is not installed", todo="install it: it merges the template's changes")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("own", own), ("before", before), ("after", after)):
            (Path(folder) / name).write_text(text, encoding="utf-8", newline="")
        labels = ("-L", "yours", "-L", "template, before", "-L", f"template, engine {engine_version()}")
        done = subprocess.run(
            [git, "merge-file", "-p", *labels, "own", "before", "after"], cwd=folder, capture_output=True, check=False
        )
    if done.returncode < 0 or done.returncode > 127:  # noqa: PLR2004 - below it is the number of conflicts
        raise GranaryError(f"git cannot merge: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.stdout.decode(), done.returncode > 0


def _diff(path: str, own: str | None, wanted: str | None) -> str:
    """Return a unified diff, as `git apply` takes it."""
    names = ("/dev/null" if own is None else f"a/{path}", "/dev/null" if wanted is None else f"b/{path}")
    lines = difflib.unified_diff((own or "").splitlines(True), (wanted or "").splitlines(True), *names)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise GranaryError(f"a file cannot be read: {error}", str(path), "restore it from git") from None


def _write(path: Path, text: str | None) -> None:
    """Write a file as a whole, or delete it."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode if path.exists() else 0o755 if text.startswith("#!") else 0o644
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(mode)
    fresh.replace(path)
