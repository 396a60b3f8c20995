"""Modules that look like others for as long as something is imported that would take them, and does not need them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def missing(name: str) -> Iterator[None]:
    """Have a module look as if it were not installed."""
    with _standing_in(name, None):
        yield


@contextmanager
def empty(name: str) -> Iterator[None]:
    """Have a module be there without what it imports, if it is not yet: of a package only its modules."""
    module = sys.modules.get(name)
    if module is None:
        module = ModuleType(name)
        spec = find_spec(name)
        module.__path__ = list(spec.submodule_search_locations or ()) if spec else []
    with _standing_in(name, module):
        yield


@contextmanager
def _standing_in(name: str, module: ModuleType | None) -> Iterator[None]:
    before = sys.modules.get(name)
    sys.modules[name] = module  # type: ignore[assignment] # documented: to import None raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
