"""The shape of `getTransaction` and `getBlock` answers, as far as they are read.

One set of typed records serves the encodings `json`, `jsonParsed`, `base64` and `base58`; msgspec skips
what is not named here (logs, rewards, lamport balances) without building it. Field names are the RPC's own:
https://solana.com/docs/rpc/json-structures.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

KeyIndex = Annotated[int, Meta(ge=0, le=255)]
Decimals = Annotated[int, Meta(ge=0, le=255)]
# Slots and lamports are u64 on chain, but signed 64-bit wherever they are stored; no real value comes near.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
UnixSeconds = Annotated[int, Meta(ge=0, le=253_402_300_799)]  # up to the end of year 9999

_JsonScalar = str | int | float | bool | None


class TokenAmount(Struct, gc=False):
    amount: str
    decimals: Decimals


class TokenBalance(Struct, gc=False):
    """One entry of `preTokenBalances` or `postTokenBalances`; old answers have no owner."""

    accountIndex: KeyIndex
    mint: str
    uiTokenAmount: TokenAmount
    owner: str | None = None


class Parsed(Struct, gc=False):
    """The decoded form of an instruction in `jsonParsed`; `info` differs by program."""

    type: str = ""
    info: Raw = Raw(b"null")


class CompiledInstruction(Struct, gc=False):
    """An instruction in any form: by index (`json`), parsed, or partially decoded (`jsonParsed`)."""

    programIdIndex: KeyIndex | None = None
    accounts: list[KeyIndex | str] | None = None
    data: str = ""
    programId: str | None = None
    parsed: Parsed | list[Any] | _JsonScalar = None


class InnerInstructions(Struct, gc=False):
    index: KeyIndex
    instructions: list[CompiledInstruction]


class LoadedAddresses(Struct, gc=False):
    writable: list[str]
    readonly: list[str]


class Outcome(Struct, gc=False):
    """`meta`; what may be absent from old answers, or null, has a default."""

    err: Raw
    fee: Count
    innerInstructions: list[InnerInstructions] | None = None
    preTokenBalances: list[TokenBalance] | None = None
    postTokenBalances: list[TokenBalance] | None = None
    loadedAddresses: LoadedAddresses | None = None


class AccountKey(Struct, frozen=True, gc=False):
    """An account in `jsonParsed`, where keys from lookup tables are already in the list."""

    pubkey: str
    signer: bool


class Header(Struct, gc=False):
    numRequiredSignatures: KeyIndex


class TableLookup(Struct, gc=False):
    writableIndexes: list[KeyIndex]
    readonlyIndexes: list[KeyIndex]


class Message(Struct, gc=False):
    accountKeys: list[AccountKey | str]
    instructions: list[CompiledInstruction]
    header: Header | None = None
    addressTableLookups: list[TableLookup] | None = None


class Body(Struct, gc=False):
    signatures: list[str]
    message: Message


class Entry(Struct, gc=False):
    """A `getTransaction` result, or an entry of a block's `transactions` (which has no slot or time)."""

    transaction: Body | list[str] | str | UnsetType | None = UNSET
    meta: Outcome | None = None
    version: str | KeyIndex | None = None
    slot: Count | None = None
    blockTime: UnixSeconds | None = None


class Answer(Entry):
    """Anything that a file may hold one of: an entry, a block, or a JSON-RPC envelope around either."""

    transactions: list[Entry | None] | UnsetType | None = UNSET
    result: Answer | list[Answer | None] | UnsetType | None = UNSET
    error: Raw = Raw()  # empty where absent


class LooseAnswer(Struct, gc=False):
    """An `Answer` whose parts are still undecoded, so that one bad part does not cost the others."""

    transaction: Raw = Raw()  # empty where absent
    transactions: Raw = Raw()
    blockTime: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()


decode_answer = msgspec.json.Decoder(Answer | list[Answer | None]).decode
decode_entry = msgspec.json.Decoder(Entry).decode
decode_loose = msgspec.json.Decoder(LooseAnswer | list[Raw] | None).decode
decode_list = msgspec.json.Decoder(list[Raw]).decode
decode_time = msgspec.json.Decoder(UnixSeconds | None).decode
