"""What a file may cost: limits that keep a hostile or broken one from filling memory or disk."""

from __future__ import annotations

from dataclasses import dataclass

from granary.sources import validation
from granary.sources.units import UnreadableError

MB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of one file. Honest files stay far below them.

    Attributes:
        ratio: unpacked bytes per packed byte. Text packs to a tenth; deflate reaches at most 1,032.
        ratio_from: unpacked bytes from which the ratio counts: a small bomb is not a bomb.
        unpacked: bytes that a compressed file may unpack to.
        members: files in a zip archive.
        columns: columns of a file; Postgres holds 1,600.
        refused: bytes of refused rows, which are kept in memory until the load ends.
        record: bytes of one row, one JSON value or one XML element.
        workbook: bytes that a workbook may unpack to; it is the one format that is held in memory.
        memory: bytes of memory that a workbook may take, in a process of its own.
    """

    ratio: int = 250
    ratio_from: int = 64 * MB
    unpacked: int = 200 * 1024 * MB
    members: int = 10_000
    columns: int = 1_500
    refused: int = 64 * MB
    record: int = 16 * MB
    workbook: int = 256 * MB
    memory: int = 1024 * MB

    def __post_init__(self) -> None:
        """Check that they are limits."""
        validation.check(self, "Limits", positive=tuple(vars(self)))

    def check_columns(self, number: int, where: str) -> None:
        """Refuse a file with too many columns.

        Raises:
            UnreadableError: it has.
        """
        if number > self.columns:
            raise UnreadableError(f"the file has over {self.columns:,} columns", where, "ask for fewer")

    def check_refused(self, size: int, where: str) -> None:
        """Refuse a file whose refused rows have become too many bytes.

        Raises:
            UnreadableError: they have.
        """
        if size > self.refused:
            raise UnreadableError(f"over {self.refused:,} bytes of its rows are refused", where, "ask the source")
