"""How a Redis fares: typed, advised, and told without its secrets."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import MetaData

from devservers import RedisCluster, RedisServer, start_redis, start_redis_cluster
from devservers.process import free_port
from devservers.relay import relay
from holdfast import Holdfast, Load
from holdfast.errors import Unavailable
from holdfast.operate import Finding, RedisReport
from holdfast.operate.redis_advice import findings
from holdfast.operate.redis_state import Unreachable, parsed, problem_of
from tests.backends import settings_for
from tests.logs import capture_logs
from tests.store.certificates import authority

SECRET = "s3cr:t/@"
WRITTEN = "s3cr%3At%2F%40"
GUIDE = Path(__file__).parents[2] / "docs/guides/cache.md"
COMMANDS = "+get +mget +set +pttl +del +unlink +eval +scan +ping +publish +subscribe +unsubscribe +info"
GRANTED = f"~holdfast:* &holdfast:* {COMMANDS}"
INFO: dict[str, Any] = {
    "redis_version": "7.2.4",
    "role": "master",
    "uptime_in_seconds": 3_600,
    "connected_clients": 3,
    "maxclients": 10_000,
    "used_memory": 50 * 2**20,
    "used_memory_peak": 60 * 2**20,
    "maxmemory": 100 * 2**20,
    "maxmemory_policy": "allkeys-lru",
    "keyspace_hits": 900,
    "keyspace_misses": 100,
    "total_commands_processed": 5_000,
    "instantaneous_ops_per_sec": 12,
    "evicted_keys": 7,
    "expired_keys": 8,
    "rdb_last_save_time": 1_000,
    "rdb_last_bgsave_status": "ok",
    "rdb_changes_since_last_save": 42,
    "rdb_bgsave_in_progress": 0,
    "aof_enabled": 0,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "db0": {"keys": 10, "expires": 10},
    "db3": {"keys": 5, "expires": 0},
}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of the test's own, as one would set up a cache."""
    with start_redis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as server:
        yield server


@asynccontextmanager
async def opened(url: str | None, sqlite_url: str, **given: Any) -> AsyncIterator[Holdfast]:
    settings = settings_for(sqlite_url, redis_url=url, **{"redis_timeout": 5.0, **given})
    async with await Holdfast.open(settings=settings, metadata=MetaData()) as hold:
        yield hold


async def report_of(url: str, sqlite_url: str, **given: Any) -> RedisReport:
    async with opened(url, sqlite_url, **given) as hold:
        report = await hold.redis_report()
        assert report is not None
        told = (await hold.examiner().examine()).findings
        assert [said(finding) for finding in told if finding.check == "redis"] == list(map(said, report.findings))
    for secret in (SECRET, WRITTEN):
        assert secret not in msgspec.json.encode(report).decode()
    return report


def said(finding: Finding) -> tuple[str, str, str | None]:
    """A finding, but for how much memory is in use: that may change from one moment to the next."""
    return finding.state, finding.detail.rpartition(", ")[0] if finding.state == "ok" else finding.detail, finding.do


def advised(**changed: Any) -> dict[str, str]:
    """What is said of a server whose INFO differs so, by state."""
    given = {name: changed.pop(name) for name in ("cluster_ok", "forbidden", "refused") if name in changed}
    is_cluster = changed.pop("is_cluster", False)
    server = parsed("redis://a/0", INFO | changed, 1_060.0, **given)
    told = findings([server], [], is_cluster=is_cluster, prefix="holdfast")
    return {finding.state: f"{finding.detail} → {finding.do}" for finding in told}


def test_what_info_says_is_typed() -> None:
    server = parsed("redis://a/0", INFO, 1_060.0)
    assert (server.version, server.role, server.uptime, server.clients) == ("redis 7.2.4", "primary", 3_600.0, 3)
    assert (server.memory_used, server.memory_peak, server.memory_max) == (52_428_800, 62_914_560, 104_857_600)
    assert (server.hit_rate, server.commands_per_second, server.evicted, server.expired) == (0.9, 12, 7, 8)
    assert server.keys == 15
    assert msgspec.to_builtins(server.snapshots) == {"age": 60.0, "last_ok": True, "changes": 42, "saving": False}
    assert msgspec.to_builtins(server.append_log) == {
        "enabled": False,
        "last_write_ok": True,
        "last_rewrite_ok": True,
    }
    valkey = parsed("a", INFO | {"valkey_version": "9.1.2", "server_name": "valkey", "maxmemory": 0}, 1_060.0)
    assert (valkey.version, valkey.memory_max) == ("valkey 9.1.2", None)
    silent = parsed("a", {}, 0.0)
    assert (silent.hit_rate, silent.keys, silent.snapshots.age, silent.snapshots.last_ok) == (None, 0, 0.0, True)


def test_a_server_that_is_set_up_as_a_cache_needs_no_advice() -> None:
    assert advised() == {"ok": "redis 7.2.4, 50 MiB in use → None"}


@pytest.mark.parametrize(
    ("changed", "state", "said"),
    [
        ({"maxmemory": 0}, "note", "no limit of memory"),
        ({"maxmemory_policy": "noeviction"}, "note", "once it is full"),
        ({"maxmemory_policy": "noeviction", "used_memory": 99 * 2**20}, "wrong", "it is full, and keeps nothing new"),
        ({"rdb_last_bgsave_status": "err"}, "wrong", "snapshot (RDB) failed"),
        ({"aof_enabled": 1}, "note", "appends every write to a log (AOF)"),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "wrong", "cannot write its log (AOF)"),
        ({"connected_clients": 9_500}, "note", "9,500 of 10,000 clients"),
        ({"keyspace_hits": 1, "keyspace_misses": 20_000}, "note", "fewer than half"),
        ({"role": "slave"}, "wrong", "it is a replica"),
        ({"cluster_enabled": 1}, "wrong", "part of a cluster"),
        ({"is_cluster": True}, "wrong", "it is no cluster"),
        ({"cluster_enabled": 1, "is_cluster": True, "cluster_ok": False}, "wrong", "does not serve every key"),
        ({"forbidden": ["SET", "EVAL"]}, "wrong", "~holdfast:* &holdfast:* +set +eval"),
        ({"forbidden": ["INFO"], "maxmemory": 0}, "note", "the user may not use INFO"),
        ({"refused": ["MISCONF Errors writing"]}, "wrong", "MISCONF"),
    ],
)
def test_what_is_wrong_is_said_and_what_to_do(changed: dict[str, Any], state: str, said: str) -> None:
    told = advised(**changed)
    assert said in told[state]
    assert ("ok" in told) is (state == "note")
    assert "→ None" not in told[state]


def test_the_same_advice_for_many_servers_is_given_once() -> None:
    servers = [parsed(f"redis://{name}/0", INFO | {"maxmemory": 0}, 0.0) for name in "abcde"]
    told = findings(servers, [], is_cluster=False, prefix="holdfast")
    assert [finding.state for finding in told] == ["ok", "note"]
    assert told[1].detail.startswith("redis://a/0, redis://b/0, redis://c/0 and 2 more: ")


def test_a_server_of_a_cluster_that_is_gone_breaks_nothing_where_the_others_serve_every_key() -> None:
    lost = [Unreachable(place="redis://b/0", problem="unreachable", reason="Connection refused")]
    for cluster_ok, state in ((True, "note"), (False, "wrong")):
        servers = [parsed("redis://a/0", INFO | {"cluster_enabled": 1}, 0.0, cluster_ok=cluster_ok)]
        told = findings(servers, lost, is_cluster=True, prefix="holdfast")
        assert [finding.state for finding in told if "redis://b/0" in finding.detail] == [state]


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("AuthenticationError", "invalid username-password pair or user is disabled.", "login"),
        ("ResponseError", "WRONGPASS invalid username-password pair", "login"),
        ("ConnectionError", "Error 1 connecting to a:1. [SSL: CERTIFICATE_VERIFY_FAILED]", "certificate"),
        ("TimeoutError", "Timeout connecting to server", "silent"),
        ("BusyLoadingError", "Redis is loading the dataset in memory", "loading"),
        ("ConnectionError", "Error 111 connecting to a:1.", "unreachable"),
    ],
)
def test_why_a_server_does_not_answer_is_told_apart(kind: str, text: str, problem: str) -> None:
    assert problem_of(kind, text) == problem


async def test_without_redis_there_is_no_report(sqlite_url: str) -> None:
    async with opened(None, sqlite_url) as hold:
        assert await hold.redis_report() is None
        assert await hold.flush_redis() == 0


async def test_a_real_server(server: RedisServer, sqlite_url: str) -> None:
    report = await report_of(server.url, sqlite_url)
    [one] = report.servers
    assert [finding.state for finding in report.findings] == ["ok"]
    assert one.version.split()[0] in ("redis", "valkey")
    assert one.memory_max == 64 * 2**20
    assert one.clients >= 1
    assert (one.forbidden, one.refused, one.keys) == ([], [], 0)  # and it left nothing there
    for setting in ("maxmemory 0", "appendonly yes"):
        assert server.command(f"CONFIG SET {setting}") == "+OK"
    report = await report_of(server.url, sqlite_url)
    assert [finding.state for finding in report.findings] == ["ok", "note", "note"]
    assert report.servers[0].append_log.enabled
    server.command("CONFIG SET maxmemory 1")
    server.command("CONFIG SET maxmemory-policy noeviction")
    report = await report_of(server.url, sqlite_url)
    assert report.servers[0].refused
    assert "wrong" in [finding.state for finding in report.findings]


async def wrong(url: str, sqlite_url: str, **given: Any) -> Finding:
    report = await report_of(url, sqlite_url, **given)
    [finding] = report.findings
    assert finding.state == "wrong"
    return finding


async def test_a_login_that_is_refused_is_a_finding(server: RedisServer, sqlite_url: str) -> None:
    place = f"{server.host}:{server.port}/0"
    assert server.command(f"ACL SETUSER cache on >{SECRET} ~holdfast:* &holdfast:* +@all") == "+OK"
    assert (await report_of(f"redis://cache:{WRITTEN}@{place}", sqlite_url)).findings[0].state == "ok"
    for login in (f"nobody:{WRITTEN}", f"cache:{WRITTEN}x"):
        finding = await wrong(f"redis://{login}@{place}", sqlite_url)
        assert "the login is refused" in finding.detail
        assert f"redis://{login.partition(':')[0]}:***@{place}" in finding.detail
        assert "HOLDFAST_REDIS_URL" in (finding.do or "")
    server.command(f"ACL SETUSER default >{SECRET} resetpass >{SECRET}")
    assert "the login is refused" in (await wrong(f"redis://{place}", sqlite_url)).detail


async def test_what_a_user_may_not_do_is_a_finding(server: RedisServer, sqlite_url: str) -> None:
    url = f"redis://cache:{WRITTEN}@{server.host}:{server.port}/0"
    server.command(f"ACL SETUSER cache on >{SECRET} ~holdfast:* &holdfast:* +@all -set -eval -info")
    report = await report_of(url, sqlite_url)
    assert report.servers[0].forbidden == ["SET", "EVAL", "INFO"]
    assert [finding.state for finding in report.findings] == ["wrong", "note"]
    assert report.findings[0].do == "ACL SETUSER <user> ~holdfast:* &holdfast:* +set +eval"
    server.command("ACL SETUSER cache reset on +@all ~other:* &other:*")
    server.command(f"ACL SETUSER cache >{SECRET}")
    report = await report_of(url, sqlite_url)
    needed = ["GET", "MGET", "SET", "PTTL", "DEL", "UNLINK", "EVAL", "PUBLISH", "SUBSCRIBE"]
    assert report.servers[0].forbidden == needed


def test_the_guide_says_which_commands_a_user_needs() -> None:
    assert GRANTED in " ".join(GUIDE.read_text().split())


async def test_a_user_needs_no_more_than_the_guide_says(server: RedisServer, sqlite_url: str) -> None:
    assert server.command(f"ACL SETUSER cache on >{SECRET} {GRANTED}") == "+OK"
    url = f"redis://cache:{WRITTEN}@{server.host}:{server.port}/0"
    report = await report_of(url, sqlite_url)
    assert [finding.state for finding in report.findings] == ["ok"]
    with capture_logs() as logs:
        async with opened(url, sqlite_url) as hold, opened(url, sqlite_url) as other:

            async def load(load: Load) -> str:
                await asyncio.sleep(0.1)
                return load.key

            keys = [f"k:{number}" for number in range(10)]
            for node in (hold, other):
                await asyncio.gather(*(node.cache.get_or_load(key, load) for key in keys))
            await asyncio.gather(*(node.cache.get_or_load("turn", load) for node in (hold, other)))
            assert await hold.cache.get_many(keys) == {key: key for key in keys}
            await hold.cache.set_many({"a": 1, "b": 2})
            assert await hold.cache.remove_matching("k:*") == 10
            assert await hold.flush_redis() >= 3
    assert [log for log in logs if log["event"].startswith("redis_")] == []


async def test_a_certificate_that_is_not_trusted_is_a_finding(
    server: RedisServer, sqlite_url: str, tmp_path: Path
) -> None:
    file, context = authority(tmp_path, "ours")
    other, _ = authority(tmp_path, "theirs")
    async with relay(server.host, server.port, tls=context) as line:
        url = f"rediss://127.0.0.1:{line.port}/0"
        assert (await report_of(f"{url}?ssl_ca_certs={file}", sqlite_url)).findings[0].state == "ok"
        for query in ("", f"?ssl_ca_certs={other}", "?ssl_ca_certs=/nowhere.pem"):
            finding = await wrong(url + query, sqlite_url)
            assert "TLS does not come about" in finding.detail
            assert "?ssl_ca_certs=" in (finding.do or "")


async def test_a_server_that_is_gone_or_says_nothing_is_a_finding(server: RedisServer, sqlite_url: str) -> None:
    finding = await wrong(f"redis://:{WRITTEN}@127.0.0.1:{free_port()}/0", sqlite_url)
    assert "it cannot be reached" in finding.detail
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert "it does not answer in time" in (await wrong(server.url, sqlite_url, redis_timeout=0.25)).detail
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_an_emergency_drops_what_is_ours_and_nothing_else(any_redis_url: str, sqlite_url: str) -> None:
    async with (
        opened(any_redis_url, sqlite_url, redis_prefix="app[1]") as hold,
        opened(any_redis_url, sqlite_url, redis_prefix="app1") as theirs,
    ):
        for number in range(2_500):
            await hold.cache.set(f"k:{number}", number)
        await theirs.cache.set("k", "theirs")
        assert await hold.flush_redis() == 2_500
        assert await hold.flush_redis() == 0
        assert await theirs.flush_redis() == 1


async def test_an_emergency_that_meets_no_redis_says_so(server: RedisServer, sqlite_url: str) -> None:
    async with opened(server.url, sqlite_url) as hold:
        server.stop()
        with pytest.raises(Unavailable, match=r"was not cleaned up \(.*\); 0 keys were dropped"):
            await hold.flush_redis()


async def test_a_cluster_tells_of_all_its_servers(redis_cluster: RedisCluster, sqlite_url: str) -> None:
    report = await report_of(redis_cluster.url, sqlite_url)
    assert sorted(server.role for server in report.servers) == ["primary"] * 3 + ["replica"] * 3
    assert {server.cluster_ok for server in report.servers} == {True}
    assert [finding.state for finding in report.findings] == ["ok", "note"]  # the note: no limit of memory
    assert "3 primaries and 3 replicas" in report.findings[0].detail
    single = redis_cluster.url.replace("+cluster", "").partition(",")[0] + "/0"
    [finding] = [one for one in (await report_of(single, sqlite_url)).findings if one.state == "wrong"]
    assert "redis+cluster://" in (finding.do or "")


async def test_a_url_of_a_cluster_that_is_none_is_a_finding(server: RedisServer, sqlite_url: str) -> None:
    finding = await wrong(f"redis+cluster://{server.host}:{server.port}", sqlite_url)
    assert "it is no cluster" in finding.detail


async def test_a_cluster_that_does_not_serve_every_key_is_a_finding(sqlite_url: str) -> None:
    with start_redis_cluster(patience=1.5) as cluster:
        for server in (cluster.servers[0], cluster.servers[3]):
            server.stop()
        async with opened(cluster.url, sqlite_url) as hold, asyncio.timeout(30):
            while True:
                report = await hold.redis_report()
                assert report is not None
                if any("does not serve every key" in finding.detail for finding in report.findings):
                    break
                await asyncio.sleep(0.2)
        assert len(report.unreachable) == 2
