"""The sample retailer's systems, if this checkout has the sample retailer."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from warehouse.errors import GranaryError
from warehouse.settings import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from warehouse.settings import Settings


def retailer() -> ModuleType:
    """Return the sample retailer.

    Raises:
        GranaryError: demo/ was deleted.
    """
    try:
        from demo import retailer as found
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] != "demo":
            raise
        raise GranaryError("the sample retailer is not here", str(PROJECT / "demo"), "restore demo/") from None
    return found


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Serve the sample retailer's API for as long as this is open, if it is open here and no other address is set."""
    try:
        shop = retailer()
    except GranaryError:
        yield
        return
    if not shop.is_open(settings) or os.environ.get(shop.URL):
        yield
        return
    with shop.systems(settings):
        yield
