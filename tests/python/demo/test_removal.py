"""`granary remove-sample` in a clone: one commit after which it is an empty project that works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = "from granary.cli.main import main; main()"
WORDS = re.compile(r"household|retailer|grocer|basket|coupon|campaign|crm\b|\bpos\b|new_york|2017", re.IGNORECASE)
OWN = ("dashboards", "ingestion", "macros", "models", "orchestration", "tests/dbt", "tests/python/project")
"""What a team owns of a clone."""


class Clone:
    """A clone of the project as it is here, with a warehouse in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRANARY", "PG", "DBT"))}
        environment = kept | {
            "PYTHONPATH": str(self.folder),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def granary(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-c", COMMAND, *arguments, check=check)

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments).stdout


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    """A clone in /tmp, open to the server's user, with a short path."""
    base = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))
    base.chmod(0o755)
    found = Clone(base / "bakery")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (PROJECT / name).is_file():
            (found.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, found.folder / name)
    found.git("init", "--quiet")
    found.git("add", "--all")
    found.git("commit", "--quiet", "--message", "As it is")
    try:
        yield found
    finally:
        found.granary("down", check=False)
        shutil.rmtree(base, ignore_errors=True)


def test_it_refuses_with_uncommitted_changes_and_names_that_cannot_be(clone: Clone) -> None:
    mine = clone.folder / "models/marts/mine.sql"
    mine.write_text("select 1 as one\n")
    done = clone.granary("remove-sample", check=False)
    assert done.returncode == 1
    assert "1 file is not committed: models/marts/mine.sql" in done.stderr
    mine.unlink()
    done = clone.granary("remove-sample", "--name", "my-bakery", check=False)
    assert done.returncode == 2
    assert "'my-bakery' cannot be the name of a project" in done.stderr
    assert clone.git("status", "--short") == ""
    assert clone.git("log", "--format=%s") == "As it is\n"


def test_it_leaves_one_commit_and_nothing_of_the_sample(clone: Clone) -> None:
    said = clone.granary("remove-sample").stdout
    subjects = clone.git("log", "--format=%s").splitlines()
    assert subjects == ["Take the sample out and begin bakery, as `granary remove-sample` does", "As it is"]
    assert f"in commit {clone.git('rev-parse', 'HEAD')[:7]}" in said
    assert clone.git("status", "--short") == ""
    assert not (clone.folder / "demo").exists()
    there = [path for name in OWN for path in (clone.folder / name).rglob("*")]
    owned = [path for path in there if path.is_file() and path.suffix != ".pyc"]
    owned += [clone.folder / name for name in ("README.md", "dbt_project.yml", "selectors.yml")]
    assert {path.name for path in owned} >= {"dim_date.sql", "definitions.py", "test_project.py", "dbt_project.yml"}
    assert {str(path): words for path in owned if (words := WORDS.findall(path.read_text()))} == {}
    index = (clone.folder / "docs/README.md").read_text()
    links = re.findall(r"\]\(([^)#:]+)", index)
    assert "first-project.md" in links
    assert [link for link in links if not (clone.folder / "docs" / link).exists()] == []


def test_what_is_left_is_a_project_that_works(clone: Clone) -> None:
    deliveries = clone.folder.parent / "deliveries"
    deliveries.mkdir()
    (deliveries / "ovens.csv").write_text("oven_id,built_on,kilowatt\n1,2026-02-03,9.5\n2,2026-02-04,12.0\n")
    clone.run(sys.executable, "-m", "granary.setup.dbt_packages")
    clone.granary("add-source", "kitchen", str(deliveries))
    clone.granary("add-mart", "fct_ovens", "--from", "stg_kitchen__ovens", "--grain", "oven_id")
    clone.granary("run")
    done = clone.granary("psql", "--csv", "--tuples-only", "--command", "select sum(kilowatt) from marts.fct_ovens")
    assert done.stdout == "21.50\n"
    clone.granary("dashboard", "--export", str(clone.folder.parent / "pages"))
    clone.run(sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/python/project")
    clone.run(sys.executable, "-m", "ruff", "check", *("dashboards", "ingestion", "orchestration"))
    clone.run(sys.executable, "-m", "sqlfluff", "lint", "models", "macros", "tests/dbt")
    clone.run(sys.executable, "-m", "yamllint", "--strict", ".")
