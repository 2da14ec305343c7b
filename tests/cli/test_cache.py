"""`holdfast cache`: what a service has counted, emptying, warming, and how fast it is."""

from __future__ import annotations

from tests.cli.command import Shell, fetch

SHOP = """
from holdfast import Key, cached, warms

USER = Key("shop.user", "user:{user_id}", ttl="5m", tags=("users:{user_id}",), about="who somebody is")

@cached(key="price:{symbol}", ttl="60s")
async def price(symbol: str) -> float:
    if symbol == "BAD":
        raise OSError("no price")
    return 1.0

@warms(price, every="30s")
async def quoted() -> list[str]:
    return ["BTC", "ETH"]

@warms(price)
async def broken() -> list[str]:
    return ["BAD"]
"""
EVENTS = "SELECT body FROM holdfast_journal ORDER BY seq"


def test_what_is_declared_is_warmed_and_what_failed_is_told(shell: Shell, redis_url: str, database_url: str) -> None:
    (shell.folder / "shop.py").write_text(SHOP)
    env = {"HOLDFAST_MODELS": "shop", "HOLDFAST_DATABASE_URL": database_url, "HOLDFAST_REDIS_URL": redis_url}
    assert shell.run("migrate", "up", **env).code == 0
    done = shell.run("cache", "warm", "--json", HOLDFAST_REDIS_TIMEOUT="5", **env)
    assert done.code == 3
    assert {line["name"]: (line["loaded"], line["kept"], line["failed"]) for line in done.lines} == {
        "shop.quoted": (2, 0, 0),
        "shop.broken": (0, 0, 1),
    }
    again = shell.run("cache", "warm", "shop.quoted", HOLDFAST_REDIS_TIMEOUT="5", **env)
    assert (again.code, "shop.quoted: 0 loaded, 2 kept, 0 failed" in again.out) == (0, True)
    assert shell.run("cache", "warm", "shop.broken", **env).code == 1
    wrong = shell.run("cache", "warm", "none", **env)
    assert (wrong.code, wrong.out) == (1, "")
    assert "there is no set 'none' to warm; there are shop.quoted, shop.broken" in wrong.err


def test_values_are_ended_by_an_event(shell: Shell, database_url: str) -> None:
    env = {"HOLDFAST_DATABASE_URL": database_url}
    assert shell.run("migrate", "up", **env).code == 0
    assert shell.run("cache", "clear", "--tag", "a", "--tag", "b", **env).out == "Ended on every node.\n"
    assert shell.run("cache", "clear", "--all", "--json", **env).json == {"cleared": "all", "removed_from_redis": None}
    assert shell.run("cache", "clear", "--key", "k", **env).code == 0
    found = [str(row) for row in fetch(database_url, EVENTS)]
    assert len(found) == 3
    assert "a" in found[0] and "*" in found[1] and "=k" in found[2]  # noqa: PT018
    assert "Removed 0 values" in shell.run("cache", "clear", "--matching", "a*", **env).out
    for wrong in ([], ["--tag", "a", "--all"]):
        outcome = shell.run("cache", "clear", *wrong, **env)
        assert (outcome.code, outcome.out) == (2, "")
    assert shell.run("cache", "clear", "--tag", "", **env).code == 1


def test_how_fast_it_is_is_measured(shell: Shell, database_url: str) -> None:
    env = {"HOLDFAST_DATABASE_URL": database_url}
    assert shell.run("migrate", "up", **env).code == 0
    found = shell.run("cache", "bench", "health", "basic", "--json", **env).json
    assert [check["ok"] for check in found["health"]] == [True, True, True]
    assert [one["operation"] for one in found["basic"]] == ["set", "read from memory", "load", "delete"]
    told = shell.run("cache", "bench", "health", **env)
    assert (told.code, "memory: ok" in told.out) == (0, True)
    wrong = shell.run("cache", "bench", "speed", **env)
    assert (wrong.code, "'speed' is no test" in wrong.err) == (1, True)


def test_what_a_service_has_counted_is_asked_of_it(shell: Shell) -> None:
    (shell.folder / "shop.py").write_text(SHOP)
    env = {"HOLDFAST_MODELS": "shop"}
    nobody = shell.run("cache", "stats", "--url", "http://127.0.0.1:1")
    assert (nobody.code, "no service answers at http://127.0.0.1:1" in nobody.err) == (1, True)
    assert shell.run("cache", "stats", "--url", "nowhere").code == 1
    with shell.up("--no-sample", **env) as service:
        service.becomes("/admin/cache/metrics", lambda status, body: body["total"]["loads"] == 2)
        told = shell.run("cache", "stats", "--url", service.url)
        assert told.code == 0
        assert "0 reads in the last hour; 2 loads" in told.out
        assert "price:{symbol}" in told.out
        known = {line["name"]: line for line in shell.run("cache", "keys", "--url", service.url, "--json", **env).lines}
        assert (known["shop.price"]["read"], known["shop.user"]["read"]) == (False, False)
        assert known["shop.user"]["ttl"] == 300
        wrong = shell.run("cache", "stats", "--url", service.url, "--span", "week")
        assert (wrong.code, "span='week'" in wrong.err) == (1, True)


def test_what_is_cached_is_listed(shell: Shell) -> None:
    (shell.folder / "shop.py").write_text(SHOP)
    listed = shell.run("cache", "keys", HOLDFAST_MODELS="shop")
    assert listed.code == 0
    assert "price:{symbol}" in listed.out
    assert "users:{user_id}" in listed.out
    lines = {line["name"]: line for line in shell.run("cache", "keys", "--json", HOLDFAST_MODELS="shop").lines}
    assert lines["shop.user"]["used_by"] == []
    assert lines["shop.price"]["read"] is None


def test_a_redis_that_does_not_answer_is_told(shell: Shell, database_url: str) -> None:
    (shell.folder / "shop.py").write_text(SHOP)
    env = {
        "HOLDFAST_MODELS": "shop",
        "HOLDFAST_DATABASE_URL": database_url,
        "HOLDFAST_REDIS_URL": "redis://127.0.0.1:1",
    }
    assert shell.run("migrate", "up", **env).code == 0
    for command in (("warm",), ("clear", "--matching", "a*"), ("clear", "--redis")):
        done = shell.run("cache", *command, **env)
        assert done.code == 1, done
        assert "127.0.0.1:1" in done.err
