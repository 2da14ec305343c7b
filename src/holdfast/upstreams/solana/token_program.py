"""What the instructions of the token programs say about accounts: from raw data and from `jsonParsed`.

Both forms end in the same steps, with accounts as indexes into the transaction's keys, so that every
encoding takes one path from there on. Instructions that no successful transaction can contain (too few
accounts, data cut short, a batch within a batch) give no step: such a transaction is a failed one.

Layouts: https://github.com/solana-program/token (interface/src/instruction.rs, pinocchio for `batch`),
https://github.com/solana-program/token-2022 (transfer fee extension),
https://github.com/solana-program/associated-token-account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana import base58
from holdfast.upstreams.solana.answers import Parsed

NATIVE_MINTS = ("So11111111111111111111111111111111111111112", "9pan9bMn5HatX4EJdBwg9VgCa7Uz5HL8N1m5D3NdXej9")

TRANSFER, CHECKED, WITH_FEE = "transfer", "transferChecked", "transferCheckedWithFee"
MAX_AMOUNT = 2**64 - 1
_ACCOUNT_OWNER = 2  # the authority type of SetAuthority
_CHECKED_WITH_FEE = 1  # the instruction of that number below tag 26, the transfer fee extension

At = tuple[int, int | None, int | None]  # instruction, inner, batch: as in `TokenTransfer`


class Transfer(Struct, gc=False):
    """A transfer as asked for. `mint` (an index) and `decimals` are None in a plain `transfer`."""

    at: At
    kind: str
    program: str
    source: int
    mint: int | None
    destination: int
    authority: int
    amount: int
    decimals: int | None
    fee: int | None


class Opened(Struct, gc=False):
    """A token account begins to exist."""

    account: int
    mint: int
    owner: int | str  # an index, or an address that need not be among the transaction's keys


class Reowned(Struct, gc=False):
    """A token account changes hands; `before` had to agree, so it was the owner."""

    account: int
    before: int
    after: str


class Holds(Struct, gc=False):
    """A token account is seen to hold a mint."""

    account: int
    mint: int


class Scaled(Struct, gc=False):
    """A mint is seen to have so many decimals."""

    mint: int
    decimals: int


Step = Transfer | Opened | Reowned | Holds | Scaled


def read_token(
    data: bytes,
    accounts: Sequence[int],
    program: str,
    at: At,
    steps: list[Step],
) -> None:
    """Append to `steps` what one raw instruction of a token program does."""
    if not data:
        return
    tag = data[0]
    size = len(data)
    count = len(accounts)
    if tag == 3:
        if size >= 9 and count >= 3:
            source, destination, authority = accounts[:3]
            amount = int.from_bytes(data[1:9], "little")
            steps.append(Transfer(at, TRANSFER, program, source, None, destination, authority, amount, None, None))
    elif tag == 12:
        if size >= 10 and count >= 4:
            source, mint, destination, authority = accounts[:4]
            amount = int.from_bytes(data[1:9], "little")
            steps.append(Transfer(at, CHECKED, program, source, mint, destination, authority, amount, data[9], None))
    elif tag == 26:
        if size >= 19 and data[1] == _CHECKED_WITH_FEE and count >= 4:
            source, mint, destination, authority = accounts[:4]
            amount, fee = int.from_bytes(data[2:10], "little"), int.from_bytes(data[11:19], "little")
            steps.append(Transfer(at, WITH_FEE, program, source, mint, destination, authority, amount, data[10], fee))
    elif tag == 1:
        if count >= 3:
            steps.append(Opened(accounts[0], accounts[1], accounts[2]))
    elif tag in (16, 18):
        if size >= 33 and count >= 2:
            steps.append(Opened(accounts[0], accounts[1], base58.address(data[1:33])))
    elif tag == 6:
        if size >= 35 and data[1] == _ACCOUNT_OWNER and data[2] == 1 and count >= 2:
            steps.append(Reowned(accounts[0], accounts[1], base58.address(data[3:35])))
    elif tag in (7, 14):
        if count >= 2:
            steps.append(Holds(accounts[1], accounts[0]))
            if tag == 14 and size >= 10:
                steps.append(Scaled(accounts[0], data[9]))
    elif tag in (8, 15):
        if count >= 2:
            steps.append(Holds(accounts[0], accounts[1]))
            if tag == 15 and size >= 10:
                steps.append(Scaled(accounts[1], data[9]))
    elif tag in (0, 20):
        if size >= 2 and count:
            steps.append(Scaled(accounts[0], data[1]))
    elif tag == 255 and at[2] is None:
        _read_batch(data, accounts, program, at, steps)


def _read_batch(
    data: bytes,
    accounts: Sequence[int],
    program: str,
    at: At,
    steps: list[Step],
) -> None:
    # For each instruction in turn: u8 number of accounts, u8 length of the data, the data. The accounts
    # of all of them follow one another; what is left over is ignored, as the program does.
    end, first, position = 1, 0, 0
    while end + 2 < len(data):
        last, start = first + data[end], end + 2
        end = start + data[end + 1]
        if end > len(data) or last > len(accounts):
            return
        read_token(data[start:end], accounts[first:last], program, (at[0], at[1], position), steps)
        first = last
        position += 1


def read_associated(data: bytes, accounts: Sequence[int], steps: list[Step]) -> None:
    """Append what one raw instruction of the associated token program does: `create`, `createIdempotent`."""
    if len(accounts) >= 6 and data in (b"", b"\0", b"\1"):
        steps.append(Opened(accounts[1], accounts[3], accounts[2]))


def read_parsed_token(
    parsed: Parsed,
    index: Mapping[str, int],
    program: str,
    at: At,
    steps: list[Step],
) -> None:
    """Append what one `jsonParsed` instruction of a token program does.

    `index` gives each account's place among the transaction's keys. Raises `MalformedRecord` where a
    field is missing, of the wrong type or out of range.
    """
    kind = parsed.type
    if kind in _READ:
        _read_info(kind, _info(parsed), index, program, at, steps)
    elif kind == "batch":
        batched = _info(parsed).get("instructions")
        if not isinstance(batched, list):
            raise MalformedRecord(f"batch without a list of instructions: {_shown(batched)}")
        for position, part in enumerate(batched):
            if not isinstance(part, dict) or not isinstance(part.get("info", {}), dict):
                raise MalformedRecord(f"instruction {position} of a batch is no parsed instruction: {_shown(part)}")
            if part.get("type") in _READ:
                info = part.get("info", {})
                _read_info(part["type"], info, index, program, (at[0], at[1], position), steps)


def read_parsed_associated(parsed: Parsed, index: Mapping[str, int], steps: list[Step]) -> None:
    """Append what one `jsonParsed` instruction of the associated token program does."""
    if parsed.type in ("create", "createIdempotent"):
        info = _info(parsed)
        steps.append(
            Opened(_account(info, "account", index), _account(info, "mint", index), _account(info, "wallet", index))
        )


_TRANSFERS = {TRANSFER, CHECKED, WITH_FEE}
_OPENINGS = {"initializeAccount", "initializeAccount2", "initializeAccount3"}
_MINTINGS = {"mintTo", "mintToChecked", "burn", "burnChecked"}
_READ = _TRANSFERS | _OPENINGS | _MINTINGS | {"setAuthority", "initializeMint", "initializeMint2"}


def _read_info(
    kind: str,
    info: dict[str, Any],
    index: Mapping[str, int],
    program: str,
    at: At,
    steps: list[Step],
) -> None:
    if kind in _TRANSFERS:
        mint = decimals = fee = None
        if kind == TRANSFER:
            amount = _amount(info, "amount")
        else:
            mint = _account(info, "mint", index)
            amount, decimals = _token_amount(info, "tokenAmount")
            if kind == WITH_FEE:
                fee = _token_amount(info, "feeAmount")[0]
        source, destination = _account(info, "source", index), _account(info, "destination", index)
        authority = _account(info, "multisigAuthority" if "multisigAuthority" in info else "authority", index)
        steps.append(Transfer(at, kind, program, source, mint, destination, authority, amount, decimals, fee))
    elif kind in _OPENINGS:
        steps.append(Opened(_account(info, "account", index), _account(info, "mint", index), _address(info, "owner")))
    elif kind in _MINTINGS:
        mint = _account(info, "mint", index)
        steps.append(Holds(_account(info, "account", index), mint))
        if "tokenAmount" in info:
            steps.append(Scaled(mint, _token_amount(info, "tokenAmount")[1]))
    elif kind == "setAuthority":
        if info.get("authorityType") == "accountOwner" and info.get("newAuthority") is not None:
            before = _account(info, "multisigAuthority" if "multisigAuthority" in info else "authority", index)
            steps.append(Reowned(_account(info, "account", index), before, _address(info, "newAuthority")))
    else:
        steps.append(Scaled(_account(info, "mint", index), _decimals(info)))


def _info(parsed: Parsed) -> dict[str, Any]:
    info = msgspec.json.decode(parsed.info)
    if not isinstance(info, dict):
        raise MalformedRecord(f"{parsed.type} without its parsed fields: {_shown(info)}")
    return info


def _address(info: dict[str, Any], name: str) -> str:
    address = info.get(name)
    if not isinstance(address, str):
        raise MalformedRecord(f"{name} is no address: {_shown(address)}")
    base58.check_addresses((address,))
    return address


def _account(info: dict[str, Any], name: str, index: Mapping[str, int]) -> int:
    address = info.get(name)
    place = index.get(address) if isinstance(address, str) else None
    if place is None:
        raise MalformedRecord(f"{name} is not one of the transaction's accounts: {_shown(address)}")
    return place


def _amount(info: dict[str, Any], name: str) -> int:
    return whole_amount(info.get(name), name)


def _token_amount(info: dict[str, Any], name: str) -> tuple[int, int]:
    amount = info.get(name)
    if not isinstance(amount, dict):
        raise MalformedRecord(f"{name} is no token amount: {_shown(amount)}")
    return _amount(amount, "amount"), _decimals(amount)


def _decimals(info: dict[str, Any]) -> int:
    decimals = info.get("decimals")
    if type(decimals) is not int or not 0 <= decimals <= 255:
        raise MalformedRecord(f"decimals are not a number from 0 to 255: {_shown(decimals)}")
    return decimals


def whole_amount(value: object, name: str) -> int:
    """An amount in base units (a string of digits; a whole number will do), or `MalformedRecord`."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 20:
        amount = int(value)
    elif type(value) is int and value >= 0:
        amount = value
    else:
        raise MalformedRecord(f"{name} is not an amount in base units: {_shown(value)}")
    if amount > MAX_AMOUNT:
        raise MalformedRecord(f"{name} is above 2^64 - 1, the most that an account can hold: {amount}")
    return amount


def _shown(value: object) -> str:
    return repr(value)[:100]
