"""Log sequence numbers: as Postgres writes them, and as the bytes that they count."""

from __future__ import annotations


def lsn_text(lsn: int) -> str:
    """Return a log sequence number as Postgres writes it: 0/16B3748."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """Return the bytes that a log sequence number counts."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)
