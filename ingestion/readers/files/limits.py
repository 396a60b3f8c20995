"""What a file may cost: limits that keep a hostile or broken one from filling memory or disk."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of one file. Honest files stay far below them.

    Attributes:
        ratio: unpacked bytes per packed byte. Text packs to a tenth; deflate reaches at most 1,032.
        ratio_from: unpacked bytes from which the ratio counts: a small bomb is no bomb.
        unpacked: bytes that a compressed file may unpack to.
        members: files in a zip archive.
        record: bytes of one row, one JSON value or one XML element.
        workbook: bytes that a workbook may unpack to; it is the one format that is held in memory.
        memory: bytes of memory that a workbook may take, in a process of its own.
    """

    ratio: int = 250
    ratio_from: int = 64 * MB
    unpacked: int = 200 * 1024 * MB
    members: int = 10_000
    record: int = 16 * MB
    workbook: int = 256 * MB
    memory: int = 1024 * MB
