"""`granary publish` and `granary as-of`: the marts as an earlier publish left them, for everybody or beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output, twin
from granary.cli.options import AsJson, existing

if TYPE_CHECKING:
    from granary.warehouse.publishes import Publish, Shown

Schema = Annotated[str, typer.Option(metavar="SCHEMA", help="Where the marts are published.")]


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.command(
        epilog="Examples: granary publish · granary publish --undo · granary publish --undo 3 · granary publish --redo"
    )(publish)
    app.command(
        "as-of", epilog="Examples: granary as-of 118 · granary as-of '2026-03-11 09:30' · granary as-of 118 --drop"
    )(as_of)


def publish(
    steps: Annotated[int | None, typer.Argument(metavar="[N]", min=1, help="How many publishes. Default: 1.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Show all marts as they were N publishes before.")] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Show them as N publishes later; without N, the newest.")
    ] = False,
    release: Annotated[bool, typer.Option("--release", help="Let the next publish follow what is shown.")] = False,
    schema: Schema = "marts",
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier publish, and forward again; without options, list those that are kept.

    All marts change together, and nobody who reads them waits. After an undo nothing is published, until --redo, or
    until --release gives up what was undone. Publishing itself is what `granary run` and dbt do.
    """
    from granary.warehouse import publishes

    if undo + redo + release > 1 or (steps is not None and not (undo or redo)):
        raise typer.BadParameter("give --undo [N], --redo [N] or --release")
    settings = existing()
    if undo or redo:
        shown = publishes.undo(settings, steps or 1, schema) if undo else publishes.redo(settings, steps, schema)
        twin.follow(settings)
        output.json(shown) if as_json else _report(shown)
    elif release:
        held = publishes.release(settings, schema)
        if as_json:
            output.json({"released": held})
        else:
            output.line(
                "Released: the next publish carries what is built: `dbt run-operation publish`, or `granary run`."
                if held
                else "No undo holds publishing."
            )
    else:
        _list(publishes.kept(settings, schema), as_json=as_json)


def as_of(
    which: Annotated[str, typer.Argument(metavar="PUBLISH|TIME", help="A number of `granary publish`, or when.")],
    drop: Annotated[bool, typer.Option("--drop", help="Drop the views.")] = False,
    schema: Schema = "marts",
    as_json: AsJson = False,
) -> None:
    """Make a schema with a view of each mart as a publish left it, for the same readers and with the same masks.

    A time without a zone is the project's; a date is its end. The views take no room, and fail once the publish is not
    kept any more.
    """
    from granary.warehouse import publishes

    settings = existing()
    if drop:
        gone = publishes.drop_as_of(settings, which, schema)
        output.json({"dropped": gone}) if as_json else output.line("Dropped." if gone else "There were no views.")
        return
    made = publishes.as_of(settings, which, schema)
    if as_json:
        output.json(made)
        return
    output.line(
        f"{made.schema}: {len(made.marts)} views of publish {made.publish.publish_id}"
        f" ({made.publish.finished_at:%Y-%m-%d %H:%M})."
    )
    if made.marts:
        output.line(f"select * from {made.schema}.{made.marts[0]}")


def _list(found: tuple[Publish, ...], *, as_json: bool) -> None:
    if as_json:
        output.json(list(found))
    elif not found:
        output.line("No publish is kept; the next one is.")
    else:
        output.table(
            "Publishes that the marts can be shown as",
            ("publish", "finished", "marts", "rows in", "rows out", ""),
            [
                (
                    str(one.publish_id), f"{one.finished_at:%Y-%m-%d %H:%M:%S}", one.marts, one.rows_inserted,
                    one.rows_deleted, "shown" if one.is_shown else "",
                )
                for one in found
            ],
        )  # fmt: skip


def _report(shown: Shown) -> None:
    if shown.marts:
        output.table(
            "Changed", ("mart", "rows in", "rows out"), [(m.mart, m.rows_inserted, m.rows_deleted) for m in shown.marts]
        )
    number = shown.publish.publish_id
    output.line(f"The marts are as publish {number} left them ({shown.publish.finished_at:%Y-%m-%d %H:%M}).")
    if number != shown.newest:
        output.line(
            "Nothing is published until `granary publish --redo` shows the newest again, or `--release` gives up what"
            " was undone."
        )
