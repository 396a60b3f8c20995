"""The deliveries of the project: one module each in `deliveries/`. A module at fault costs its own delivery only."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from granary.deliver.spec import Delivery
from granary.sources.discovery import specs
from granary.warehouse.errors import GranaryError, unknown
from granary.warehouse.project import PROJECT, project_module

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = "deliveries"


@cache
def declared() -> tuple[Mapping[str, Delivery], Mapping[str, GranaryError]]:
    """Return the deliveries that can be used, and of the others why not, both by name."""
    return specs(PACKAGE, [str(PROJECT / PACKAGE)], delivery_of, "delivery", PACKAGE)


def delivery_of(package: str, name: str) -> Delivery:
    """Return the DELIVERY of a module.

    Raises:
        ValueError: it has none, or one of another name.
    """
    delivery = getattr(project_module(f"{package}.{name}"), "DELIVERY", None)
    if not isinstance(delivery, Delivery):
        raise ValueError("the module has no DELIVERY")
    if delivery.name != name:
        raise ValueError(f"delivery {delivery.name!r} has to be in {delivery.name}.py, and not in {name}.py")
    return delivery


def find(name: str) -> Delivery:
    """Return a delivery of the project.

    Raises:
        UsageError: there is none of that name.
        GranaryError: its module cannot be used.
    """
    found, broken = declared()
    if name in broken:
        raise broken[name]
    if name not in found:
        raise unknown("delivery", name, found, str(PROJECT / PACKAGE))
    return found[name]
