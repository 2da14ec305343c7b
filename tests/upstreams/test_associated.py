"""Derived addresses, against the chain's own library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from holdfast.errors import InvalidValue
from holdfast.upstreams.solana.associated import (
    ASSOCIATED_TOKEN_PROGRAM,
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    address_bytes,
    associated_token_account,
    on_curve,
    program_address,
)

KEYS = st.binary(min_size=32, max_size=32)
PRIME = 2**255 - 19
EDGES = [0, 1, 1 | 1 << 255, PRIME - 1, PRIME, PRIME + 1, 1 << 255, 2**256 - 1]


@given(KEYS)
def test_a_point_of_the_curve_is_told_from_other_bytes(raw: bytes) -> None:
    assert on_curve(raw) == Pubkey(raw).is_on_curve()


@pytest.mark.parametrize("edge", EDGES)
def test_bytes_at_the_edges_are_told_as_the_chain_tells_them(edge: int) -> None:
    raw = edge.to_bytes(32, "little")
    assert on_curve(raw) == Pubkey(raw).is_on_curve()


@given(KEYS, KEYS, st.sampled_from([TOKEN_PROGRAM, TOKEN_2022_PROGRAM]))
def test_an_associated_account_is_where_the_chain_has_it(owner: bytes, mint: bytes, program: str) -> None:
    seeds = [owner, bytes(Pubkey.from_string(program)), mint]
    expected, bump = Pubkey.find_program_address(seeds, Pubkey.from_string(ASSOCIATED_TOKEN_PROGRAM))
    assert associated_token_account(str(Pubkey(owner)), str(Pubkey(mint)), program) == str(expected)
    assert program_address(tuple(seeds), ASSOCIATED_TOKEN_PROGRAM) == (str(expected), bump)


@pytest.mark.parametrize(
    ("address", "what"),
    [("", "holds 0 bytes"), ("0", "not base58"), ("1" * 31, "holds 31 bytes"), ("z" * 44, "holds 33 bytes")],
)
def test_what_is_no_address_is_refused(address: str, what: str) -> None:
    with pytest.raises(InvalidValue, match=what):
        address_bytes(address)
