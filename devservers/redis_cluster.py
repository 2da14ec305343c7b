"""A Redis Cluster of three primaries, each with a replica, on 127.0.0.1."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from devservers.errors import ServerError
from devservers.process import START_SECONDS, free_port
from devservers.redis import RedisServer, start_redis

_PRIMARIES = 3
_SLOTS = 16_384


class RedisCluster:
    """A running cluster. Ends with `stop()`, with the block, or with this process.

    Attributes:
        servers: the three primaries, then the replica of each, as it was at the start.
    """

    def __init__(self, servers: list[RedisServer]) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        """`redis+cluster://127.0.0.1:PORT,127.0.0.1:PORT,…` of the servers of the start."""
        return "redis+cluster://" + ",".join(f"{server.host}:{server.port}" for server in self.servers)

    def primaries(self) -> list[RedisServer]:
        """The servers that are primaries now."""
        return [one for one in self.servers if one.alive() and "role:master" in one.text("INFO replication")]

    def clear(self) -> None:
        """Forget every key."""
        for server in self.primaries():
            server.clear()

    def stop(self) -> None:
        """End all servers."""
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_redis_cluster(*, patience: float = 10.0) -> RedisCluster:
    """Start six servers and have three be the replicas of the others.

    Args:
        patience: seconds after which a server that does not answer the others counts as dead, and is replaced.

    Raises `ServerError` when there is no Redis, or it takes too long.
    """
    servers: list[RedisServer] = []
    try:
        buses = {}
        for _ in range(2 * _PRIMARIES):
            server, bus = _started(patience)
            servers.append(server)
            buses[server.port] = bus
        cluster = RedisCluster(servers)
        for number in range(_PRIMARIES):
            first, end = _SLOTS * number // _PRIMARIES, _SLOTS * (number + 1) // _PRIMARIES
            _done(servers[number], f"CLUSTER ADDSLOTSRANGE {first} {end - 1}")
        for number, server in enumerate(servers):
            _done(server, f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
        for server in servers[1:]:
            _done(servers[0], f"CLUSTER MEET 127.0.0.1 {server.port} {buses[server.port]}")
        for server in servers:
            _wait(server, lambda one: _know_each_other(one, len(servers)))
        for primary, replica in zip(servers[:_PRIMARIES], servers[_PRIMARIES:], strict=True):
            _done(replica, f"CLUSTER REPLICATE {primary.text('CLUSTER MYID')}")
        for server in servers:
            _wait(server, _is_ready)
        return cluster
    except BaseException:
        for server in servers:
            server.stop()
        raise


def _started(patience: float) -> tuple[RedisServer, int]:
    """A server, and the port on which the others talk to it."""
    for attempt in range(3):
        bus = free_port()
        try:
            server = start_redis(
                *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", str(bus)),
                *("--cluster-node-timeout", str(round(patience * 1_000)), "--cluster-replica-validity-factor", "0"),
                *("--repl-diskless-sync-delay", "0"),
            )
        except ServerError:  # another process may take the free port first, and a connection too
            if attempt == 2:
                raise
        else:
            return server, bus
    raise AssertionError


def _done(server: RedisServer, line: str) -> None:
    answer = server.command(line)
    if answer != "+OK":
        raise ServerError(f"a server of the cluster answered {line!r} with {answer}")


def _wait(server: RedisServer, ready: Callable[[RedisServer], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready(server):
        if not server.alive() or time.monotonic() > deadline:
            raise ServerError(f"the cluster did not come about:\n{server.text('CLUSTER NODES')}")
        time.sleep(0.05)


def _know_each_other(server: RedisServer, count: int) -> bool:
    nodes = server.text("CLUSTER NODES").splitlines()
    return len(nodes) == count and not any("handshake" in node for node in nodes)


def _is_ready(server: RedisServer) -> bool:
    roles = [node.split()[2] for node in server.text("CLUSTER NODES").splitlines()]
    linked = "master_link_status:down" not in server.text("INFO replication")
    is_ok = "cluster_state:ok" in server.text("CLUSTER INFO")
    return is_ok and linked and sum("slave" in role for role in roles) == len(roles) - _PRIMARIES
