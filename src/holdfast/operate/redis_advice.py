"""What is wrong with a Redis, or worth knowing, and what to do: rules over its report, no I/O.

Whoever reads them has a cache in it, which nobody trusts and which may be lost at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from holdfast.operate.findings import Finding
from holdfast.operate.redis_state import Problem, RedisServer, Unreachable

CHECK = "redis"
_FULL = 0.95  # of its memory
_CROWDED = 0.9  # of its clients
_POOR = 0.5  # of the look-ups
_ENOUGH = 10_000  # look-ups that say something
_NAMED = 3  # servers of several

_REACHING: dict[Problem, tuple[Literal["note", "wrong"], str, str]] = {
    "login": (
        "wrong",
        "the login is refused",
        "correct user and password in HOLDFAST_REDIS_URL; signs such as @ / : are written as %40 %2F %3A",
    ),
    "certificate": (
        "wrong",
        "TLS does not come about",
        "name the authority that signed the server's certificate: rediss://…?ssl_ca_certs=/path/ca.pem; the name in"
        " the URL must be one of the certificate's",
    ),
    "silent": ("wrong", "it does not answer in time", "see that it runs and is near, or raise HOLDFAST_REDIS_TIMEOUT"),
    "loading": ("note", "it is loading what it had saved", "wait; where that takes long, see what it saves at all"),
    "unreachable": (
        "wrong",
        "it cannot be reached",
        "see that it runs and that HOLDFAST_REDIS_URL is right; everything is read from the database meanwhile",
    ),
}


class _Advice(NamedTuple):
    state: Literal["note", "wrong"]
    detail: str
    do: str


def findings(
    servers: Sequence[RedisServer], unreachable: Sequence[Unreachable], *, is_cluster: bool, prefix: str
) -> list[Finding]:
    """What is to be said of all servers; where nothing is, one finding that all is well."""
    found: dict[_Advice, list[str]] = {}
    is_whole = is_cluster and any(server.cluster_ok for server in servers)
    for lost in unreachable:
        state, detail, do = _REACHING[lost.problem]
        state = "note" if is_whole else state
        found.setdefault(_Advice(state, f"{detail}: {lost.reason}", do), []).append(lost.place)
    for server in servers:
        for advice in _of(server, is_cluster=is_cluster, prefix=prefix):
            found.setdefault(advice, []).append(server.place)
    told = [
        Finding(check=CHECK, state=advice.state, detail=f"{_first(places)}: {advice.detail}", do=advice.do)
        for advice, places in found.items()
    ]
    if not any(finding.state == "wrong" for finding in told) and servers:
        told.insert(0, Finding(check=CHECK, state="ok", detail=_summary(servers)))
    return told


def _of(server: RedisServer, *, is_cluster: bool, prefix: str) -> Iterator[_Advice]:
    if needed := [name for name in server.forbidden if name != "INFO"]:
        commands = " ".join(f"+{name.lower()}" for name in needed)
        detail = f"the user may not use {', '.join(needed)} here, or not with what begins with {prefix}:"
        yield _Advice("wrong", detail, f"ACL SETUSER <user> ~{prefix}:* &{prefix}:* {commands}")
    for answer in server.refused:
        yield _Advice("wrong", f"it refuses what the cache asks: {answer}", "see what it says; reads go on meanwhile")
    if "INFO" in server.forbidden:
        yield _Advice(
            "note", "the user may not use INFO, so nothing is known of how it fares", "ACL SETUSER <user> +info"
        )
        return
    yield from _reach(server, is_cluster=is_cluster)
    yield from _memory(server)
    yield from _persistence(server)
    if server.clients_max and server.clients >= _CROWDED * server.clients_max:
        detail = f"{server.clients:,} of {server.clients_max:,} clients are connected; the next are refused"
        yield _Advice("note", detail, "raise maxclients, or run fewer processes")


def _reach(server: RedisServer, *, is_cluster: bool) -> Iterator[_Advice]:
    if server.in_cluster and not is_cluster:
        do = "write HOLDFAST_REDIS_URL=redis+cluster://host:port, or rediss+cluster:// with TLS"
        yield _Advice("wrong", "it is a part of a cluster, and the URL is that of a single server", do)
    if is_cluster and not server.in_cluster:
        yield _Advice("wrong", "it is no cluster, and the URL says so", "write HOLDFAST_REDIS_URL=redis://host:port")
    if server.cluster_ok is False:
        do = "see CLUSTER INFO and CLUSTER NODES; where a primary and its replicas are gone, start one of them"
        yield _Advice("wrong", "the cluster does not serve every key", do)
    if server.role == "replica" and not is_cluster:
        yield _Advice("wrong", "it is a replica, which refuses writes", "name the primary in HOLDFAST_REDIS_URL")


def _memory(server: RedisServer) -> Iterator[_Advice]:
    if server.memory_max is None:
        detail = "it has no limit of memory (maxmemory), and may grow until the machine has none left"
        yield _Advice("note", detail, "set maxmemory, and maxmemory-policy allkeys-lru")
    elif server.memory_policy == "noeviction":
        is_full = server.memory_used >= _FULL * server.memory_max
        what = "it is full, and keeps nothing new" if is_full else "once it is full it will keep nothing new"
        do = "set maxmemory-policy allkeys-lru: a cache may forget"
        yield _Advice("wrong" if is_full else "note", f"{what} (maxmemory-policy noeviction)", do)
    looked = server.hits + server.misses
    if server.evicted and looked >= _ENOUGH and server.hit_rate is not None and server.hit_rate < _POOR:
        detail = "it drops keys for want of memory, and fewer than half of the look-ups find theirs"
        yield _Advice("note", detail, "raise maxmemory, or keep less: shorter ttl, skip_l2 for what is asked for once")


def _persistence(server: RedisServer) -> Iterator[_Advice]:
    if not server.snapshots.last_ok:
        detail = "its last snapshot (RDB) failed; unless stop-writes-on-bgsave-error is no, it refuses all writes"
        yield _Advice("wrong", detail, 'see its log and its disk; a cache needs no snapshots: CONFIG SET save ""')
    log = server.append_log
    if log.enabled and not (log.last_write_ok and log.last_rewrite_ok):
        yield _Advice("wrong", "it cannot write its log (AOF)", "see its disk; a cache needs none: appendonly no")
    elif log.enabled:
        detail = "it appends every write to a log (AOF), which costs and which a cache that nobody trusts does not need"
        yield _Advice("note", detail, "appendonly no, unless others keep in it what must last")


def _summary(servers: Sequence[RedisServer]) -> str:
    versions = ", ".join(dict.fromkeys(server.version for server in servers))
    primaries = [server for server in servers if server.role == "primary"]
    used = sum(server.memory_used for server in primaries) / 2**20
    count = f"{len(primaries)} primaries and {len(servers) - len(primaries)} replicas, " if len(servers) > 1 else ""
    return f"{versions}, {count}{used:,.0f} MiB in use"


def _first(places: Sequence[str]) -> str:
    return ", ".join(places[:_NAMED]) + (f" and {len(places) - _NAMED} more" if places[_NAMED:] else "")
