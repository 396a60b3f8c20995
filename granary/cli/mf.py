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

from granary.dbt import manifest
from granary.dbt.semantic import MANIFEST, on_published
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings, spell_out_service


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
    fresh.write_text(json.dumps(on_published(made)))
    fresh.replace(wanted)


def main() -> None:
    """Run mf on this project, from any folder."""
    stand_in()
    os.environ.setdefault("DBT_PROJECT_DIR", str(PROJECT))
    os.environ.setdefault("DBT_PROFILES_DIR", str(PROJECT))
    try:
        spell_out_service()
        prepare(Settings.load())
    except GranaryError as error:
        sys.exit(str(error))
    os.environ.setdefault("GRANARY_ROLE", "analyst")  # see profiles.yml
    from dbt_metricflow.cli.main import cli

    import dbt_granary

    dbt_granary.install()
    cli(prog_name="mf")
