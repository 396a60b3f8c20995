"""How often one may ask: a token bucket.

A bucket holds up to `burst` tokens and gains `per_second` of them; a request takes one, or waits for one.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Limit:
    """Requests per second in the long run, and at once after a pause.

    The whole year in pages of the default size takes about 200 requests, so who reads it once never waits.
    """

    per_second: float = 100
    burst: int = 300


class Meter:
    """The bucket of one caller; may be asked from many threads."""

    def __init__(self, limit: Limit, now: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._now = limit, now
        self._tokens, self._at = float(limit.burst), now()
        self._lock = Lock()

    def seconds_to_wait(self) -> int:
        """Take a token and return 0, or take none and return after how many whole seconds there is one."""
        with self._lock:
            now = self._now()
            gained = (now - self._at) * self._limit.per_second
            self._tokens, self._at = min(self._limit.burst, self._tokens + gained), now
            if self._tokens >= 1:
                self._tokens -= 1
                return 0
            return math.ceil((1 - self._tokens) / self._limit.per_second)
