"""How a Redis fares: what its servers say of themselves, as typed records. Rules only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from holdfast.operate.findings import Finding

Problem = Literal["login", "certificate", "silent", "loading", "unreachable"]


class Snapshots(msgspec.Struct, frozen=True, kw_only=True):
    """RDB: the snapshots that a server saves of everything it has.

    Attributes:
        age: seconds since the last one was saved, or since the start where none was.
        last_ok: whether the last attempt succeeded.
        changes: since the last one.
        saving: whether one is being saved now.
    """

    age: float
    last_ok: bool
    changes: int
    saving: bool


class AppendLog(msgspec.Struct, frozen=True, kw_only=True):
    """AOF: the file to which a server appends every write.

    Attributes:
        last_write_ok, last_rewrite_ok: whether the last attempts succeeded.
    """

    enabled: bool
    last_write_ok: bool
    last_rewrite_ok: bool


class RedisServer(msgspec.Struct, frozen=True, kw_only=True):
    """One server, by its INFO.

    Attributes:
        version: with the program's name: `redis 7.0.15`, `valkey 9.1.2`.
        role: `primary` or `replica`.
        uptime: seconds.
        memory_used, memory_peak, memory_max: bytes; the last None where there is no limit.
        memory_policy: what is dropped when memory is full: `allkeys-lru`, `noeviction`.
        hit_rate: of the look-ups since the start the share that found a key; None where there were none.
        commands_per_second: now; `commands` since the start.
        evicted, expired: keys since the start.
        keys: in all databases.
        in_cluster: whether it runs as a part of a cluster.
        cluster_ok: whether that serves every key; None where it is not known.
        forbidden: commands that the cache needs and the user may not use here, or not with our keys.
        refused: what else it answered to them in place of doing so.
    """

    place: str
    version: str
    role: Literal["primary", "replica"]
    uptime: float
    clients: int
    clients_max: int | None
    memory_used: int
    memory_peak: int
    memory_max: int | None
    memory_policy: str
    hits: int
    misses: int
    hit_rate: float | None
    commands: int
    commands_per_second: int
    evicted: int
    expired: int
    keys: int
    snapshots: Snapshots
    append_log: AppendLog
    in_cluster: bool
    cluster_ok: bool | None = None
    forbidden: list[str] = []
    refused: list[str] = []


class Unreachable(msgspec.Struct, frozen=True, kw_only=True):
    """A server that told nothing of itself."""

    place: str
    problem: Problem
    reason: str


class RedisReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the Redis that is configured fares.

    Attributes:
        place: the URL without password.
        prefix: what our keys begin with.
        is_cluster: whether the URL says that it is one.
        is_away: whether this process is leaving it alone just now.
        servers: those that answered, replicas of a cluster too.
        findings: what is wrong and what is worth knowing, with what to do.
    """

    place: str
    prefix: str
    is_cluster: bool
    is_away: bool
    servers: list[RedisServer]
    unreachable: list[Unreachable]
    findings: list[Finding]


def parsed(
    place: str,
    info: Mapping[str, Any],
    now: float,
    *,
    cluster_ok: bool | None = None,
    forbidden: list[str] | None = None,
    refused: list[str] | None = None,
) -> RedisServer:
    """A server by what INFO says, as redis-py reads it; `now` is Unix time. What an old server does not say is 0."""

    def number(name: str) -> int:
        value = info.get(name, 0)
        return int(value) if isinstance(value, int | float) else 0

    def is_ok(name: str) -> bool:
        return str(info.get(name, "ok")) == "ok"

    hits, misses = number("keyspace_hits"), number("keyspace_misses")
    name = "valkey" if "valkey_version" in info else str(info.get("server_name", "redis"))
    databases = [value for key, value in info.items() if key.startswith("db") and isinstance(value, Mapping)]
    saved = number("rdb_last_save_time")
    return RedisServer(
        place=place,
        version=f"{name} {info.get('valkey_version', info.get('redis_version', '?'))}",
        role="replica" if info.get("role") == "slave" else "primary",
        uptime=float(number("uptime_in_seconds")),
        clients=number("connected_clients"),
        clients_max=number("maxclients") or None,
        memory_used=number("used_memory"),
        memory_peak=number("used_memory_peak"),
        memory_max=number("maxmemory") or None,
        memory_policy=str(info.get("maxmemory_policy", "?")),
        hits=hits,
        misses=misses,
        hit_rate=hits / (hits + misses) if hits + misses else None,
        commands=number("total_commands_processed"),
        commands_per_second=number("instantaneous_ops_per_sec"),
        evicted=number("evicted_keys"),
        expired=number("expired_keys"),
        keys=sum(int(database.get("keys", 0)) for database in databases),
        snapshots=Snapshots(
            age=max(0.0, now - saved) if saved else 0.0,
            last_ok=is_ok("rdb_last_bgsave_status"),
            changes=number("rdb_changes_since_last_save"),
            saving=bool(number("rdb_bgsave_in_progress")),
        ),
        append_log=AppendLog(
            enabled=bool(number("aof_enabled")),
            last_write_ok=is_ok("aof_last_write_status"),
            last_rewrite_ok=is_ok("aof_last_bgrewrite_status"),
        ),
        in_cluster=bool(number("cluster_enabled")),
        cluster_ok=cluster_ok,
        forbidden=forbidden or [],
        refused=refused or [],
    )


def problem_of(kind: str, text: str) -> Problem:
    """What keeps a server from answering, by the class of the error and its text."""
    if kind.startswith("Authentication") or any(sign in text for sign in ("WRONGPASS", "NOAUTH", "invalid password")):
        return "login"
    if "SSL" in text or "certificate" in text or "No such file" in text:
        return "certificate"
    if kind == "BusyLoadingError":
        return "loading"
    return "silent" if "Timeout" in kind else "unreachable"
