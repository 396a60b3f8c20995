"""Which messages of queues have landed: by a digest of each one's id, kept in the transaction of its row."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.sources.spec import Table
    from granary.streams.log import Message
    from granary.warehouse.writer import LoadTransaction


def claim(tx: LoadTransaction, table: Table, messages: Sequence[Message], ids: Sequence[str | None]) -> list[int]:
    """Return the indexes of the messages that are new, each id once; they are known from this transaction on.

    A message without an id is new if its server promises that it has given it to nobody before. One that comes again is
    known by its content: of two with the same content, one that comes again is taken for the one that has landed.
    The source's lock is ours, so two processes that were given one message take turns here.
    """
    digests = [digest(one, message) for one, message in zip(ids, messages, strict=True)]
    new = {
        UUID(str(row[0]))
        for row in tx.query(
            "insert into ops.known_messages (source, table_name, message)"
            " select distinct $1, $2, cast(given as uuid) from unnest($3::text[]) as given"
            " on conflict do nothing returning message",
            tx.source,
            table.name,
            [str(one) for one in digests],
        )
    }
    found, first = [], set(new)
    for index, one in enumerate(digests):
        # What is in one batch was given once: two messages without ids are two, if neither was here before.
        if one in (new if ids[index] is not None else first) or (ids[index] is None and not messages[index].again):
            new.discard(one)
            found.append(index)
    return found


def digest(message_id: str | None, message: Message) -> UUID:
    """Return what a message is known by: 128 bits of a SHA-256 of its id, or of its content if it has none."""
    what = (
        b"body:" + (message.value or b"")
        if message_id is None
        else b"id:" + message_id.encode("utf-8", "surrogatepass")
    )
    return UUID(bytes=sha256(what).digest()[:16])
