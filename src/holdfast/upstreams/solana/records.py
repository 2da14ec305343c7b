"""What a Solana transaction says, once parsed: plain records, no I/O."""

from __future__ import annotations

import msgspec


class TokenTransfer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One SPL Token or Token-2022 transfer instruction, as asked for by the transaction.

    `successful` is the transaction's outcome: the instructions of a failed transaction moved nothing.
    """

    instruction: int  # 0-based index among the top-level instructions
    inner: int | None  # 0-based index inside that instruction's inner list; None at top level
    batch: int | None = None  # 0-based index inside a token program's `batch` instruction; None outside of one
    kind: str  # "transfer" | "transferChecked" | "transferCheckedWithFee"
    program: str  # token program id
    mint: str | None  # None where neither the instruction nor the balances tell
    decimals: int | None
    amount: int  # gross, in base units, 0..2**64-1
    fee: int | None  # base units withheld from the gross amount; only transferCheckedWithFee has one
    source: str  # token accounts
    source_owner: str | None
    destination: str
    destination_owner: str | None
    authority: str
    successful: bool


class Instruction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One top-level or inner instruction, with its accounts resolved to addresses.

    Where `jsonParsed` gives only the parsed form, `accounts` are the transaction's accounts that it names, each
    once: those of the other encodings without their order and without what the form leaves out (sysvars, the
    signers of a memo).
    """

    instruction: int
    inner: int | None
    program: str
    accounts: tuple[str, ...]
    data: bytes  # where `jsonParsed` gives only the parsed form: the text of a memo, else empty
    parsed_type: str | None = None  # `parsed.type` of `jsonParsed`, else None


class Transaction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One transaction with its token transfers in execution order."""

    signature: str
    slot: int | None  # None in getBlock answers, which carry none
    block_time: int | None  # Unix seconds
    version: str  # "legacy", "0" or "1"
    fee_payer: str
    signers: tuple[str, ...]
    fee: int  # lamports
    successful: bool
    error: str | None  # the `meta.err` object as JSON text
    instructions: tuple[Instruction, ...]  # empty unless they were asked for
    transfers: tuple[TokenTransfer, ...]
