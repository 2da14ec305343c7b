"""Addresses that are derived rather than chosen: program addresses and associated token accounts.

A program address is a SHA-256 that is *not* a point of ed25519, so that no key can sign for it. Pure Python, because
the base install carries no Solana library; some 0.2 ms an address, hence the cache.
Sources: Solana's `Pubkey::find_program_address`, the Associated Token Account program, RFC 8032 section 5.1.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from holdfast.errors import InvalidValue, MalformedRecord
from holdfast.upstreams.solana import base58

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TOKEN_2022_PROGRAM = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
ASSOCIATED_TOKEN_PROGRAM = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


def address_bytes(address: str) -> bytes:
    """Return the 32 bytes of a base58 address.

    Raises:
        InvalidValue: not base58, or not 32 bytes long.
    """
    try:
        raw = base58.decode(address)
    except MalformedRecord as e:
        raise InvalidValue(f"{address!r} is not a Solana address: {e}") from e
    if len(raw) != 32:
        raise InvalidValue(f"{address!r} is not a Solana address: it holds {len(raw)} bytes, not 32")
    return raw


def on_curve(raw: bytes) -> bool:
    """Whether 32 bytes decompress to a point of ed25519, that is, whether x² = (y² − 1) / (d·y² + 1) has a root."""
    y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
    y2 = y * y % _P
    # u/v is a square exactly when u·v is; v is never 0, because −1/d is not a square.
    return pow((y2 - 1) * (_D * y2 + 1) % _P, (_P - 1) // 2, _P) <= 1


def program_address(seeds: tuple[bytes, ...], program: str) -> tuple[str, int]:
    """Return the program address of `seeds` under `program`, and its bump: the highest that is off the curve.

    Raises:
        InvalidValue: `program` is not an address, or (practically never) no bump gives an address.
    """
    tail = address_bytes(program) + b"ProgramDerivedAddress"
    head = b"".join(seeds)
    for bump in range(255, -1, -1):
        candidate = sha256(head + bytes((bump,)) + tail).digest()
        if not on_curve(candidate):
            return base58.encode(candidate), bump
    raise InvalidValue(f"no program address of {program} exists for these seeds")


@lru_cache(maxsize=65_536)
def associated_token_account(owner: str, mint: str, token_program: str = TOKEN_PROGRAM) -> str:
    """Return the address of the associated token account of `owner` for `mint` under `token_program`.

    Raises:
        InvalidValue: one of the three is not an address.
    """
    seeds = (address_bytes(owner), address_bytes(token_program), address_bytes(mint))
    return program_address(seeds, ASSOCIATED_TOKEN_PROGRAM)[0]
