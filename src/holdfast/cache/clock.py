"""The clock by which freshness is bounded: it goes on while the machine sleeps, and nobody can set it."""

from __future__ import annotations

import time
from functools import partial

# Elsewhere than on Linux the monotonic clock is the nearest there is; on macOS it goes on during sleep too.
boottime = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""Seconds since the machine was started."""
