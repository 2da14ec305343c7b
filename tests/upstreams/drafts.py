"""Transactions made by hand for tests, in the shape of `getTransaction` answers, by way of solders.

Addresses are numbers here: `key(7)` is the same address everywhere. A draft names accounts and instructions;
`answer` writes it out in any encoding. The text forms are made from the binary one by `encodings.py`, which
shares no code with the parser.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from solders.hash import Hash
from solders.instruction import CompiledInstruction
from solders.message import (
    Message,
    MessageAddressTableLookup,
    MessageHeader,
    MessageV0,
    MessageV1,
    TransactionConfig,
)
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from tests.upstreams.encodings import base58_reference, transcode

TOKEN = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TOKEN_2022 = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
ASSOCIATED = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"
SYSTEM = "11111111111111111111111111111111"
MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
WRAPPED_SOL = "So11111111111111111111111111111111111111112"
OTHER_PROGRAM = "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4"

ENCODINGS = ("base64", "json", "jsonParsed", "base58")


def key(number: int) -> str:
    """The test address of that number."""
    return str(Pubkey.from_bytes(bytes([7]) + number.to_bytes(31, "big")))


PAYER, ALICE, BOB, CAROL = key(1), key(2), key(3), key(4)
MINT, OTHER_MINT = key(10), key(11)
ALICES, BOBS, CAROLS, TEMPORARY = key(20), key(21), key(22), key(23)  # token accounts
RENT = "SysvarRent111111111111111111111111111111111"


@dataclass
class Call:
    """One instruction, with the instructions that it called."""

    program: str
    accounts: Sequence[str]
    data: bytes
    inner: "Sequence[Call]" = ()


@dataclass
class Draft:
    calls: Sequence[Call]
    before: Sequence[dict[str, Any]] = ()
    after: Sequence[dict[str, Any]] = ()
    version: str = "legacy"
    err: Any = None
    loaded_writable: Sequence[str] = ()  # accounts that come from a lookup table
    loaded_readonly: Sequence[str] = ()
    signers: Sequence[str] = (PAYER,)
    meta: dict[str, Any] = field(default_factory=dict)  # more of it, or in place of what is made here

    def answer(self, encoding: str = "base64") -> dict[str, Any]:
        keys = self.accounts()
        place = keys.index
        header = MessageHeader(len(self.signers), 0, 0)
        static = [Pubkey.from_string(name) for name in keys[: len(keys) - len(self._loaded())]]
        compiled = [
            CompiledInstruction(place(call.program), call.data, bytes(place(a) for a in call.accounts))
            for call in self.calls
        ]
        message: Message | MessageV0 | MessageV1
        if self.version == "legacy":
            message = Message.new_with_compiled_instructions(len(self.signers), 0, 0, static, Hash.default(), compiled)
        elif self.version == "0":
            lookups = []
            if self._loaded():
                table = Pubkey.from_string(key(999))
                lookups = [
                    MessageAddressTableLookup(
                        table, bytes(range(len(self.loaded_writable))), bytes(range(len(self.loaded_readonly)))
                    )
                ]
            message = MessageV0(header, static, Hash.default(), compiled, lookups)
        else:
            message = MessageV1(
                header, TransactionConfig(priority_fee=5, heap_size=1024), Hash.default(), static, compiled
            )
        signatures = [Signature(bytes([n + 1]) * 64) for n in range(len(self.signers))]
        raw = bytes(VersionedTransaction.populate(message, signatures))
        meta: dict[str, Any] = {
            "err": self.err,
            "status": {"Ok": None} if self.err is None else {"Err": self.err},
            "fee": 5000,
            "innerInstructions": [
                {"index": index, "instructions": [_compiled(inner, place) for inner in call.inner]}
                for index, call in enumerate(self.calls)
                if call.inner
            ],
            "logMessages": ["Program log: test"],
            "preBalances": [0] * len(keys),
            "postBalances": [0] * len(keys),
            "preTokenBalances": [_balance(b, place) for b in self.before],
            "postTokenBalances": [_balance(b, place) for b in self.after],
            "rewards": [],
            "loadedAddresses": {"writable": list(self.loaded_writable), "readonly": list(self.loaded_readonly)},
        } | self.meta
        answer = {
            "slot": 300_000_000,
            "blockTime": 1_750_000_000,
            "meta": meta,
            "transaction": [base64.b64encode(raw).decode(), "base64"],
            "version": "legacy" if self.version == "legacy" else int(self.version),
        }
        if encoding == "base64":
            return answer
        if encoding == "base58":
            return answer | {"transaction": [base58_reference(raw), "base58"]}
        return transcode(answer, encoding)

    def accounts(self) -> list[str]:
        """Static keys, signers first, then loaded ones."""
        named = list(self.signers)
        for call in self.calls:
            for each in (call, *call.inner):
                named += [*each.accounts, each.program]
        named += [balance["account"] for balance in (*self.before, *self.after)]
        loaded = self._loaded()
        return [name for name in dict.fromkeys(named) if name not in loaded] + loaded

    def _loaded(self) -> list[str]:
        return [*self.loaded_writable, *self.loaded_readonly]


def holding(account: str, owner: str | None, mint: str = MINT, amount: int = 100, decimals: int = 6) -> dict[str, Any]:
    """A token balance; without an owner it is as old answers have it."""
    return {"account": account, "owner": owner, "mint": mint, "amount": amount, "decimals": decimals}


def _compiled(call: Call, place: Any) -> dict[str, Any]:
    return {
        "programIdIndex": place(call.program),
        "accounts": [place(account) for account in call.accounts],
        "data": base58_reference(call.data),
        "stackHeight": 2,
    }


def _balance(balance: dict[str, Any], place: Any) -> dict[str, Any]:
    written = {
        "accountIndex": place(balance["account"]),
        "mint": balance["mint"],
        "programId": TOKEN,
        "uiTokenAmount": {
            "amount": str(balance["amount"]),
            "decimals": balance["decimals"],
            "uiAmount": None,
            "uiAmountString": "0",
        },
    }
    return written if balance["owner"] is None else written | {"owner": balance["owner"]}


def u64(amount: int) -> bytes:
    return amount.to_bytes(8, "little")


def raw(address: str) -> bytes:
    return bytes(Pubkey.from_string(address))


def transfer(source: str, destination: str, authority: str, amount: int, program: str = TOKEN) -> Call:
    return Call(program, (source, destination, authority), b"\x03" + u64(amount))


def transfer_checked(
    source: str,
    destination: str,
    authority: str,
    amount: int,
    *,
    mint: str = MINT,
    decimals: int = 6,
    program: str = TOKEN,
) -> Call:
    return Call(program, (source, mint, destination, authority), b"\x0c" + u64(amount) + bytes([decimals]))


def transfer_with_fee(
    source: str, destination: str, authority: str, amount: int, fee: int, *, mint: str = MINT
) -> Call:
    data = b"\x1a\x01" + u64(amount) + b"\x06" + u64(fee)
    return Call(TOKEN_2022, (source, mint, destination, authority), data)


def initialize(account: str, owner: str, mint: str = MINT, form: int = 3, program: str = TOKEN) -> Call:
    """`initializeAccount`, `initializeAccount2` or `initializeAccount3`."""
    if form == 1:
        return Call(program, (account, mint, owner, RENT), b"\x01")
    if form == 2:
        return Call(program, (account, mint, RENT), b"\x10" + raw(owner))
    return Call(program, (account, mint), b"\x12" + raw(owner))


def create_associated(
    account: str, owner: str, mint: str = MINT, data: bytes = b"\x01", program: str = TOKEN, inner: Sequence[Call] = ()
) -> Call:
    return Call(ASSOCIATED, (PAYER, account, owner, mint, SYSTEM, program), data, inner)


def hand_over(account: str, owner: str, new_owner: str, authority_type: int = 2) -> Call:
    return Call(TOKEN, (account, owner), b"\x06" + bytes([authority_type]) + b"\x01" + raw(new_owner))


def close(account: str, owner: str) -> Call:
    return Call(TOKEN, (account, owner, owner), b"\x09")


def batch(*calls: Call, program: str = TOKEN, trailing: Sequence[str] = ()) -> Call:
    data = b"\xff"
    accounts: list[str] = []
    for call in calls:
        data += bytes([len(call.accounts), len(call.data)]) + call.data
        accounts += call.accounts
    return Call(program, (*accounts, *trailing), data)
