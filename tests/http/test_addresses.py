"""Where a request comes from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.http.addresses import address_of, networks_of


def test_addresses_are_read_from_the_end() -> None:
    ours = networks_of("10.0.0.0/8, ::1")

    def found(peer: str, *forwarded: str) -> str:
        return address_of(peer, [(b"x-forwarded-for", one.encode()) for one in forwarded], ours)

    assert found("192.0.2.1", "198.51.100.1") == "192.0.2.1"
    assert found("10.0.0.1") == "10.0.0.1"
    assert found("10.0.0.1", "198.51.100.1, 192.0.2.1, 10.0.0.2") == "192.0.2.1"
    assert found("10.0.0.1", "198.51.100.1", "192.0.2.1") == "192.0.2.1"  # two headers are one list
    assert found("::1", "192.0.2.1:8080") == "192.0.2.1"
    assert found("::1", "[2001:db8::5]:8080") == "2001:db8::5"
    assert found("10.0.0.1", "192.0.2.1, unknown") == "10.0.0.1"
    assert found("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"
    assert found("::ffff:10.0.0.1", "192.0.2.1") == "192.0.2.1"
    assert found("a socket", "192.0.2.1") == "a socket"


@given(st.lists(st.sampled_from(("10.0.0.9", "192.0.2.1", "198.51.100.1", "nonsense", "")), max_size=6))
def test_nobody_can_say_that_he_is_somebody_else(said: list[str]) -> None:
    """Whatever he writes before, the address that our proxy saw is the one."""
    headers = [(b"x-forwarded-for", ", ".join([*said, "203.0.113.7"]).encode())]
    assert address_of("10.0.0.1", headers, networks_of("10.0.0.0/8")) == "203.0.113.7"
