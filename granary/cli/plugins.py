"""Plug-ins of the command: packages of a project that add commands, or systems that loads have to reach.

A plug-in is a module under the entry point `granary.plugins` of an installed distribution. It may have
`register(app)`, which adds its commands, and `reachable(settings)`, a context in which its systems answer.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from granary.warehouse.project import project_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import typer

    from granary.warehouse.settings import Settings

GROUP = "granary.plugins"


@cache
def plugins() -> tuple[ModuleType, ...]:
    """Return the plug-ins that this project has; one whose package was deleted is none."""
    named = sorted({entry.value for entry in entry_points(group=GROUP)})
    return tuple(module for name in named if (module := project_module(name)) is not None)


def register(app: typer.Typer) -> None:
    """Put the commands of the plug-ins into the command."""
    for plugin in plugins():
        if add := getattr(plugin, "register", None):
            add(app)


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Have the systems of the plug-ins answer for as long as this is open."""
    with ExitStack() as stack:
        for plugin in plugins():
            if hasattr(plugin, "reachable"):
                stack.enter_context(plugin.reachable(settings))
        yield
