"""`mf`, the command of MetricFlow, as the project runs it: nothing calls out, and the metrics are those of now.

dbt-metricflow 0.15 asks PyPI for a newer version at every start, and no setting turns that off; the library that it
asks with (update-checker) moreover unpickles a file in /tmp that anybody may have written. Its spinner (halo) is
no wheel and would have to be built. Neither is installed: what stands in for them is here.
"""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import Any

from granary.dbt import manifest, manifest_nodes
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings

MANIFEST = "semantic_manifest.json"


class UpdateChecker:
    """Stands in for `update_checker.UpdateChecker`: nothing is ever newer."""

    def check(self, _package: str, _version: str) -> None:
        """Return that there is nothing new."""


class Halo:
    """Stands in for `halo.Halo`: nothing turns; only what failed is said, on stderr."""

    def __init__(self, text: str = "", spinner: str = "") -> None:
        """Take what mf would show."""

    def start(self) -> None:
        """Begin."""

    def succeed(self, _text: str) -> None:
        """End."""

    def fail(self, text: str) -> None:
        """Say what failed."""
        print(text, file=sys.stderr)


def stand_in() -> None:
    """Let dbt-metricflow find the two classes where it looks for those that are not installed."""
    for name, stand_in in (("update_checker", UpdateChecker), ("halo", Halo)):
        module = ModuleType(name)
        setattr(module, stand_in.__name__, stand_in)
        sys.modules[name] = module


def prepare(settings: Settings) -> None:
    """Put the metrics as they are defined now, on the published marts, where mf looks for them, in `target/`.

    Raises:
        GranaryError: dbt cannot parse the project.
    """
    made = manifest.prepare(settings).with_name(MANIFEST)
    wanted = PROJECT / "target" / MANIFEST
    wanted.parent.mkdir(exist_ok=True)
    fresh = wanted.with_suffix(".new")
    fresh.write_text(json.dumps(json.loads(made.read_text(), object_hook=published)))
    fresh.replace(wanted)


def published(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the definitions, with a relation that dbt builds as the one that readers see."""
    if "relation_name" not in part or not str(part["schema_name"]).endswith(manifest_nodes.BUILT):
        return part
    names = part | {"schema_name": manifest_nodes.published_schema({"schema": part["schema_name"]})}
    return names | {"relation_name": ".".join(f'"{names[key]}"' for key in ("database", "schema_name", "alias"))}


def main() -> None:
    """Run mf on this project, from any folder."""
    stand_in()
    os.environ.setdefault("DBT_PROJECT_DIR", str(PROJECT))
    os.environ.setdefault("DBT_PROFILES_DIR", str(PROJECT))
    try:
        prepare(Settings.load())
    except GranaryError as error:
        sys.exit(str(error))
    from dbt_metricflow.cli.main import cli

    import dbt_granary

    dbt_granary.install()
    cli(prog_name="mf")
