"""Takes the sample out of a clone: its systems, models, pages, tests and documents go, an empty project comes.

It is one commit, made beside the clone and taken over at the end: whatever happens before that changes nothing.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from granary.scaffold import new_project
from granary.scaffold.git import commit, git
from granary.warehouse.errors import GranaryError, UsageError

if TYPE_CHECKING:
    from datetime import date

GONE = (
    "bench", "dashboards", "demo", "docs/guide", "docs/images", "docs/marts", "ingestion", "models", "orchestration",
    "seeds", "snapshots", "tests/dbt", "tests/python/demo", "tests/python/project",
)  # fmt: skip
"""Folders that are the sample's."""
GONE_FILES = (
    "docs/analysts.md", "docs/data-dictionary.md", "docs/glossary.md", "docs/metrics.md", "docs/quirks.md",
    "macros/retailer_week.sql",
)  # fmt: skip
COME = re.compile(
    r"(dashboards|ingestion|macros|models|orchestration)/.*|README\.md|dbt_project\.yml|selectors\.yml|tests/.*"
)
"""Files of a new project that a clone takes; the others it has itself."""


def remove(root: Path, name: str, time_zone: str, first_date: date) -> str:
    """Commit a state of the clone without the sample; return the commit.

    Raises:
        GranaryError: it is not a clone, something is not committed, or git fails; the clone is as it was.
        UsageError: the name cannot be a project's.
    """
    new_project.check_name(name)
    if not (root / ".git").exists() or not (root / "demo").is_dir():
        raise GranaryError("this is not a clone with the sample", str(root), "run this at the root of one")
    if changes := git(root, "status", "--porcelain").splitlines():
        what = f"{len(changes)} file{' is' if len(changes) == 1 else 's are'} not committed: {changes[0][3:]}"
        raise GranaryError(what, str(root), "commit or stash them first, so that nothing of yours is lost")
    if name == "grocer":
        raise UsageError("the sample's own name cannot be the project's", todo="give another one with --name")
    with tempfile.TemporaryDirectory(prefix="granary-") as folder:
        beside = Path(folder) / "clone"
        git(root, "worktree", "add", "--quiet", "--detach", str(beside), "HEAD")
        try:
            _exchange(beside, name, time_zone, first_date)
            commit(beside, f"Take the sample out and begin {name}, as `granary remove-sample` does")
            made = git(beside, "rev-parse", "HEAD").strip()
        finally:
            git(root, "worktree", "remove", "--force", str(beside))
    git(root, "merge", "--quiet", "--ff-only", made)
    _forget_caches(root)
    return made


def _exchange(root: Path, name: str, time_zone: str, first_date: date) -> None:
    for folder in GONE:
        shutil.rmtree(root / folder, ignore_errors=True)
    for file in GONE_FILES:
        (root / file).unlink(missing_ok=True)
    project = new_project.NewProject(root, name, time_zone, first_date, engine="")
    for place, (content, mode) in new_project.files(project).items():
        if COME.fullmatch(place):
            path = root / re.sub(r"^tests/", "tests/python/project/", place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(mode)
    (root / "tests/python/project/__init__.py").write_text('"""Tests of this project."""\n')
    readme = root / "README.md"
    here = "The engine is the folder `granary/`; everything else is yours."
    readme.write_text(re.sub(r"The engine is the package.*?\n\n", f"{here}\n\n", readme.read_text(), flags=re.DOTALL))
    index = root / "docs/README.md"
    index.write_text("".join(line for line in index.read_text().splitlines(keepends=True) if _leads(line, root)))


def _leads(line: str, root: Path) -> bool:
    """Return whether every document that a line of the index links to is there."""
    links = re.findall(r"\]\(([^)#:]+)", line)
    return all((root / "docs" / link).exists() for link in links)


def _forget_caches(root: Path) -> None:
    """Remove folders that only have what Python compiled of modules that are gone: they would look like packages."""
    for folder in GONE:
        left = [path for path in (root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        if not left:
            shutil.rmtree(root / folder, ignore_errors=True)
