"""Lists within rows as rows of their own tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from granary.load.json_objects import no_object
from granary.readers.api.pages import NotAgreedError, dig
from granary.readers.api.spec import Api
from granary.sources import validation
from granary.sources.units import Rejected
from granary.warehouse.errors import GranaryError
from granary.warehouse.json_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from granary.sources.spec import Table


class Holder(Protocol):
    """A collection whose rows hold lists."""

    @property
    def path(self) -> str:
        """What `Table.location` says of it."""
        ...


@dataclass(frozen=True)
class Nested:
    """A list in each row of a collection, or a list in each row of that list, as a table.

    Attributes:
        of: the collection whose rows hold the list.
        levels: per level, the list's dotted path and the column for the place in it, from 1. Two levels are a list of
            lists: (("items", "item_number"), ("discounts", "discount_number")).
        keys: columns that each row gets from the row of the collection: (column, its dotted path there). The first
            one is the key of that row.
    """

    of: Holder
    levels: tuple[tuple[str, str], ...]
    keys: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        """Check that the rows can be told apart."""
        validation.check(self, "Nested")
        if not all(map(all, (*self.levels, *self.keys))):
            raise ValueError("Nested: levels and keys have an empty text in them")
        names = [*(place for _, place in self.levels), *(column for column, _ in self.keys)]
        if not self.levels or not self.keys or len(set(names)) != len(names):
            raise ValueError("a nested table needs a list, a key of its parent, and different names for its columns")

    @property
    def path(self) -> str:
        """What `Table.location` says of it: the collection's path, "#", and the paths of the lists."""
        return f"{self.of.path}#{'.'.join(path for path, _ in self.levels)}"

    def rows(self, parent: Any) -> Iterator[Any]:
        """Yield the rows of one parent: objects, or what is `Rejected` because it is not as agreed."""
        if not isinstance(parent, dict):
            yield no_object(parent)
            return
        try:
            inherited = {column: dig(parent, path) for column, path in self.keys}
        except NotAgreedError as missing:
            yield Rejected(str(missing), "is missing in the row that holds the list", shown(parent))
            return
        yield from _unfold(parent, self.levels, inherited)


def check_parts(label: str, api: Any, parts: Sequence[Any], kind: type[Any]) -> None:
    """Check what a reader is made from.

    Raises:
        ValueError: it has no Api, something else than what it reads, or that twice.
    """
    if not isinstance(api, Api):
        raise ValueError(f"{label}: api is Api and not {type(api).__name__}")
    for part in parts:
        if not isinstance(part, (kind, Nested)):
            raise ValueError(f"{label}: what it reads is {kind.__name__} or Nested and not {part!r}")
    paths = [part.path for part in parts]
    if again := next((path for path in paths if paths.count(path) > 1), None):
        raise ValueError(f"{label}: {again} is declared twice")


def _unfold(row: dict[str, Any], levels: Sequence[tuple[str, str]], inherited: dict[str, Any]) -> Iterator[Any]:
    (path, place), deeper = levels[0], levels[1:]
    try:
        members = listed(dig(row, path, None))
    except NotAgreedError as error:
        yield Rejected(path, str(error), shown(inherited | {path: dig(row, path, None)}))
        return
    for number, member in enumerate(members, 1):
        known = inherited | {place: number}
        if not deeper:
            # A list of plain values has one column more than keys and places: value.
            yield (member if isinstance(member, dict) else {"value": member}) | known
        elif isinstance(member, dict):
            yield from _unfold(member, deeper, known)
        else:
            yield Rejected(path, "is not a list of objects", shown(known | {"row": member}))


def listed(value: Any) -> list[Any]:
    """Return the members of a list, or of a GraphQL connection (nodes, or edges with a node).

    Raises:
        NotAgreedError: it is neither, or a connection of which the answer has only the first page.
    """
    if value is None:
        return []
    if isinstance(value, dict) and ("nodes" in value or "edges" in value):
        if dig(value, "pageInfo.hasNextPage", None) is not False:
            raise NotAgreedError("has more rows than the answer, or does not say so (pageInfo.hasNextPage)")
        value = value["nodes"] if "nodes" in value else [dig(edge, "node") for edge in value["edges"] or []]
    if not isinstance(value, list):
        raise NotAgreedError("is not a list")
    return value


Collection = TypeVar("Collection", bound=Holder)


def declared_for(table: Table, collections: Mapping[str, Collection | Nested]) -> Collection | Nested:
    """Return what is declared for a table: a collection, or lists in its rows.

    Raises:
        GranaryError: nothing is.
    """
    try:
        return collections[table.location]
    except KeyError:
        raise GranaryError(f"nothing is declared for {table.location}", table.name, "declare it") from None


def collection_of(declared: Collection | Nested, kind: type[Collection]) -> Collection:
    """Return the collection that is asked for."""
    root = declared.of if isinstance(declared, Nested) else declared
    if not isinstance(root, kind):
        raise TypeError(f"a nested table is a list in the rows of a {kind.__name__}, not of a {type(root).__name__}")
    return root


def tables_within(holder: Holder, declared: Sequence[Holder]) -> set[str]:
    """Return the paths of the lists in a collection's (or a nested table's) rows that are tables of their own."""
    outer = holder.levels if isinstance(holder, Nested) else ()
    root = holder.of if isinstance(holder, Nested) else holder
    return {
        nested.levels[len(outer)][0]
        for nested in declared
        if isinstance(nested, Nested)
        and nested.of.path == root.path
        and len(nested.levels) > len(outer)
        and nested.levels[: len(outer)] == outer
    }
