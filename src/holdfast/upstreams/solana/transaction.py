"""From one decoded answer to one `Transaction`, whatever the encoding.

A transaction that names no token program is done as soon as its indexes are found to make sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana import base58
from holdfast.upstreams.solana.answers import (
    CompiledInstruction,
    Entry,
    InnerInstructions,
    Outcome,
    Parsed,
    TokenBalance,
)
from holdfast.upstreams.solana.instructions import list_instructions
from holdfast.upstreams.solana.ownership import settle
from holdfast.upstreams.solana.records import TokenTransfer, Transaction
from holdfast.upstreams.solana.token_program import (
    ASSOCIATED_TOKEN,
    TOKEN,
    TOKEN_2022,
    Step,
    Transfer,
    read_associated,
    read_parsed_associated,
    read_parsed_token,
    read_token,
    whole_amount,
)
from holdfast.upstreams.solana.view import view
from holdfast.upstreams.solana.wire import WireInstruction

Wanted = bool | Callable[[Transaction], bool]

_Instructions = Sequence[CompiledInstruction | WireInstruction]
_Inner = Mapping[int, list[CompiledInstruction]]

# Keys are text or bytes, by encoding; either finds the program's address.
_PROGRAMS: dict[str | bytes, str] = {
    form: program for program in (TOKEN, TOKEN_2022, ASSOCIATED_TOKEN) for form in (program, base58.decode(program))
}
_TOKEN_KEYS = frozenset(form for form, program in _PROGRAMS.items() if program != ASSOCIATED_TOKEN)


def build(entry: Entry, slot: int | None, block_time: int | None, instructions: Wanted) -> Transaction:
    """The transaction of `entry`; `slot` and `block_time` stand in for what it does not say itself.

    Raises `MalformedRecord` where it contradicts itself or says what cannot be.
    """
    meta = entry.meta
    if meta is None:
        raise MalformedRecord("no meta: whether the transaction succeeded is not known")
    seen = view(entry)
    inner = _inner_lists(meta.innerInstructions, len(seen.instructions))
    count = len(seen.keys)
    for balances in (meta.preTokenBalances, meta.postTokenBalances):
        if balances:
            _check_balances(balances, count)
    programs = {}
    if not _TOKEN_KEYS.isdisjoint(seen.keys):
        programs = {place: _PROGRAMS[key] for place, key in enumerate(seen.keys) if key in _PROGRAMS}

    steps: list[Step] = []
    if seen.index is None:
        _follow(seen.instructions, inner, count, programs, steps)
    else:
        _follow_parsed(seen.instructions, inner, seen.index, programs, steps)

    successful, error = _outcome(meta)
    transfers: tuple[TokenTransfer, ...] = ()
    if any(isinstance(step, Transfer) for step in steps):
        transfers = settle(steps, meta.preTokenBalances or (), meta.postTokenBalances or (), seen.address, successful)
    transaction = Transaction(
        signature=seen.signature,
        slot=slot if entry.slot is None else entry.slot,
        block_time=block_time if entry.blockTime is None else entry.blockTime,
        version=seen.version,
        fee_payer=seen.signers[0],
        signers=seen.signers,
        fee=meta.fee,
        successful=successful,
        error=error,
        instructions=(),
        transfers=transfers,
    )
    if instructions is True or (instructions and instructions(transaction)):
        return msgspec.structs.replace(transaction, instructions=list_instructions(seen, inner))
    return transaction


def _outcome(meta: Outcome) -> tuple[bool, str | None]:
    raw = bytes(meta.err)
    if raw == b"null":
        return True, None
    error = msgspec.json.format(raw, indent=-1).decode()
    if "\\u0000" in error:
        raise MalformedRecord(f"NUL in the text of meta.err: {error[:100]}")
    return False, error


def _inner_lists(groups: list[InnerInstructions] | None, count: int) -> dict[int, list[CompiledInstruction]]:
    inner: dict[int, list[CompiledInstruction]] = {}
    for group in groups or ():
        if group.index >= count or group.index in inner:
            problem = "is given twice" if group.index in inner else f"does not exist: there are {count}"
            raise MalformedRecord(f"inner instructions of instruction {group.index}, which {problem}")
        inner[group.index] = group.instructions
    return inner


def _check_balances(balances: list[TokenBalance], count: int) -> None:
    places = set()
    addresses = []
    for balance in balances:
        places.add(balance.accountIndex)
        addresses.append(balance.mint)
        if balance.owner:
            addresses.append(balance.owner)
        amount = balance.uiTokenAmount.amount
        if len(amount) > 19 or not (
            amount.isdigit() and amount.isascii()
        ):  # the rare and the wrong; 19 digits always fit
            whole_amount(amount, "amount of a token balance")
    if max(places) >= count:
        raise MalformedRecord(f"token balance of account {max(places)}, which does not exist: there are {count}")
    if len(places) != len(balances):
        raise MalformedRecord("token balances name one account twice")
    base58.check_addresses(addresses)


def _follow(
    instructions: _Instructions, inner: _Inner, count: int, programs: Mapping[int, str], steps: list[Step]
) -> None:
    """Collect what the instructions do, in execution order, checking every index on the way."""
    for place, instruction in enumerate(instructions):
        _step(instruction, place, None, count, programs, steps)
        for inner_place, called in enumerate(inner.get(place, ())):
            _step(called, place, inner_place, count, programs, steps)


def _step(
    instruction: CompiledInstruction | WireInstruction,
    place: int,
    inner: int | None,
    count: int,
    programs: Mapping[int, str],
    steps: list[Step],
) -> None:
    accounts: Any = instruction.accounts  # indexes; addresses where the record mixes the two forms
    program_place = instruction.programIdIndex
    try:
        if program_place is None or program_place >= count or (accounts and max(accounts) >= count):
            raise MalformedRecord(
                f"{_name(place, inner)} names account {max([program_place or 0, *(accounts or ())])}, "
                f"which does not exist: there are {count}"
            )
    except TypeError:
        raise MalformedRecord(f"{_name(place, inner)} mixes account indexes and addresses") from None
    program = programs.get(program_place)
    if program is not None:
        data = instruction.data if isinstance(instruction.data, bytes) else base58.decode(instruction.data)
        if program == ASSOCIATED_TOKEN:
            read_associated(data, accounts or (), steps)
        else:
            read_token(data, accounts or (), program, (place, inner, None), steps)


def _follow_parsed(
    instructions: _Instructions,
    inner: _Inner,
    index: Mapping[str, int],
    programs: Mapping[int, str],
    steps: list[Step],
) -> None:
    for place, instruction in enumerate(instructions):
        _step_parsed(instruction, place, None, index, programs, steps)
        for inner_place, called in enumerate(inner.get(place, ())):
            _step_parsed(called, place, inner_place, index, programs, steps)


def _step_parsed(
    instruction: CompiledInstruction | WireInstruction,
    place: int,
    inner: int | None,
    index: Mapping[str, int],
    programs: Mapping[int, str],
    steps: list[Step],
) -> None:
    assert isinstance(instruction, CompiledInstruction)
    program_place = index.get(instruction.programId or "")
    if program_place is None:
        raise MalformedRecord(f"{_name(place, inner)} has no program among the transaction's accounts")
    accounts = []
    for account in instruction.accounts or ():
        account_place = index.get(account) if isinstance(account, str) else None
        if account_place is None:
            raise MalformedRecord(f"{_name(place, inner)} names {account!r}, which is not among the accounts")
        accounts.append(account_place)
    program = programs.get(program_place)
    if program is None:
        return
    parsed = instruction.parsed
    if parsed is None:
        data = base58.decode(instruction.data)
        if program == ASSOCIATED_TOKEN:
            read_associated(data, accounts, steps)
        else:
            read_token(data, accounts, program, (place, inner, None), steps)
    elif not isinstance(parsed, Parsed):
        raise MalformedRecord(f"{_name(place, inner)} of {program} has no parsed fields: {str(parsed)[:100]!r}")
    elif program == ASSOCIATED_TOKEN:
        read_parsed_associated(parsed, index, steps)
    else:
        read_parsed_token(parsed, index, program, (place, inner, None), steps)


def _name(place: int, inner: int | None) -> str:
    return f"instruction {place}" if inner is None else f"inner instruction {inner} of instruction {place}"
