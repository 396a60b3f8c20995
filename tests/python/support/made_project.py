"""A new project as `granary init` makes one, on the engine of this repository, with a warehouse of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from granary.scaffold import new_project
from granary.warehouse.connection import connect, execute, query
from tests.python.support import warm
from tests.python.support.business import REPOSITORY
from tests.python.support.command import GRANARY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from granary.warehouse.settings import Settings


@dataclass
class MadeProject:
    """A new project, with a warehouse of its own. `more` are variables of its processes."""

    folder: Path
    settings: Settings
    more: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's folder."""
        here = {"GRANARY_PROJECT": str(self.folder), "PYTHONPATH": f"{self.folder}:{REPOSITORY}"}
        environment = self.settings.environment() | here | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(self.more)
        if command[0] == "-c":
            return warm.run(*command[1:], folder=self.folder, environment=environment)
        return subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def granary(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return self.run("-c", GRANARY, *arguments)

    def dbt(self, *arguments: str) -> dict[str, str]:
        """Run dbt, and return the status of each node by its name."""
        done = self.run("-c", "from dbt.cli.main import cli; cli()", *arguments)
        results = json.loads((self.folder / "target" / "run_results.json").read_text())["results"]
        assert results, done.stdout[-2000:] + done.stderr[-2000:]
        names = {result["unique_id"].split(".")[2]: result["status"] for result in results}
        return {name: status for name, status in names.items() if not name.startswith("granary-on-run-")}

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on its warehouse, and return what the last one answers."""
        with connect(self.settings, autocommit=True) as connection:
            for statement in statements[:-1]:
                execute(connection, statement)
            return query(connection, statements[-1])


def make(folder: Path, settings: Settings, name: str, first_date: date) -> MadeProject:
    """Write a new project into a folder."""
    project = new_project.NewProject(folder, name, "Europe/Berlin", first_date, "no engine: it is this one")
    for path, (content, _) in new_project.files(project).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    for link, target in (
        (".venv/granary", "granary"),
        ("dbt_packages/granary", "granary/dbt_package"),
        ("dbt_packages/dbt_utils", "dbt_packages/dbt_utils"),
    ):
        (folder / link).parent.mkdir(exist_ok=True)
        (folder / link).symlink_to((REPOSITORY / target).resolve())
    return MadeProject(folder, settings)
