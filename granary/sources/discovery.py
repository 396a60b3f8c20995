"""The systems that the project reads: one module each in ingestion/, with its tables, keys, cursors and contracts.

A module that cannot be imported, or whose contract is wrong, costs its own source only: it is in `BROKEN`, with the
error that says why, and whatever is about that source raises it.
"""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules
from traceback import walk_tb
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from granary.sources.spec import Source
from granary.sources.validation import in_words
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT, project_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Spec = TypeVar("Spec")

PACKAGE = "ingestion"
"""The project's package with its sources."""


def collect(package: str, folders: Iterable[str]) -> tuple[dict[str, Source], dict[str, GranaryError]]:
    """Return the SOURCE of each module of a package, in order of the modules' names, and the errors of the others."""
    return specs(package, folders, _source, "source", "sources")


def specs(
    package: str, folders: Iterable[str], read: Callable[[str, str], Spec], kind: str, kinds: str
) -> tuple[dict[str, Spec], dict[str, GranaryError]]:
    """Return what each module of a package declares, in order of the modules' names, and the errors of the others.

    Args:
        package: its name.
        folders: where its modules are.
        read: returns what a module declares, given the package and the module's name.
        kind: what a message calls that, and
        kinds: several of them.
    """
    found: dict[str, Spec] = {}
    broken: dict[str, GranaryError] = {}
    for module in sorted(iter_modules(folders), key=lambda module: module.name):
        try:
            found[module.name] = read(package, module.name)
        except (Exception, SystemExit) as error:
            place = Path(getattr(module.module_finder, "path", "")) / f"{module.name}.py"
            broken[module.name] = GranaryError(
                f"{kind} {module.name} cannot be used: {in_words(error)}",
                _where(error, place),
                f"correct its module; other {kinds} are not affected",
            )
    return found, broken


def _source(package: str, name: str) -> Source:
    source = getattr(project_module(f"{package}.{name}"), "SOURCE", None)
    if not isinstance(source, Source):
        raise ValueError("the module has no SOURCE")
    if source.name != name:
        raise ValueError(f"source {source.name!r} has to be in {source.name}.py, and not in {name}.py")
    return source


def _where(error: BaseException, place: Path) -> str:
    """Return the file and, if it is known, the line at fault."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    lines = [line for frame, line in walk_tb(error.__traceback__) if Path(frame.f_code.co_filename) == place]
    return f"{place}, line {lines[-1]}" if lines else str(place)


_found, _broken = collect(PACKAGE, [str(PROJECT / PACKAGE)])
SOURCES: Mapping[str, Source] = MappingProxyType(_found)
BROKEN: Mapping[str, GranaryError] = MappingProxyType(_broken)
"""The sources whose modules cannot be used, and why."""
