"""The security checklist: what would let somebody in, or see too much, and what a person is to look at again."""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from urllib.parse import urlsplit

from sqlalchemy import func, select

from holdfast.errors import HoldfastError
from holdfast.guard.audit.declaring import rules_of
from holdfast.guard.audit.tables import Tables
from holdfast.guard.keys import keys_models
from holdfast.guard.sessions import session_model
from holdfast.model import Expose, Model
from holdfast.model.encrypted import blind_columns, encrypted_columns, ring_of
from holdfast.operate.findings import Finding
from holdfast.operate.isolation import examine_isolation
from holdfast.operate.privacy.rows import personal_models
from holdfast.operate.privacy.state import examine_erasures, summary_of
from holdfast.operate.reviews import examine_reviews, last_reviews
from holdfast.operate.trail import examine_trail
from holdfast.settings import Settings
from holdfast.store import ALL, Store, row_security
from holdfast.store.rotation import count_by_key
from holdfast.store.tls import in_the_clear, is_local

KEPT = dt.timedelta(days=90)
"""How long a key that is dead is kept, for who looks into what it did."""


async def examine_security(store: Store, models: Sequence[type[Model]]) -> list[Finding]:
    """Go through the list. What needs the database and cannot have it is told as one finding."""
    findings = [*_settings(store.settings, models), *_files(store)]
    try:
        # One by one: what was found before the database went away is told too.
        async for finding in _database(store, models):
            findings.append(finding)
    except HoldfastError as error:
        findings.append(
            Finding.wrong(
                "database", str(error), "have it answer, or migrate it (`holdfast migrate up`), and look again"
            )
        )
    return findings


def _settings(settings: Settings, models: Sequence[type[Model]]) -> Iterator[Finding]:
    is_production = settings.environment == "production"
    if is_production:
        yield Finding.ok("environment", "production")
    else:
        yield Finding.note(
            "environment", "development, which makes secrets up where none is set", "HOLDFAST_ENV=production"
        )
    yield _secret("page cursors", settings.secret_key, "HOLDFAST_SECRET_KEY", is_production)
    if keys_models(models) is not None or session_model(models) is not None:
        yield _secret("keys, sessions", settings.key_peppers, "HOLDFAST_KEY_PEPPERS", True)
    encrypted = [f"{m.__tablename__}.{c.name}" for m in models for c in encrypted_columns(m.__table__)]
    if encrypted:
        yield _secret("encryption", settings.encryption_keys, "HOLDFAST_ENCRYPTION_KEYS", True)
    plain = sorted(
        f"{m.__tablename__}.{name}"
        for m in models
        for name in m.__policy__.private
        if f"{m.__tablename__}.{name}" not in encrypted
    )
    if plain:
        told = f"{len(plain)} private columns are kept as they are: {', '.join(plain[:5])}{', …' * (len(plain) > 5)}"
        yield Finding.note(
            "private columns", told, "declare those Encrypted that nobody filters or sorts by; encrypt the disk"
        )
    if personal_models(models) or plain:
        yield summary_of(models)
    yield from _audit(settings, models)
    yield from _transport(settings, is_production)
    yield from _http(settings, models, is_production)
    if settings.redis_url is not None:
        yield _redis(settings.redis_url)


def _audit(settings: Settings, models: Sequence[type[Model]]) -> Iterator[Finding]:
    rules = rules_of(models)
    if not rules and Tables.of(models) is None:
        return
    yield _secret("audit keys", settings.audit_keys, "HOLDFAST_AUDIT_KEYS", True)
    if not settings.encryption_keys and (hidden := sorted(name for name, rule in rules.items() if rule.private)):
        told = f"HOLDFAST_ENCRYPTION_KEYS is not set: what is private is on no record, of {', '.join(hidden)}"
        yield Finding.note("audit, private", told, "set it; .env.example says how it is made")


def _transport(settings: Settings, is_production: bool) -> Iterator[Finding]:
    clear = list(in_the_clear(settings))
    for name, shown, advice in clear:
        yield Finding.wrong(
            "transport", f"{name}={shown} {advice}", "and set HOLDFAST_REQUIRE_TLS=on, so that it stays so"
        )
    if not clear:
        yield Finding.ok("transport", "what leaves this machine is encrypted, and certificates are checked")
    if settings.require_tls:
        yield Finding.ok("TLS", "HOLDFAST_REQUIRE_TLS is on")
    elif is_production:
        told = "HOLDFAST_REQUIRE_TLS is off: a URL that leaves this machine in the clear would be taken"
        yield Finding.note("TLS", told, "HOLDFAST_REQUIRE_TLS=on")


def _http(settings: Settings, models: Sequence[type[Model]], is_production: bool) -> Iterator[Finding]:
    origins = [part.strip() for part in settings.cors_origins.split(",") if part.strip()]
    clear = [one for one in origins if one.startswith("http://") and not is_local(urlsplit(one).hostname)]
    if any("*" in origin for origin in origins):
        told = "HOLDFAST_CORS_ORIGINS has a *, with which nothing is served"
        yield Finding.wrong("origins", told, "name each origin whose pages may ask")
    elif clear:
        told = f"pages that are sent in the clear may ask: {', '.join(clear[:5])}{', …' * (len(clear) > 5)}"
        yield Finding.note("origins", told, "serve them by https, and name them so in HOLDFAST_CORS_ORIGINS")
    else:
        told = f"pages of {len(origins)} origins may ask" if origins else "no page of another origin may ask"
        yield Finding.ok("origins", told)
    exposed = {
        str(m.__tablename__): e for m in models if (e := m.__policy__.aspect(Expose)) and not m.__policy__.tenant
    }
    anybody = sorted(name for name, expose in exposed.items() if not expose.is_closed)
    if settings.http_reads == "closed":
        yield Finding.ok("reads over HTTP", "nothing is read without an API key")
        return
    if not anybody:
        told = "no row is read without an API key; how the service fares is (/, /v1/status, /v1/journal, /metrics)"
        yield Finding.ok("reads over HTTP", told)
        return
    told = f"anybody may read {', '.join(anybody[:5])}{', …' * (len(anybody) > 5)}"
    if is_production:
        yield Finding.note("reads over HTTP", told, "HOLDFAST_HTTP_READS=closed, where that is not meant")
    else:
        yield Finding.ok("reads over HTTP", told)


def _secret(check: str, value: str | None, name: str, wanted: bool) -> Finding:
    if value:
        return Finding.ok(check, f"{name} is set")
    return (Finding.wrong if wanted else Finding.note)(
        check, f"{name} is not set", "set it; .env.example says how it is made"
    )


def _redis(url: str) -> Finding:
    split = urlsplit(url)
    if split.password:
        return Finding.ok("redis login", "a password is given")
    host = split.netloc.rpartition("@")[2].split(",")[0]
    if split.scheme == "unix" or is_local(host.rpartition(":")[0] or host):
        return Finding.note(
            "redis login", "no password, on this machine", "give it one where others have accounts here"
        )
    return Finding.wrong(
        "redis login", "no password, and others can reach it", "have it want one, and put it into the URL"
    )


def _files(store: Store) -> Iterator[Finding]:
    if store.file is None or not store.file.exists():
        return
    mode = store.file.stat().st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        told = f"{store.file} can be read by everybody on this machine ({stat.filemode(mode)})"
        yield Finding.note("database file", told, f"chmod 600 {store.file}")
    else:
        yield Finding.ok("database file", stat.filemode(mode))


async def _database(store: Store, models: Sequence[type[Model]]) -> AsyncIterator[Finding]:
    if store.dialect == "postgresql":
        async with store.connect() as connection:
            who = await row_security.login(connection)
        if who.sees_all:
            told = f"{who.name} is a superuser, or bypasses row security"
            yield Finding.wrong("login", told, "serve with a login that `holdfast roles create --serving` has admitted")
        else:
            yield Finding.ok("login", f"{who.name} is no superuser")
    last = await last_reviews(store)
    if last is None:
        yield Finding.note("reviews", "the database has no table of reviews yet", "holdfast migrate up")
    else:
        for finding in examine_reviews(last, dt.datetime.now(dt.UTC)):
            yield finding
    if any(model.__policy__.tenant is not None for model in models):
        yield await _tenants(store, models)
    if any(True for model in models for _ in encrypted_columns(model.__table__)) and store.settings.encryption_keys:
        counts = await count_by_key(store, models)
        first = store.settings.encryption_keys.partition(":")[0]
        older = sum(n for column in counts.values() for key, n in column.items() if key != first)
        ring = ring_of(store.engine.dialect)
        unsearched = set(ring.ids) - set(ring.searched)
        blind = [f"{model.__tablename__}.{name}" for model in models for name in blind_columns(model.__table__)]
        lost = sorted({place for place in blind for key in unsearched if counts[place][key]})
        if lost:
            told = f"look-ups do not find values that are under keys kept for reading alone: {', '.join(lost)}"
            yield Finding.wrong("encryption", told, "take :read off these keys, then `holdfast encrypt rotate`")
        elif older:
            yield Finding.note(
                "encryption", f"{older} values are under an older key than {first}", "holdfast encrypt rotate"
            )
    async for finding in examine_trail(store, models):
        yield finding
    async for finding in examine_erasures(store, models):
        yield finding
    found = keys_models(models)
    if found is not None:
        model = found[0]
        async with store.read(tenant=ALL) as unit:
            alive = (model.revoked_at.is_(None)) & (model.expires_at.is_(None))
            endless = (await unit.session.execute(select(func.count()).select_from(model).where(alive))).scalar_one()
            before = dt.datetime.now(dt.UTC) - KEPT
            gone = (model.expires_at < before) | (model.revoked_at < before)
            dead = (await unit.session.execute(select(func.count()).select_from(model).where(gone))).scalar_one()
        if endless:
            yield Finding.note(
                "keys that never end", f"{endless} API keys have no end", "give new ones an end, --expires 90d"
            )
        if dead:
            told = f"{dead} API keys have been dead for over {KEPT.days} days"
            yield Finding.note(
                "dead keys",
                told,
                "have `holdfast work` run accounts.retention; for models of your own, await hold.keys.delete_dead(…)",
            )


async def _tenants(store: Store, models: Sequence[type[Model]]) -> Finding:
    if store.dialect == "postgresql" and not store.row_security:
        told = "units are confined by their statements alone; raw SQL is not"
        advice = "holdfast roles create, then HOLDFAST_ROW_SECURITY=on"
        return (Finding.wrong if store.settings.environment == "production" else Finding.note)("tenants", told, advice)
    found = await examine_isolation(store, models)
    if found.leaks:
        first = found.leaks[0]
        return Finding.wrong(
            "tenants", f"{len(found.leaks)} leaks: {first.place} {first.told}", "holdfast doctor --isolation"
        )
    return Finding.ok("tenants", f"kept apart in {found.attempts} attempts on {found.places} tables")
