"""How a key is written, and by what it is found: rules without a database."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.guard.keys import Peppers, new_pepper
from holdfast.guard.keys.access import allows, checked_networks, checked_scopes, is_within
from holdfast.guard.keys.text import checked_prefix, new_key, read_key

PEPPER = base64.b64encode(bytes(range(32))).decode()


def test_a_key_says_whose_it_is_and_how_it_begins() -> None:
    for mode in ("live", "test"):
        text = new_key("acme", mode)  # type: ignore[arg-type]
        read = read_key(text)
        assert re.fullmatch(rf"acme_{mode}_[0-9A-Za-z]{{43}}_[0-9A-Za-z]{{6}}", text)
        assert read is not None
        assert (read.prefix, read.mode, read.shown) == ("acme", mode, text[:14])
    assert len({new_key("a", "live") for _ in range(1_000)}) == 1_000


@given(some.data())
def test_one_wrong_character_is_found(data: Any) -> None:
    text = new_key("acme", "live")
    place = data.draw(some.integers(0, len(text) - 1))
    other = data.draw(some.characters(codec="ascii"))
    wrong = text[:place] + other + text[place + 1 :]
    assert (read_key(wrong) is None) == (wrong != text)


@given(some.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    assert read_key(text) is None


@pytest.mark.parametrize("prefix", ["", "Acme", "a_b", "1a", "a" * 17, "é"])
def test_a_prefix_is_a_short_word(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="HOLDFAST_KEY_PREFIX"):
        checked_prefix(prefix)


def test_the_first_pepper_hashes_and_all_are_looked_under() -> None:
    one, two = new_pepper("p1"), f"p2:{PEPPER}"
    both = Peppers.configured(f"{one}, {two}", production=True)
    alone = Peppers.configured(two, production=True)
    assert both.ids == ("p1", "p2")
    assert both.all_hashed("k") == {"p1": both.hashed("k"), "p2": alone.hashed("k")}
    assert re.fullmatch("[0-9a-f]{64}", both.hashed("k"))
    assert both.hashed("k") != both.hashed("l")


@pytest.mark.parametrize(
    "text",
    [
        "p1",
        "p1:",
        f":{PEPPER}",
        "p1:c2hvcnQ=",
        f"p1:{PEPPER},p1:{PEPPER}",
        f"a b:{PEPPER}",
        "p1:###",
        ",".join(f"p{n}:{PEPPER}" for n in range(5)),
    ],
)
def test_a_malformed_pepper_is_named_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HOLDFAST_KEY_PEPPERS") as refused:
        Peppers.configured(text, production=False)
    assert PEPPER not in str(refused.value)
    with pytest.raises(ConfigurationError):
        new_pepper("a b")


def test_production_has_no_pepper_of_its_own() -> None:
    assert Peppers.configured(None, production=False).ids == ("development",)
    with pytest.raises(ConfigurationError, match="new-pepper"):
        Peppers.configured(None, production=True)


@pytest.mark.parametrize(
    ("scopes", "wanted", "allowed"),
    [
        (("tools:read",), "tools:read", True),
        (("tools:read",), "tools:write", False),
        (("tools:*",), "tools:write", True),
        (("tools:*",), "toolset:write", False),
        (("tools:*",), "tools", False),
        (("a:b:*",), "a:b:c", True),
        (("*",), "anything", True),
        ((), "tools:read", False),
        (("tools:read",), "tools:rea", False),
    ],
)
def test_a_scope_allows_what_it_says(scopes: tuple[str, ...], wanted: str, allowed: bool) -> None:
    assert allows(scopes, wanted) is allowed


@pytest.mark.parametrize("scope", ["", " ", "a b", "a*", "*:a", "a:*:b", ":*", "é", "x" * 101, 7, None])
def test_what_is_no_scope(scope: Any) -> None:
    with pytest.raises(InvalidValue, match="no scope"):
        checked_scopes([scope])


def test_scopes_and_networks_are_bounded() -> None:
    assert checked_scopes(["a", "b", "a"]) == ["a", "b"]
    assert checked_networks(["10.0.0.1", "10.0.0.0/8"]) == ["10.0.0.1/32", "10.0.0.0/8"]
    with pytest.raises(InvalidValue, match="at most 100"):
        checked_scopes(str(number) for number in range(101))
    with pytest.raises(InvalidValue, match="1 to 100"):
        checked_networks(f"10.0.0.{number}" for number in range(101))


@given(some.one_of(some.none(), some.text(max_size=50), some.ip_addresses().map(str)))
def test_any_address_is_within_or_not(address: str | None) -> None:
    assert is_within(address, ("10.0.0.0/8",)) in (True, False)
