"""Makes sure, before anything is written, that what was generated works: else it would stop every load, or dbt."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import yaml

from granary.sources.spec import Source
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.scaffold.plan import PlannedSource

LARGEST = 2**63
"""dbt packs what it parses into 64 bits."""
BRACES = ("{{", "{%", "{#")


def check(planned: PlannedSource, contents: Mapping[str, str]) -> None:
    """Import the module, parse the YAML and compare both with the plan; nothing is opened.

    Raises:
        GranaryError: one of the files would stop a load or dbt.
    """
    for path, text in contents.items():
        try:
            if path.endswith(".py"):
                _module(planned, text)
            elif path.endswith(".yml"):
                _yaml(text)
        except Exception as error:
            words = (str(error) or type(error).__name__).splitlines()[0]
            raise GranaryError(
                f"the source has something that no file can be written for: {words}",
                path,
                "nothing was written; leave the table out by naming the others with --table",
            ) from error
    names = Counter(
        test["name"] for path in contents if path.endswith(".yml") for test in _tests(yaml.safe_load(contents[path]))
    )
    if twice := [name for name, times in names.items() if times > 1]:
        raise GranaryError("two tests would have one name", twice[0], "nothing was written; choose another source name")


def _module(planned: PlannedSource, text: str) -> None:
    space: dict[str, Any] = {"__name__": f"ingestion.{planned.name}"}
    exec(compile(text, f"{planned.name}.py", "exec"), space)  # noqa: S102 - every text of the source is a literal in it
    made = space["SOURCE"]
    if not isinstance(made, Source) or made.name != planned.name:
        raise ValueError("the module defines another source")
    found = [[(c.name, c.type, c.nullable, c.null, c.aliases) for c in table.columns] for table in made.tables]
    wanted = [
        [(c.name, c.type, not c.required, c.null, () if c.header == c.name else (c.header,)) for c in table.columns]
        for table in planned.tables
    ]
    if found != wanted:
        raise ValueError("the module defines other columns")


def _yaml(text: str) -> None:
    for value in _scalars(yaml.safe_load(text)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is not a number that dbt can hold")
        if isinstance(value, int) and not -LARGEST <= value < LARGEST:
            raise ValueError(f"{value} is larger than what dbt can hold")


def _scalars(content: Any) -> Iterator[Any]:
    if isinstance(content, dict):
        for name, value in content.items():
            if name == "description" and any(brace in value for brace in BRACES):
                raise ValueError("a description would be taken for a template")
            yield from _scalars(value)
    elif isinstance(content, list):
        for value in content:
            yield from _scalars(value)
    else:
        yield content


def _tests(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        for name, value in content.items():
            if name == "data_tests":
                yield from (body for test in value for body in test.values())
            else:
                yield from _tests(value)
    elif isinstance(content, list):
        for value in content:
            yield from _tests(value)
