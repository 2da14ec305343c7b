"""Looking at the Redis that is configured, and emptying it of what is ours."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Any

from holdfast.operate.redis_advice import findings
from holdfast.operate.redis_state import RedisReport, RedisServer, Unreachable, parsed, problem_of
from holdfast.store.redis import Redis, Server, escaped

_LIMIT = 2.0  # seconds that a server may take to tell how it fares


async def examine_redis(redis: Redis) -> RedisReport:
    """How Redis fares. Never raises for a Redis that is gone or refuses: those are findings. It changes nothing."""
    servers = await redis.known()
    looked = await asyncio.gather(*(_look(server, redis) for server in servers))
    answered = [one for one in looked if isinstance(one, RedisServer)]
    unreachable = [one for one in looked if isinstance(one, Unreachable)]
    return RedisReport(
        place=redis.place,
        prefix=redis.prefix,
        is_cluster=redis.is_cluster,
        is_away=redis.is_away,
        servers=answered,
        unreachable=unreachable,
        findings=findings(answered, unreachable, is_cluster=redis.is_cluster, prefix=redis.prefix),
    )


async def drop_our_keys(redis: Redis) -> int:
    """Drop every key that begins with our prefix and no other, by SCAN and UNLINK; returns how many there were.

    Raises:
        Unavailable: a server did not answer, or refused; it says how many keys were dropped until then.
    """
    return await redis.remove_matching(f"{escaped(redis.prefix)}:*")


async def _look(server: Server, redis: Redis) -> RedisServer | Unreachable:
    from redis.exceptions import NoPermissionError, RedisError

    client: Any = server.client
    info: dict[str, Any] = {}
    try:
        async with asyncio.timeout(_LIMIT):
            forbidden, refused = await _tried(client, redis.prefix)
            try:
                info = await client.info()
            except NoPermissionError:
                forbidden.append("INFO")
            cluster_ok = await _cluster_ok(client) if info.get("cluster_enabled") else None
    except (RedisError, OSError, TimeoutError) as error:
        kind, text = type(error).__name__, str(error)
        return Unreachable(place=server.place, problem=problem_of(kind, text), reason=text or kind)
    return parsed(server.place, info, time.time(), cluster_ok=cluster_ok, forbidden=forbidden, refused=refused)


async def _tried(client: Any, prefix: str) -> tuple[list[str], list[str]]:
    """The commands of the cache that the user may not use, and what else was answered in place of doing them.

    They are tried with a key that is not there, so that nothing changes.
    """
    from redis.exceptions import AskError, ClusterDownError, NoPermissionError, ReadOnlyError

    name = f"{prefix}:doctor:{secrets.token_hex(8)}"
    pipeline = client.pipeline(transaction=False)
    tried = {
        "GET": pipeline.get(name),
        "MGET": pipeline.mget([name]),
        "SET": pipeline.set(name, "", px=1, xx=True),
        "PTTL": pipeline.pttl(name),
        "DEL": pipeline.delete(name),
        "UNLINK": pipeline.unlink(name),
        "EVAL": pipeline.eval("return redis.call('GET', KEYS[1])", 1, name),
        "SCAN": pipeline.scan(0, name, 1),
        "PUBLISH": pipeline.publish(name, ""),
    }
    answers = await pipeline.execute(raise_on_error=False)
    forbidden: list[str] = []
    refused: dict[str, None] = {}
    for command, answer in zip(tried, answers, strict=True):
        if isinstance(answer, NoPermissionError):
            forbidden.append(command)
        # A server of a cluster that has not this key, a replica, and a cluster that is down are told of otherwise.
        elif isinstance(answer, Exception) and not isinstance(answer, AskError | ReadOnlyError | ClusterDownError):
            refused[str(answer)] = None
    try:
        pubsub = client.pubsub()
        try:
            await pubsub.subscribe(name)
            await pubsub.get_message(timeout=_LIMIT)
        finally:
            await pubsub.aclose()
    except NoPermissionError:
        forbidden.append("SUBSCRIBE")
    return forbidden, list(refused)


async def _cluster_ok(client: Any) -> bool | None:
    from redis.exceptions import ResponseError

    with contextlib.suppress(ResponseError):
        answer = await client.execute_command("CLUSTER", "INFO")
        return "cluster_state:ok" in (answer.decode() if isinstance(answer, bytes) else str(answer))
    return None
