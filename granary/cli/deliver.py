"""`granary deliver`: marts go out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.deliver.deliver import Delivered
    from granary.deliver.records import State
    from granary.deliver.spec import Delivery


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(epilog="Examples: granary deliver · granary deliver orders_out --dry-run · granary deliver orders_out")(
        deliver
    )


def deliver(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: list them.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Send all rows, whatever the target has; agrees to other columns or targets.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be sent, and send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send what the marts changed since the last delivered publish to another system, each row once.

    Deliveries are declared in deliveries/. Rows that a target refuses are in the quarantine. Exits with 1 if a delivery
    fails, or its target refuses rows.
    """
    from granary.deliver import records
    from granary.deliver.discovery import declared, find

    settings = existing()
    if not names:
        if everything or dry_run:
            raise typer.BadParameter("name a delivery")
        found, broken = declared()
        states = records.states(settings)
        output.json(states) if as_json else _listed(found, broken, states)
        return
    chosen = [find(name) for name in dict.fromkeys(names)]
    done: list[Delivered] = []
    failed: list[GranaryError] = []
    from granary.deliver.deliver import deliver as send

    for one in chosen:
        try:
            done.append(send(settings, one, everything=everything, dry_run=dry_run))
        except GranaryError as error:
            failed.append(error)
    if as_json:
        output.json(done)
    else:
        for each in done:
            _told(each)
    if failed:
        raise failed[0]
    if any(one.refused for one in done):
        raise typer.Exit(1)


def _told(one: Delivered) -> None:
    what = f"{one.inserted:,} new, {one.updated:,} changed, {one.deleted:,} deleted"
    if one.dry_run:
        waits = f" {one.left_over:,} rows of an earlier run are sent first." if one.left_over else ""
        output.line(f"{one.delivery} would send {what} to {one.target}, as of publish {one.publish_id}.{waits}")
        return
    if not one.rows:
        output.line(f"{one.delivery}: {one.target} is as publish {one.publish_id} left it: nothing was sent.")
        return
    earlier = f" {one.left_over:,} rows were left over from an earlier run." if one.left_over else ""
    output.line(f"{one.delivery}: {one.rows:,} rows went to {one.target}, publish {one.publish_id}: {what}.{earlier}")
    if one.note:
        output.line(f"{one.delivery}: {one.note}.")
    if one.refused:
        output.line(f"It refused {one.refused:,} of them: `granary quarantine list deliveries.{one.delivery}`")


def _listed(found: Mapping[str, Delivery], broken: Mapping[str, GranaryError], states: list[State]) -> None:
    known = {one.delivery: one for one in states}
    if not (found or broken or known):
        output.line("Nothing is delivered: declare it in deliveries/, see `granary guide deliver`.")
        return
    rows = []
    for name in dict.fromkeys([*found, *broken, *known]):
        state = known.get(name)
        what = found[name].mart or "a query" if name in found else ""
        if name in broken:
            word = "cannot be used"
        elif state is None:
            word = "never delivered"
        elif name not in found:
            word = "not declared any more"
        elif state.error:
            word = f"failed since {(state.failed_at or '')[:16]}"
        else:
            word = "there is a newer publish" if state.is_behind else "up to date"
        numbers = (state.publish_id, state.waiting, state.refused) if state else ("", "", "")
        rows.append((name, what, state.target if state else "", word, *numbers))
    columns = ("delivery", "of", "to", "state", "publish", "waiting", "refused")
    output.table("Deliveries", columns, rows)
    for error in [*broken.values()]:
        output.line(str(error))
    for state in states:
        if state.error:
            output.line(f"{state.delivery}: {state.error}")
