"""The embedded server's files: made anew, and of which major version of Postgres they are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import OWNER

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.layout import Layout

BUILDING, WHOLE = "data.new", "granary_upgraded"
"""A cluster before it is in its place, and the file in it that says that an upgrade has put everything there."""


def initdb(layout: Layout, *options: str, auth: str = "peer") -> Path:
    """Make an empty cluster beside the place of the server's own; return its folder."""
    building = layout.root / BUILDING
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    layout.give(building)
    layout.command(
        "initdb",
        f"--pgdata={building}",
        f"--username={OWNER}",
        f"--auth={auth}",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        *options,
    )
    return building


def is_whole(layout: Layout) -> bool:
    """Return whether an upgrade to another major version has made a cluster that is not in its place yet."""
    return (layout.root / BUILDING / WHOLE).exists()


def version_of(layout: Layout) -> int:
    """Return the major version of a Postgres."""
    said = layout.command("postgres", "--version").stdout
    return int(said.split()[-1].partition(".")[0])


def version_there(layout: Layout) -> int | None:
    """Return the major version that a home's data are of; None where there are none."""
    try:
        return int((layout.data / "PG_VERSION").read_text())
    except OSError:
        return None


def refuse_other_version(layout: Layout) -> None:
    """Refuse data of another major version than the server's.

    Raises:
        GranaryError: they are, or an upgrade of them was ended before its end.
    """
    there, ours = version_there(layout), version_of(layout)
    if there not in (None, ours) or is_whole(layout):
        raise GranaryError(
            f"the warehouse is of Postgres {there or 'an earlier version'}, and this engine has {ours}",
            str(layout.data),
            "`granary upgrade-postgres --from DIR`, DIR being the .venv of the engine that made it",
        )
