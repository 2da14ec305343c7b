"""The instructions that the sample's transactions are made of."""

from __future__ import annotations

import struct

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from .addresses import (
    ASSOCIATED,
    BUDGET,
    LIGHTHOUSE,
    MEMO,
    SYSTEM,
    WALLET_PROGRAM,
    Mint,
    account_of,
    smart_wallet_of,
)  # fmt: skip


def _read(key: Pubkey, signer: bool = False) -> AccountMeta:
    return AccountMeta(key, signer, False)


def _write(key: Pubkey, signer: bool = False) -> AccountMeta:
    return AccountMeta(key, signer, True)


def limit(units: int) -> Instruction:
    return Instruction(BUDGET, b"\2" + struct.pack("<I", units), [])


def price(micro_lamports: int) -> Instruction:
    return Instruction(BUDGET, b"\3" + struct.pack("<Q", micro_lamports), [])


def memo(text: str) -> Instruction:
    return Instruction(MEMO, text.encode(), [])


def assertion(account: Pubkey, data: bytes) -> Instruction:
    """What Phantom and Solflare append; here it reaches the stand-in that always holds."""
    return Instruction(LIGHTHOUSE, data, [_read(account)])


def create_account(payer: Pubkey, owner: Pubkey, mint: Mint, idempotent: bool = True) -> Instruction:
    return Instruction(
        ASSOCIATED,
        b"\1" if idempotent else b"\0",
        [
            _write(payer, True), _write(account_of(owner, mint)), _read(owner), _read(mint.address), _read(SYSTEM),
            _read(mint.program),
        ],
    )  # fmt: skip


def transfer_checked(
    source: Pubkey, destination: Pubkey, authority: Pubkey, mint: Mint, amount: int, decimals: int | None = None
) -> Instruction:
    data = struct.pack("<BQB", 12, amount, mint.decimals if decimals is None else decimals)
    keys = [_write(source), _read(mint.address), _write(destination), _read(authority, True)]
    return Instruction(mint.program, data, keys)


def pay(sender: Pubkey, recipient: Pubkey, mint: Mint, amount: int) -> Instruction:
    """A checked transfer between associated accounts."""
    return transfer_checked(account_of(sender, mint), account_of(recipient, mint), sender, mint, amount)


def transfer(source: Pubkey, destination: Pubkey, authority: Pubkey, mint: Mint, amount: int) -> Instruction:
    keys = [_write(source), _write(destination), _read(authority, True)]
    return Instruction(mint.program, struct.pack("<BQ", 3, amount), keys)


def close_account(account: Pubkey, rent_to: Pubkey, owner: Pubkey, mint: Mint) -> Instruction:
    return Instruction(mint.program, b"\x09", [_write(account), _write(rent_to), _read(owner, True)])


def recover_nested(owner: Pubkey, mint: Mint) -> Instruction:
    """Take back tokens that were sent to the associated account of an associated account."""
    own = account_of(owner, mint)
    keys = [
        _write(account_of(own, mint)), _read(mint.address), _write(own), _read(own), _read(mint.address),
        _write(owner, True), _read(mint.program),
    ]  # fmt: skip
    return Instruction(ASSOCIATED, b"\2", keys)


def wallet_pay(owner: Pubkey, recipient: Pubkey, mint: Mint, amount: int) -> Instruction:
    """A checked transfer out of the owner's smart wallet, made by the wallet program."""
    wallet, bump = smart_wallet_of(owner)
    data = bytes([bump]) + struct.pack("<BQB", 12, amount, mint.decimals)
    keys = [
        _read(mint.program), _write(account_of(wallet, mint)), _read(mint.address), _write(account_of(recipient, mint)),
        _read(wallet), _read(owner, True),
    ]  # fmt: skip
    return Instruction(WALLET_PROGRAM, data, keys)


def send_lamports(sender: Pubkey, recipient: Pubkey, lamports: int) -> Instruction:
    return Instruction(SYSTEM, struct.pack("<IQ", 2, lamports), [_write(sender, True), _write(recipient)])
