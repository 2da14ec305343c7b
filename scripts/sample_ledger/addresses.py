"""Programs, keys and token accounts of the sample. A key comes from a name, and the same name gives the same key."""

from __future__ import annotations

import struct
from functools import cache
from hashlib import sha256
from typing import NamedTuple

from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey

SYSTEM = Pubkey.from_string("11111111111111111111111111111111")
TOKEN = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ASSOCIATED = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
LIGHTHOUSE = Pubkey.from_string("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95")
LOOKUP_TABLES = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")

MINT_RENT, ACCOUNT_RENT = 1_461_600, 2_039_280  # lamports that keep a mint and a token account alive


@cache
def key(name: str) -> Keypair:
    """Return the key pair called `name`. It is public by design and worth nothing."""
    return Keypair.from_seed(sha256(b"holdfast sample ledger/" + name.encode()).digest())


@cache
def address(name: str) -> Pubkey:
    return key(name).pubkey()


class Mint(NamedTuple):
    """A token of the sample."""

    symbol: str
    decimals: int
    program: Pubkey

    @property
    def address(self) -> Pubkey:
        return address(f"mint/{self.symbol}")


DOLLAR = Mint("SUSD", 6, TOKEN)
EURO = Mint("SEUR", 6, TOKEN_2022)
CREDIT = Mint("CRED", 9, TOKEN)
MINTS = (DOLLAR, EURO, CREDIT)

WALLET_PROGRAM = address("program/wallet")


@cache
def account_of(owner: Pubkey, mint: Mint) -> Pubkey:
    """Return the associated token account of `owner`."""
    return Pubkey.find_program_address([bytes(owner), bytes(mint.program), bytes(mint.address)], ASSOCIATED)[0]


@cache
def smart_wallet_of(owner: Pubkey) -> tuple[Pubkey, int]:
    """Return the wallet that the wallet program keeps for `owner`, and its bump."""
    return Pubkey.find_program_address([b"wallet", bytes(owner)], WALLET_PROGRAM)


def mint_account(mint: Mint) -> Account:
    data = struct.pack("<I32sQBBI32s", 1, bytes(address("mint authority")), 10**18, mint.decimals, 1, 1,
                       bytes(address("mint authority")))  # fmt: skip
    return Account(MINT_RENT, data, mint.program)


def token_account(owner: Pubkey, mint: Mint, amount: int, frozen: bool = False) -> Account:
    state = struct.pack("<32s32sQ36xB12x8x36x", bytes(mint.address), bytes(owner), amount, 2 if frozen else 1)
    return Account(ACCOUNT_RENT, state, mint.program)


def lookup_table(addresses: list[Pubkey]) -> Account:
    head = struct.pack("<IQQBB32sH", 1, 2**64 - 1, 0, 0, 1, bytes(address("lookup table authority")), 0)
    return Account(10_000_000, head + b"".join(map(bytes, addresses)), LOOKUP_TABLES)
