"""Where TLS is required, a URL that leaves the machine without it is refused."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigurationError
from holdfast.settings import Settings
from holdfast.store import Store


@pytest.mark.parametrize(
    ("database", "redis", "told"),
    [
        ("postgresql://app:secret@db.internal/shop", None, "verify-full"),
        ("postgresql://app:secret@db.internal/shop?sslmode=require", None, "verify-full"),
        ("postgresql://app:secret@/shop?host=db.internal", None, "verify-full"),
        ("postgresql://app:secret@/shop?host=127.0.0.1,db.internal", None, "verify-full"),
        ("postgresql://app:secret@127.0.0.2.example/shop", None, "verify-full"),
        ("libsql+http://db.internal:8080", None, "write libsql://"),
        ("sqlite:///a.db", "redis://u:secret@cache.internal:6379/0", "write rediss://"),
        ("sqlite:///a.db", "rediss://cache.internal:6379/0?ssl_cert_reqs=none", "leave ssl_cert_reqs out"),
        ("sqlite:///a.db", "redis+cluster://127.0.0.1:1,cache.internal:2", "write rediss://"),
    ],
)
def test_what_leaves_the_machine_in_the_clear_is_refused(
    database: str, redis: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    settings = Settings.from_environment({"HOLDFAST_REQUIRE_TLS": "on"}, database_url=database, redis_url=redis)
    with pytest.raises(ConfigurationError, match=told) as refused:
        Store(settings)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("database", "redis"),
    [
        ("postgresql://app@db.internal/shop?sslmode=verify-full", None),
        ("postgresql://app@127.0.0.1/shop", "redis://127.0.0.1:6379/0"),
        ("postgresql://app@localhost/shop", "unix:///tmp/redis.sock"),
        ("postgresql://app@[::1]/shop", "redis://[::1]:6379/0"),
        ("postgresql:///shop?host=/var/run/postgresql", "rediss://cache.internal/0"),
        ("libsql://name-org.turso.io", "rediss+cluster://a.internal:1,b.internal:2?ssl_cert_reqs=required"),
        ("sqlite:///a.db", None),
    ],
)
def test_what_is_encrypted_or_stays_here_is_taken(
    database: str, redis: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    Store(Settings.from_environment({"HOLDFAST_REQUIRE_TLS": "on"}, database_url=database, redis_url=redis))


def test_replicas_and_the_environment_of_the_driver_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    here = "postgresql://app@127.0.0.1/shop"
    replicas = "postgresql://app@127.0.0.1/shop, postgresql://app@replica/shop"
    with pytest.raises(ConfigurationError, match="REPLICA_URLS"):
        Store(Settings.from_environment({}, database_url=here, require_tls=True, database_replica_urls=replicas))
    monkeypatch.setenv("PGHOST", "db.internal")
    with pytest.raises(ConfigurationError, match="verify-full"):
        Store(Settings.from_environment({}, database_url="postgresql:///shop", require_tls=True))


@pytest.mark.parametrize("text", ["maybe", "2"])
def test_a_switch_is_on_or_off(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"HOLDFAST_REQUIRE_TLS=.* must be on or off"):
        Settings.from_environment({"HOLDFAST_REQUIRE_TLS": text})
