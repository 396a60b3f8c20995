"""`granary sources`: the kinds of sources, what each guarantees, and which sources of the project are of it."""

from __future__ import annotations

from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(epilog="Examples: granary sources · granary sources kafka · granary sources --json")(sources)


def sources(
    kind: Annotated[str, typer.Argument(metavar="[KIND]", help="Part of a kind's name, such as kafka.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the kinds of sources: read exactly once? are deletes seen? in order? is the lag shown?

    Beside each stand the sources of this project that are of it, as far as their settings say.
    """
    from dataclasses import asdict

    from granary.kinds.catalogue import KINDS, answers, brief, kinds_of
    from granary.sources.discovery import SOURCES
    from granary.warehouse.errors import unknown
    from granary.warehouse.settings import Settings

    chosen = [one for one in KINDS if kind.lower() in f"{one.kind} {one.declared}".lower()]
    if not chosen:
        raise unknown("kind of source", kind, [one.kind for one in KINDS])
    settings = Settings.load()
    here = {name: kinds_of(source, settings) for name, source in SOURCES.items()}
    of_kind = {one.kind: [name for name, kinds in here.items() if one in kinds] for one in chosen}
    if as_json:
        output.json([asdict(one) | {"sources": of_kind[one.kind]} for one in chosen])
        return
    names = ["kind", "read by", "exactly once", "deletes", "order", "lag", "here"]
    rows = [
        [one.kind, one.command, *(each if kind else brief(each) for each in answers(one)), ", ".join(of_kind[one.kind])]
        for one in chosen
    ]
    if kind:
        names += ["declared by", "guide"]
        rows = [
            [*row, one.declared, f"`granary guide sources/{one.page}`"] for row, one in zip(rows, chosen, strict=True)
        ]
    output.table("Kinds of sources", names, rows)
    if not kind:
        output.line("Under which condition: `granary sources KIND`; how to declare one: `granary guide sources/README`")
