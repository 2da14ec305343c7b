"""Whom a backfill is in the way of: those who wait for locks, replicas and followers that fall behind."""

from __future__ import annotations

import time

from sqlalchemy import text

from holdfast.journal.status import status as journal_status
from holdfast.logs import get_logger
from holdfast.store import Store

log = get_logger("holdfast.migrate")

_WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
# What a role may not see of a replica is NULL there.
_REPLICAS = """
    SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS written, min(replay_lsn - '0/0'::pg_lsn) AS replayed,
        count(*) AS replicas, coalesce(max(extract(epoch FROM replay_lag)), 0) AS lag
    FROM pg_stat_replication
"""


class Trail:
    """When the primary had come how far, from which follows since when a replica is behind.

    A replica that stands still reports no lag of its own: the server measures it when something is replayed.
    """

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def behind(self, now: float, written: int, replayed: int) -> float:
        """Seconds since the primary went beyond what is replayed; all times are of one clock."""
        self._marks = [mark for mark in self._marks if mark[1] > replayed]
        if written > replayed and (not self._marks or self._marks[-1][1] < written):
            self._marks.append((now, written))
        return now - self._marks[0][0] if self._marks else 0.0


class Neighbours:
    """The others on the database of one backfill.

    Attributes:
        waiting: whether somebody waited for a lock when it was looked last.
    """

    def __init__(self, store: Store, *, max_replica_lag: float, max_follower_lag: float | None) -> None:
        self._store = store
        self._replica_lag = max_replica_lag
        self._follower_lag = max_follower_lag
        self._trail = Trail()
        self._is_told = False
        self.waiting = False

    async def behind(self) -> str | None:
        """Look around; who is further behind than it may be, in words, None when nobody is."""
        if self._store.dialect == "postgresql":
            async with self._store.connect() as connection:
                self.waiting = bool((await connection.execute(text(_WAITING))).scalar_one())
                seen = (await connection.execute(text(_REPLICAS))).one()
            lag = float(seen.lag)
            if seen.replayed is not None:
                lag = max(lag, self._trail.behind(time.monotonic(), int(seen.written), int(seen.replayed)))
            elif seen.replicas and not self._is_told:
                self._is_told = True
                log.warning("replicas_not_seen", do="GRANT pg_monitor to the role that migrates, to wait for replicas")
            if lag > self._replica_lag:
                return f"a replica, by {lag:.0f} s"
        if self._follower_lag is not None:
            for follower in (await journal_status(self._store)).followers:
                if follower.lag_seconds > self._follower_lag:
                    return f"the follower {follower.name}, by {follower.lag_seconds:.0f} s"
        return None
