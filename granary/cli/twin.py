"""`granary twin`: the columnar twin of the marts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

twin = typer.Typer(
    help="The columnar twin of the marts: which publish it is at, how large it is, where it is.",
    invoke_without_command=True,
    epilog="Examples: granary twin · granary twin sync · granary twin verify --all · granary twin drop",
)


def register(app: typer.Typer) -> None:
    """Put these subcommands into the command."""
    app.add_typer(twin, name="twin")


@twin.callback()
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """The columnar twin of the marts: which publish it is at, how large it is, where it is."""
    if context.invoked_subcommand:
        return
    from granary.twin import state

    found = state.look(existing())
    if as_json:
        output.json(found)
        return
    output.line(str(found))
    output.table(
        "Copies",
        ("copy", "read by", "publish", "publishes", "marts", "files", "MB", "folder"),
        [
            (
                one.catalog, one.reader, one.publish_id or "none yet", one.publishes, one.marts, one.files,
                round(one.bytes / 1e6, 1), one.folder,
            )
            for one in found.copies
        ],
    )  # fmt: skip
    for name, reason in found.refused.items():
        output.line(f"{name} is not in it: {reason}")


@twin.command(epilog="Examples: granary twin sync · granary twin sync --anew")
def sync(
    anew: Annotated[bool, typer.Option("--anew", help="Make it anew, whatever it has.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the twin to the publish that is shown. `granary run` and `granary serve` do this by themselves."""
    from granary.twin import config
    from granary.twin import sync as following

    settings = existing()
    done = following.sync(settings, config.required(settings), anew=anew, say=_say)
    if as_json:
        output.json(done)
        return
    if done.publish is None:
        output.line("Nothing was published yet.")
        return
    how = "made anew with" if done.anew else "brought on by"
    output.line(f"The twin is at publish {done.publish}, {how} {done.followed} publish{_es(done.followed)}.")
    for name, reason in done.refused.items():
        output.line(f"{name} is not in it: {reason}")


@twin.command(epilog="Examples: granary twin verify · granary twin verify --all --json")
def verify(
    every: Annotated[bool, typer.Option("--all", help="Every publish that is kept, not only the last.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read the twin's rows back into Postgres and compare rows and hash of each mart with the ledger of publishes."""
    from granary.twin.verify import verify as check

    found = list(check(existing(), all_publishes=every))
    if as_json:
        output.json([one.told for one in found])
    else:
        rows = [(one.copy, one.publish_id, one.mart, one.row_count, "yes" if one.is_same else "NO") for one in found]
        output.table("The twin's rows, hashed by Postgres", ("copy", "publish", "mart", "rows", "same"), rows)
    if not all(one.is_same for one in found):
        print("granary: the twin is not what was published: `granary twin sync --anew` makes it anew", file=sys.stderr)
        raise typer.Exit(1)


@twin.command(epilog="Example: granary twin drop")
def drop() -> None:
    """Remove the twin's catalogues and files. While the project wants one, the next run makes it again."""
    from granary.twin import config
    from granary.twin import sync as following

    settings = existing()
    following.drop(settings, config.required(settings))
    output.line("The twin is removed.")


def follow(settings: Settings) -> None:
    """Bring the twin on after something was published, if the project has one; a failure is said, and no more."""
    from granary.twin import config, follower

    if config.is_wanted():
        follower.follow(settings, _say)


def _say(words: str) -> None:
    print(f"granary: {words}", file=sys.stderr)


def _es(count: int) -> str:
    return "" if count == 1 else "es"
