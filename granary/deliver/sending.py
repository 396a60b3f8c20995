"""What a target has to do: take batches, and tell which rows it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.deliver.records import Batch, Row


class RefusedError(Exception):
    """A target refuses a batch as a whole, or a row; the message says why, without values of rows."""


class Sender(Protocol):
    """A target that takes rows by key. Whatever else than a refusal is wrong with it raises a GranaryError."""

    is_apart: bool
    """Whether rows are sent one by one."""

    def check(self, columns: Mapping[str, str]) -> None:
        """Raise a GranaryError if the target cannot be reached, or cannot take rows of these columns."""
        ...

    def position(self) -> str | None:
        """Return where the target ends now, if it needs that to tell whether it has a batch."""
        ...

    def send(self, batch: Batch) -> list[tuple[Row, str]]:
        """Have the target take a batch, unless it has it, and return the rows that it refuses.

        Raises:
            RefusedError: it takes none of it; then rows are sent one by one.
        """
        ...

    def send_row(self, batch: Batch, row: Row) -> None:
        """Have the target take one row of a batch.

        Raises:
            RefusedError: it does not.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...
