"""`granary deliver`: what is new since the last delivered publish goes to its target, each row once.

1. What an earlier run left is sent first, in the batches that it was in.
2. What the last publish changed becomes batches, with the position, in one transaction of the warehouse.
3. Each batch is sent and answered for: its rows are then the target's, or refused.

A batch keeps its rows and its id from 2 on, so one that is sent twice is known to be the same by its receiver.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from granary.deliver import files, records
from granary.deliver.sending import RefusedError
from granary.deliver.spec import Database, Files, HttpApi, Topic, Webhook
from granary.deliver.take import Taken, check_marts, take, take_refused
from granary.readers.api.messages import shown
from granary.readers.database.connecting import Database as Address
from granary.sources.config import setting
from granary.warehouse import published
from granary.warehouse.connection import LockHeldError, connect, execute, lock, query
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granary.deliver.records import Batch
    from granary.deliver.sending import Sender
    from granary.deliver.spec import Delivery, Target
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

WAIT_SECONDS = 10
FILE_BATCH = """
    insert into ops.delivery_batches
        (delivery, batch, publish_id, row_count, inserted, updated, deleted, digest, status, started_at, ended_at)
    select delivery, last_batch, $2, $3, $3, 0, 0, '', 'sent', clock_timestamp(), clock_timestamp()
    from ops.deliveries where delivery = $1
"""


@dataclass(frozen=True)
class Delivered:
    """What a delivery did, or with `dry_run` would do.

    `rows` were sent, of which `refused` were refused; `inserted`, `updated` and `deleted` say of those that this run
    took what they are for the target. `left_over` were taken by an earlier run. `again` are the numbers in the
    quarantine of refused rows that were sent once more. `note` is what readers of a file should know.
    """

    delivery: str
    target: str
    publish_id: int
    rows: int
    inserted: int
    updated: int
    deleted: int
    left_over: int
    refused: int
    dry_run: bool = False
    again: tuple[int, ...] = ()
    note: str = ""


def target_of(settings: Settings, delivery: Delivery) -> Target:
    """Return where a delivery goes, with its settings.

    Raises:
        GranaryError: a setting is missing, or the target cannot be declared so.
    """
    values = {name: setting(settings, name) for name in delivery.settings}
    try:
        found = delivery.target(values)
    except (ValueError, TypeError) as error:
        raise GranaryError(f"its target is wrong: {error}", f"delivery {delivery.name}", "correct its module") from None
    if not isinstance(found, (Files, HttpApi, Webhook, Topic, Database)):
        raise GranaryError(
            "its target is none", f"delivery {delivery.name}", "return Files, HttpApi, Webhook, Topic or Database"
        )
    return found


def words_of(target: Target) -> str:
    """Return what a delivery goes to and where, without credentials."""
    if isinstance(target, Files):
        return f"{target.format} in {files.place_of(target)}"
    if isinstance(target, HttpApi):
        return f"API {shown(target.api.at(target.path))}"
    if isinstance(target, Webhook):
        return f"webhook {shown(target.url)}"
    if isinstance(target, Topic):
        return f"Kafka topic {target.topic} of {target.address.partition('://')[2].partition('?')[0].rstrip('/')}"
    address = Address(target.uri, timedelta())
    return f"{address.dialect} {address.name}, table {target.table}"


def deliver(
    settings: Settings,
    delivery: Delivery,
    *,
    everything: bool = False,
    dry_run: bool = False,
    refused: Sequence[int] = (),
) -> Delivered:
    """Bring a target to the last publish.

    Args:
        settings: the warehouse.
        delivery: what goes where.
        everything: send all rows, whatever the target has; also agrees to other columns, or another target.
        dry_run: tell what would be sent, and send nothing.
        refused: send rows that the target has refused, by their numbers in the quarantine, instead of what is new.

    Raises:
        UsageError: it has no such mart, or no key.
        GranaryError: the target does not answer or refuses us, or columns are others than agreed.
    """
    try:
        target = target_of(settings, delivery)
    except GranaryError as error:
        with connect(settings) as owner:
            records.ended(owner, delivery.name, str(error))
        raise
    if isinstance(target, Files) and (dry_run or refused):
        raise UsageError("a file is written whole at each publish", f"delivery {delivery.name}", "leave the option out")
    with _alone(settings, delivery), connect(settings) as owner:
        if isinstance(target, Files):
            return _file(settings, owner, delivery, target, everything=everything)
        name = words_of(target)
        if dry_run:
            taken = _taken(settings, owner, delivery, name, everything=everything)
            waiting = sum(len(one.rows) for one in _waiting(owner, delivery))
            owner.rollback()
            return _said(delivery, name, taken, waiting, 0, dry_run=True)
        try:
            done = _send_all(settings, owner, delivery, target, everything=everything, refused=refused)
        except BaseException as error:
            owner.rollback()
            if isinstance(error, GranaryError):
                records.ended(owner, delivery.name, str(error))
            raise
        records.ended(owner, delivery.name, None)
        return done


def _send_all(
    settings: Settings,
    owner: Connection,
    delivery: Delivery,
    target: Target,
    *,
    everything: bool,
    refused: Sequence[int],
) -> Delivered:
    name, left_over, before = words_of(target), 0, 0
    known = records.known(owner, delivery.name)
    forgotten = known is not None and known.erasures != published.erasures(owner)
    if known and ((forgotten and known.target == name) or (known.target != name and everything)):
        records.withdraw(owner, delivery.name)
    owner.commit()
    check_marts(owner, delivery)
    waiting = records.open_batches(owner, delivery.name)
    with closing(_opened(target, delivery)) as sender:
        if waiting and known and known.target == name:
            sender.check(known.columns)
            left_over, before = _send(owner, delivery, sender)
        if refused:
            taken = _taken_again(owner, delivery, name, refused)
        else:
            taken = _taken(settings, owner, delivery, name, everything=everything)
        fault_point("deliver-before-taken")
        if taken.rows:  # before anything is promised to the target
            agreed = records.known(owner, delivery.name)
            sender.check(agreed.columns if agreed else {})
        owner.commit()
        fault_point("deliver-taken")
        sent, more = _send(owner, delivery, sender)
    return _said(delivery, name, taken, left_over, before + more, rows=left_over + sent)


def _taken_again(owner: Connection, delivery: Delivery, name: str, refused: Sequence[int]) -> Taken:
    known = records.known(owner, delivery.name)
    if known is None or known.target != name:
        what = f"it goes to {name}, which has refused nothing"
        raise GranaryError(what, f"delivery {delivery.name}", f"send all rows: `granary deliver {delivery.name} --all`")
    return take_refused(owner, delivery, known, refused)


def _taken(settings: Settings, owner: Connection, delivery: Delivery, name: str, *, everything: bool) -> Taken:
    known = records.known(owner, delivery.name)
    return take(settings, owner, delivery, name, everything=everything, known=known)


def _send(owner: Connection, delivery: Delivery, sender: Sender) -> tuple[int, int]:
    """Send the batches that wait, in order; return how many rows that were, and how many of them were refused."""
    rows = refused = 0
    for one in _waiting(owner, delivery):
        records.begin(owner, one, sender.position() if one.status == "waiting" else None, apart=sender.is_apart)
        fault_point("deliver-before-send")
        refused += _send_batch(owner, sender, one)
        rows += len(one.rows)
    return rows, refused


def _send_batch(owner: Connection, sender: Sender, one: Batch) -> int:
    if not sender.is_apart and one.status != "apart":
        try:
            refused = sender.send(one)
        except RefusedError:
            records.begin(owner, one, None, apart=True)
        else:
            fault_point("deliver-sent")
            records.settle(owner, one, refused)
            owner.commit()
            fault_point("deliver-settled")
            return len(refused)
    number = 0
    for row in one.rows:
        try:
            sender.send_row(one, row)
        except RefusedError as error:
            number += 1
            records.settle_row(owner, one, row, str(error))
        else:
            fault_point("deliver-row-sent")
            records.settle_row(owner, one, row, None)
    records.settle(owner, one, [])
    owner.commit()
    return number


def _waiting(owner: Connection, delivery: Delivery) -> Iterator[Batch]:
    known = records.known(owner, delivery.name)
    for record in records.open_batches(owner, delivery.name) if known else ():
        assert known is not None
        yield records.batch(owner, delivery.name, known.token, record)


def _file(settings: Settings, owner: Connection, delivery: Delivery, target: Files, *, everything: bool) -> Delivered:
    """Write a file of the last publish."""
    check_marts(owner, delivery)
    name = words_of(target)
    known, now = records.known(owner, delivery.name), published.erasures(owner)
    owner.commit()

    def is_known(publish: int) -> bool:
        same = known is not None and (known.publish_id, known.erasures, known.target) == (publish, now, name)
        return same and not everything

    try:
        publish, rows, note = files.write(settings, delivery, target, is_known)
        fault_point("deliver-file-there")
    except GranaryError as error:
        records.ended(owner, delivery.name, str(error))
        raise
    if rows >= 0:
        records.keep(owner, delivery.name, name, (publish, publish), now, {})
        execute(owner, "update ops.deliveries set last_batch = last_batch + 1 where delivery = $1", delivery.name)
        execute(owner, FILE_BATCH, delivery.name, publish, rows)
    records.ended(owner, delivery.name, None)
    rows = max(rows, 0)
    return Delivered(delivery.name, name, publish, rows, rows, 0, 0, 0, 0, note=note)


def _opened(target: Target, delivery: Delivery) -> Sender:
    if isinstance(target, (HttpApi, Webhook)):
        from granary.deliver.http import HttpSender  # noqa: PLC0415 - each target loads its own client

        return HttpSender(target)
    if isinstance(target, Topic):
        from granary.deliver.kafka import KafkaSender  # noqa: PLC0415

        return KafkaSender(target, delivery.name)
    assert isinstance(target, Database)
    from granary.deliver.database import open_database  # noqa: PLC0415

    return open_database(target, delivery.name)


def _said(
    delivery: Delivery, name: str, taken: Taken, left_over: int, refused: int, *, rows: int = 0, dry_run: bool = False
) -> Delivered:
    return Delivered(
        delivery.name,
        name,
        taken.publish_id,
        rows,
        taken.inserted,
        taken.updated,
        taken.deleted,
        left_over,
        refused,
        dry_run,
        taken.again,
    )


@contextmanager
def _alone(settings: Settings, delivery: Delivery) -> Iterator[None]:
    """Have nobody else send the delivery meanwhile.

    Raises:
        GranaryError: somebody does.
    """
    with connect(settings) as guard:
        try:
            lock(guard, f"deliver {delivery.name}", WAIT_SECONDS)
        except LockHeldError:
            what = "another process delivers it"
            raise GranaryError(what, f"delivery {delivery.name}", "wait until it has ended") from None
        yield
        query(guard, "select 1")
