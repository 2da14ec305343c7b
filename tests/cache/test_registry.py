"""Keys that are declared once: used by functions and by hand, listed, and told apart."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from holdfast import Holdfast, Load, cached
from holdfast.apps.accounts import keys as accounts
from holdfast.apps.marketplace import keys as marketplace
from holdfast.cache import Key, Listed, registry
from holdfast.errors import ConfigurationError, InvalidValue
from tests.backends import settings_for
from tests.cache.loans import Base, lend
from tests.logs import capture_logs


@dataclass
class Profile:
    name: str
    born: dt.date


PROFILE = Key(
    "library.profile",
    "library:profile:{reader}:{year}",
    ttl="5m",
    tags=("reader:{reader}",),
    kind=Profile,
    about="a reader of the library",
)
SPARE = Key("library.spare", "library:spare:*{reader.name}", tier="cold", about="nothing that is used")
LOOSE = Key("library.loose", "library:loose:{number}", skip_l2=True, kind=object, about="what stays in the process")
count = [0]


@cached(PROFILE)
async def profile(year: int, reader: str) -> Profile:
    """A reader as the library knows him."""
    count[0] += 1
    return Profile(f"{reader} {count[0]}", dt.date(year, 1, 1))


@cached(key="library:fines:{reader}", tags=("reader:{reader}",), tier="warm")
async def fines(reader: str) -> int:
    """What a reader owes.

    In cents.
    """
    return 5


async def test_the_values_of_a_key_are_found_by_its_parts_wherever_they_were_kept(
    hold: Holdfast, other: Holdfast
) -> None:
    count[0] = 0
    ann, theirs = hold.cache[PROFILE], other.cache[PROFILE]

    async def load(load: Load) -> Profile:
        return Profile(load.key, dt.date(1815, 12, 10))

    assert ann.peek("ann", 1999) is None
    assert await ann.get(reader="ann", year=1999) is None
    assert await ann.get_or_load(load, reader="ann", year=1999) == Profile(
        "library:profile:ann:1999", dt.date(1815, 12, 10)
    )
    assert ann.peek(year=1999, reader="ann") == await ann.get("ann", year=1999)
    if hold.settings.redis_url is not None:  # with its type, also on the other node
        assert await theirs.get("ann", 1999) == ann.peek("ann", 1999)
    assert not (await ann.lookup(load, "ann", 1999)).loaded
    await lend(hold, "ann", "Dune")
    assert ann.peek("ann", 1999) is None
    await ann.set(Profile("by hand", dt.date(2000, 1, 1)), "ann", 1999)
    await ann.set(Profile("another", dt.date(2000, 1, 1)), "bob", 1999)
    await ann.delete("ann", 1999)
    assert await ann.get("ann", 1999) is None
    await hold.cache.invalidate("reader:bob")
    assert await ann.get("bob", 1999) is None
    assert {kind.template for kind in hold.cache.statistics.kinds()} == {PROFILE.template}
    anything = object()
    await hold.cache[LOOSE].set(anything, 5)
    assert hold.cache[LOOSE].peek(5) is anything
    assert await hold.cache[LOOSE].get(5) is anything


async def test_a_function_keeps_its_values_under_its_key(sqlite_url: str) -> None:
    count[0] = 0
    settings = settings_for(sqlite_url, cache_ttls="library.profile=7s")
    async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
        assert [(await profile(1999, "ann")).name, (await profile(reader="ann", year=1999)).name] == ["ann 1"] * 2
        assert profile.key(1999, "ann") == hold.cache[PROFILE].key("ann", 1999) == "library:profile:ann:1999"
        assert hold.cache[PROFILE].peek("ann", 1999) == Profile("ann 1", dt.date(1999, 1, 1))
        await hold.cache.invalidate("reader:ann")
        assert (await profile(1999, "ann")).name == "ann 2"
        await profile.delete(1999, "ann")
        assert hold.cache[PROFILE].peek("ann", 1999) is None


async def test_settings_say_how_long_the_values_of_a_key_are_kept(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, cache_ttls=" library.profile = 7s,library.gone=1h, ")
    with capture_logs() as logs:
        async with await Holdfast.open(settings=settings, metadata=Base.metadata) as hold:
            assert hold.cache[PROFILE].options == PROFILE.options.but(ttl="7s")
            assert hold.cache[SPARE].options is SPARE.options
            await profile(1999, "ann")
            entry = hold.cache._memory.get("library:profile:ann:1999")
            assert entry is not None
            assert entry.expires - entry.began < 8
    assert [line for line in logs if "cache_ttl_of_no_key" in str(line) and "library.gone" in str(line)]
    for text, says in [("library.profile", "no TTL of a key"), ("profile=5s", "no TTL"), ("a.b=soon", "no duration")]:
        with pytest.raises(ConfigurationError, match=says):
            Holdfast(settings_for(sqlite_url, cache_ttls=text), metadata=Base.metadata)


async def test_parts_that_are_not_those_of_the_key_are_refused(hold: Holdfast) -> None:
    for parts, named in [((), {}), (("ann",), {}), (("ann", 1, 2), {}), ((), {"reader": "ann", "age": 5})]:
        with pytest.raises(InvalidValue, match=r"library\.profile is made of reader, year, not of"):
            await hold.cache[PROFILE].get(*parts, **named)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="a model of this data layer or a declared key"):
        hold.cache["profile"]  # type: ignore[index]


def listed(name: str) -> Listed:
    [found] = [one for one in registry.all() if one.name == name]
    return found


def test_everything_that_is_kept_is_listed() -> None:
    mine = listed("library.profile")
    assert mine == Listed(
        name="library.profile",
        app="library",
        template="library:profile:{reader}:{year}",
        pattern="library:profile:*:*",
        ttl=300.0,
        tier="hot",
        tags=("reader:{reader}",),
        kind="Profile",
        about="a reader of the library",
        used_by=(f"{__name__}.profile",),
    )
    function = listed(f"{__name__}.fines")
    assert (function.template, function.ttl, function.tier) == ("library:fines:{reader}", 1_800.0, "warm")
    assert (function.kind, function.about, function.used_by) == ("int", "What a reader owes.", (f"{__name__}.fines",))
    assert [one.name for one in registry.all()] == sorted(one.name for one in registry.all())
    unused = Key("library.unused", "library:unused:{number}", about="a key that nothing uses")
    assert listed("library.unused").used_by == ()
    assert (listed("library.spare").tier, listed("library.spare").pattern) == ("cold", r"library:spare:\**")

    def declare() -> None:
        @cached(unused)
        async def passing(number: int) -> int:
            return number

        assert listed("library.unused").used_by == (f"{__name__}.{passing.__qualname__}",)

    declare()
    import gc

    gc.collect()
    assert listed("library.unused").used_by == ()


def test_the_keys_of_the_apps_are_kept_as_long_as_they_were_asked_to_be() -> None:
    minute, hour = 60.0, 3_600.0
    wanted = {
        "accounts.user": 5 * minute,
        "accounts.session": hour,
        "accounts.price": minute,
        "accounts.analysis": 5 * minute,
        "marketplace.service": minute,
        "marketplace.services": minute,
        "marketplace.price": 10.0,
        "marketplace.portfolio": 30.0,
        "marketplace.tool_schema": 24 * hour,
    }
    assert {one.name: one.ttl for one in registry.all() if one.app in ("accounts", "marketplace")} == wanted
    assert accounts.PRICE.parts == marketplace.PRICE.parts == ("symbol", "currency")
    assert marketplace.SERVICES.parts == ("category", "page")
    assert accounts.ANALYSIS.parts == ("symbol", "horizon")


def test_a_key_may_be_declared_again_as_it_is_and_not_otherwise() -> None:
    def declare(name: str = "library.again", template: str = "library:again:{a}", **given: Any) -> Key:
        return Key(name, template, **{"about": "a key", **given})

    declare()
    declare()
    with pytest.raises(ConfigurationError, match=r"there is a key 'library\.again' already"):
        declare(ttl="5s")
    with pytest.raises(ConfigurationError, match=r"'library:again:\{b\}' may be those of library\.again too"):
        declare(name="library.other", template="library:again:{b}")
    with pytest.raises(ConfigurationError, match=r"may be those of .*\.fines too"):
        declare(name="library.fines", template="library:fines:{a}")
    assert registry.named("library.other") is None


@pytest.mark.parametrize(
    ("name", "template", "given", "says"),
    [
        ("price", "p:{a}", {}, "write the app and the key"),
        ("shop.", "p:{a}", {}, "write the app and the key"),
        (5, "p:{a}", {}, "write the app and the key"),
        ("shop.a", "p:{a", {}, "is no template"),
        ("shop.a", "p:{a!r}", {}, "must be a parameter"),
        ("shop.a", "p:{a()}", {}, "must be a parameter"),
        ("shop.a", "p:{a}", {"tags": ("b:{b}",)}, "tag='b:{b}' names 'b', which is no parameter; there are a"),
        ("shop.a", "p:{a}", {"tags": "b"}, r"write \('b',\)"),
        ("shop.a", "p:{a}", {"ttl": "soon"}, "ttl='soon' is no duration"),
        ("shop.a", "p:{a}", {"tier": "tepid"}, "tier='tepid' is none"),
        ("shop.a", "p:{a}", {"about": " "}, "says nothing of its values"),
        ("shop.a", "p:{a}", {"kind": dict[int, UUID] | set[Profile] | list[int]}, r"shop\.a: values of the type"),
    ],
)
def test_a_key_that_cannot_be_is_refused(name: Any, template: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Key(name, template, **{"about": "a key", **given})
    assert registry.named(str(name)) is None


async def test_a_function_that_does_not_fit_its_key_is_refused(hold: Holdfast) -> None:
    with pytest.raises(ConfigurationError, match="names 'reader', which is no parameter"):

        @cached(PROFILE)
        async def a(year: int) -> Profile: ...

    with pytest.raises(ConfigurationError, match=r"returns .*int.*, and library\.profile keeps .*Profile"):

        @cached(PROFILE)
        async def b(year: int, reader: str) -> int: ...

    with pytest.raises(ConfigurationError, match=r"returns .*tuple.*, and library\.spare keeps Any; write kind="):

        @cached(SPARE)
        async def c(reader: Any) -> dict[str, tuple[int, ...]]: ...

    # What comes back has the type of the key, though this function does not say it.
    @cached(PROFILE, cache=hold.cache)
    async def untyped(reader: str, year: int):  # type: ignore[no-untyped-def]
        return Profile(reader, dt.date(year, 1, 1))

    assert await untyped("ann", 1999) == Profile("ann", dt.date(1999, 1, 1))

    @cached(SPARE)
    async def d(reader: Any) -> dict[str, list[int | None]]: ...

    with pytest.raises(ConfigurationError, match="takes cache=… alone"):
        cached(PROFILE, ttl="5m")
    with pytest.raises(ConfigurationError, match="takes a declared Key, or key=…"):
        cached("library:{reader}")  # type: ignore[arg-type]

    async def elsewhere(reader: str) -> int: ...

    elsewhere.__qualname__ = "elsewhere"  # as if no function made it
    with pytest.raises(ConfigurationError, match=r"may be those of .*\.fines too"):
        cached(key="library:fines:{reader}")(elsewhere)
    elsewhere.__qualname__ = "also"
    with pytest.raises(ConfigurationError, match=r"may be those of .*profile too"):
        cached(key="library:profile:{reader}:{reader}")(elsewhere)
