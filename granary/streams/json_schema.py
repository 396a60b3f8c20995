"""JSON messages of a schema registry: behind the header a JSON object that its schema has to allow.

The validator compiles a schema once, never leaves the machine for a `$ref`, matches patterns in linear time, and shows
no values. What a message breaks is told by the place and the rule alone: its values may be personal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin

from granary.load.json_objects import from_rows
from granary.streams.decoding import UnfitError, parse_object
from granary.streams.registered import RegistryDecoder, Written
from granary.streams.registry import UnknownSchemaError
from granary.warehouse.errors import missing_package
from granary.warehouse.json_text import flaw_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from granary.sources.spec import Table
    from granary.streams.registry import Registry, Schema

BASE = "json-schema:///schema"
MOST_STEPS = 32
"""References that are followed, or levels of a schema that are looked at, to find out what a field is."""
PATTERN_BYTES = 1 << 20


class JsonSchemaDecoder(RegistryDecoder):
    """Reads objects that the schema that they name allows."""

    kind = "JSON"

    def __init__(self, table: Table, max_bytes: int, registry: Registry, *, judged: bool = True) -> None:
        """Decode for this contract with the schemas of this registry.

        Raises:
            GranaryError: jsonschema-rs is not installed.
        """
        try:
            import jsonschema_rs  # noqa: PLC0415 - only JSON Schema needs it
        except ImportError:
            raise missing_package("JSON Schema", "jsonschema-rs", "streams") from None
        super().__init__(table, max_bytes, registry, judged=judged)
        self._rs = jsonschema_rs

    def compiled(self, schema: Schema, place: tuple[int, ...]) -> Written:
        """Return how objects of a schema are read."""
        del place
        *others, root = schema.parsed()
        if not isinstance(root, (dict, bool)):
            raise UnknownSchemaError("it is not a JSON Schema")
        base = str(root.get("$id") or BASE) if isinstance(root, dict) else BASE
        known = {base: root}
        for (name, _), other in zip(schema.references, others, strict=True):
            known[urljoin(base, name)] = other
        rs = self._rs
        try:
            validator = rs.validator_for(
                root,
                registry=rs.Registry([(name, other) for name, other in known.items() if name != base]),
                base_uri=base,
                offline=True,
                mask="…",
                validate_formats=True,
                pattern_options=rs.RegexOptions(size_limit=PATTERN_BYTES),
            )
        except Exception:
            raise UnknownSchemaError(
                "it is not a JSON Schema, or refers to one that the registry does not give"
            ) from None
        shape = Shape(known, base)
        names = frozenset(shape.names())
        described = {"type": "record", "fields": [*shape.fields(root)]}
        return Written(lambda body: _read(validator, names, body), described)

    def arrow(
        self, written: Written | None, rows: Sequence[dict[str, Any]]
    ) -> tuple[pa.RecordBatch, dict[int, tuple[str, str]]]:
        """Return rows as those of JSON without a schema are: in the contract's types, others by their values."""
        found = from_rows(self.table, rows)
        return found.batch, {index: (bad.column, bad.reason) for index, bad in found.rejected}


def _read(validator: Any, names: frozenset[str], body: memoryview) -> dict[str, Any]:
    row = parse_object(bytes(body))
    if flaw := flaw_in(row):
        raise UnfitError(flaw)
    error = next(validator.iter_errors(row), None)
    if error is not None:
        path = [str(part) if isinstance(part, int) or part in names else "*" for part in error.instance_path]
        rule = next((str(part) for part in reversed(error.schema_path) if isinstance(part, str)), "false")
        lacking = getattr(error.kind, "property", None)
        of = f" {lacking}" if rule == "required" and lacking in names else ""
        raise UnfitError(f"breaks its schema at {'.'.join(path) or 'its top'}: {rule}{of}")
    return row


class Shape:
    """What a schema says of its fields, told as the fields of an Avro record."""

    def __init__(self, known: Mapping[str, Any], base: str) -> None:
        """Look at a schema, and at those that it refers to by their addresses."""
        self.known, self.base = known, base

    def names(self) -> Iterator[str]:
        """Yield every name of a field that the schemas declare: what may be said of a message."""
        waiting = list(self.known.values())
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict):
                for declared in (part.get("properties"), part.get("required")):
                    yield from map(str, declared if isinstance(declared, (dict, list)) else ())
                waiting += part.values()
            elif isinstance(part, list):
                waiting += part

    def fields(
        self, schema: Any, steps: int = 0, base: str = "", required: frozenset[str] = frozenset()
    ) -> Iterator[dict[str, Any]]:
        """Yield the fields of an object, those of all its parts; a field that may be absent is a union with null.

        `required` are names of fields that it has to have by what it is part of.
        """
        found, base = self._resolved(schema, base or self.base)
        if not isinstance(found, dict) or steps > MOST_STEPS:
            return
        required |= frozenset(self._required(found, steps, base))
        properties = found.get("properties")
        if isinstance(properties, dict):
            for name, one in properties.items():
                kinds = self._kinds(one, steps + 1, base)
                is_null = name not in required or self._has_null(one, steps + 1, base)
                said = self._resolved(one, base)[0]
                doc = said.get("description") if isinstance(said, dict) else None
                yield {"name": str(name), "type": ["null", *kinds] if is_null else kinds, "doc": doc}
        for part in _list(found.get("allOf")):
            yield from self.fields(part, steps + 1, base, required)

    def _required(self, found: Mapping[str, Any], steps: int, base: str) -> Iterator[str]:
        """Yield the names of the fields that an object has to have, by any of its parts."""
        yield from map(str, _list(found.get("required")))
        for part in _list(found.get("allOf")) if steps <= MOST_STEPS else ():
            inner, at = self._resolved(part, base)
            if isinstance(inner, dict):
                yield from self._required(inner, steps + 1, at)

    def _has_null(self, schema: Any, steps: int, base: str) -> bool:
        """Return whether a field may be null."""
        found, base = self._resolved(schema, base)
        if not isinstance(found, dict) or steps > MOST_STEPS:
            return True
        parts = [*_list(found.get("oneOf")), *_list(found.get("anyOf"))]
        if any(self._has_null(part, steps + 1, base) for part in parts):
            return True
        given = found.get("type")
        values = [found["const"]] if "const" in found else _list(found.get("enum"))
        if given is None:
            return None in values if values else not (parts or found.get("allOf"))
        return "null" in (given if isinstance(given, list) else [given]) and (not values or None in values)

    def _kinds(self, schema: Any, steps: int, base: str) -> list[Any]:
        """Return the types that a field may have, but null."""
        found, base = self._resolved(schema, base)
        if not isinstance(found, dict) or steps > MOST_STEPS:
            return ["any"]
        for name in ("oneOf", "anyOf"):
            if parts := _list(found.get(name)):
                return [kind for part in parts for kind in self._kinds(part, steps + 1, base)]
        given = found.get("type")
        if given is None:
            values = [found["const"]] if "const" in found else _list(found.get("enum"))
            given = sorted({TYPES.get(type(value), "any") for value in values})
        if not given and _list(found.get("allOf")):
            return self._kinds(found["allOf"][0], steps + 1, base)
        kinds = [one for one in (given if isinstance(given, list) else [given]) if one != "null"]
        if not kinds:
            return [] if given else ["any"]
        more = {
            "json": True,
            "format": found.get("format"),
            "multipleOf": found.get("multipleOf"),
            "connect.name": found.get("title"),
            "connect.type": found.get("connect.type"),
            "connect.parameters": found.get("connect.parameters"),
        }
        return [
            {"type": one, **more, **({"fields": list(self.fields(found, steps, base))} if one == "object" else {})}
            for one in kinds
        ]

    def _resolved(self, schema: Any, base: str) -> tuple[Any, str]:
        """Return what a `$ref` leads to, and the address of the schema that it is in."""
        for _ in range(MOST_STEPS):
            if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
                break
            address, fragment = urldefrag(urljoin(base, schema["$ref"]))
            schema, base = self.known.get(address), address
            for part in filter(None, unquote(fragment).split("/")):
                name = part.replace("~1", "/").replace("~0", "~")
                schema = schema.get(name) if isinstance(schema, dict) else None
        return schema, base


TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
TYPES[type(None)] = "null"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
