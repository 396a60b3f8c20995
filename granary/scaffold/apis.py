"""Finds the table behind the address of a JSON API's collection."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import pyarrow as pa

from granary.profiling.json_values import column
from granary.profiling.names import snake
from granary.scaffold.plan import Found, Opening
from granary.scaffold.python_text import Group, construction, literal
from granary.scaffold.reading import typed
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from granary.readers.api.spec import Auth

FRESHNESS = timedelta(hours=36)
SECRET = re.compile(r"(?i)(key|token|secret|password|passwd|pwd|sig|signature|credential|auth)s?$")
"""Parameters of an address that are secrets, and belong into the owner-only file."""


def find(name: str, url: str, only: Collection[str] = (), header: str | None = None) -> tuple[Opening, list[Found]]:
    """Ask for the first pages of a collection, and find out its shape.

    Args:
        name: the source.
        url: the collection's address; user and password, or a key among its parameters, are kept as secrets.
        only: the table's name, if the last word of the address does not serve.
        header: the header that a key is sent in, or "bearer"; the key is the setting GRANARY_<NAME>_KEY.

    Raises:
        GranaryError: the service does not answer, denies access, or answers with no list of objects.
    """
    from granary.readers.api.probe import probe

    base, secret = f"GRANARY_{name.upper()}_URL", f"GRANARY_{name.upper()}_KEY"
    bare, auth, shown, value = credentials(url, header, secret)
    shape = probe(bare, auth=auth)
    if not shape.sample:
        raise GranaryError("the collection has no rows to look at", shape.base + shape.path, "look at another one")
    table = (list(only) or [_last_word(shape.path, name)])[0]
    settings = {base: shape.base} | ({secret: value} if value else {})
    endpoint: list[Group | str] = [literal(shape.path)]
    if shape.rows != "data":
        endpoint.append(f"rows={literal(shape.rows)}")
    if shape.pagination:
        pages = construction(shape.pagination)
        endpoint.append(Group(f"pagination={pages.head}", pages.parts))
    if shape.total:
        endpoint.append(f"total={literal(shape.total)}")
    api = Group("Api", (f"settings[{literal(base)}]", *([Group(f"auth={shown.head}", shown.parts)] if shown else [])))
    needed = {"Api", "Endpoint", "RestReader"} | ({shown.head} if shown else set())
    needed |= {type(shape.pagination).__name__} if shape.pagination else set()
    opening = Opening(
        imports=(f"from granary.readers.rest import {', '.join(sorted(needed))}",),
        expression=Group("RestReader", (api, Group("Endpoint", tuple(endpoint)))),
        settings=settings,
    )
    sample = columns(shape.sample)
    found = Found(
        name=table,
        location=shape.path,
        sample=sample,
        freshness=FRESHNESS,
        text="times",
        complete=shape.pagination is None,
        whole=False,
        snapshot=True,
    )
    return opening, [found]


def credentials(url: str, header: str | None, setting: str) -> tuple[str, Auth | None, Group | None, str]:
    """Take the credentials out of an address.

    Returns:
        The address without them, the credentials for the reader, the expression that makes them in the source's
        module, and the secret itself, which is written nowhere but in the owner-only file.
    """
    from granary.readers.api.spec import ApiKey, Basic

    parts = urlsplit(url)
    secret = f"settings[{literal(setting)}]"
    host = parts.netloc.rpartition("@")[2]
    params = parse_qsl(parts.query, keep_blank_values=True)
    keys = [pair for pair in params if SECRET.search(pair[0])]
    if len(keys) > 1:
        raise GranaryError("the address has more than one secret parameter", host, "send one key, or use --auth")
    rest = urlencode([pair for pair in params if pair not in keys])
    bare = urlunsplit((parts.scheme, host, parts.path, rest, ""))
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        return bare, Basic(user, password), Group("Basic", (literal(user), secret)), password
    if keys:
        param, value = keys[0]
        return bare, ApiKey(param, value, "query"), Group("ApiKey", (literal(param), secret, 'place="query"')), value
    if header is None:
        return bare, None, None, ""
    value = os.environ.get(setting, "")
    if not value:
        raise GranaryError(f"{setting} is not set", todo=f"put the key into the environment variable {setting}")
    if header.lower() == "bearer":
        made = ("Authorization", secret, 'prefix="Bearer "')
        return (
            bare,
            ApiKey("Authorization", value, prefix="Bearer "),
            Group("ApiKey", (literal(made[0]), *made[1:])),
            value,
        )
    if re.fullmatch(r"[A-Za-z0-9-]+", header) is None:
        raise GranaryError(f"{header[:40]!r} is not a header", todo="write --auth X-Api-Key or --auth bearer")
    return bare, ApiKey(header, value), Group("ApiKey", (literal(header), secret)), value


def _last_word(path: str, otherwise: str) -> str:
    """Return the last part of a path that has letters, leaving out versions: days of /api/v1/days.json."""
    words = [snake(re.sub(r"\.\w+$", "", part)) for part in path.partition("?")[0].split("/")]
    said = [word for word in words if word and not re.fullmatch(r"v\d+|api|\d+", word)]
    return said[-1] if said else otherwise


def columns(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return JSON rows as a table: parts of nested objects as columns of their own, lists as JSON text."""
    flat = [dict(_flat(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    found = pa.Table.from_arrays([column([row.get(name) for row in flat]) for name in names], names=names)
    return typed(found, text="times")


def _flat(row: dict[str, Any], path: str = "", depth: int = 0) -> Any:
    for name, value in row.items():
        here = f"{path}.{name}" if path else name
        # A name with a dot in it cannot be told from a path: such an object stays whole.
        if isinstance(value, dict) and value and depth < 3 and not any("." in inner for inner in value):  # noqa: PLR2004
            yield from _flat(value, here, depth + 1)
        else:
            yield here, value
