"""From one decoded answer to one `Transaction`, whatever the encoding.

A transaction that names no token program is done as soon as its indexes are found to make sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import msgspec

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana import base58
from holdfast.upstreams.solana.answers import (
    CompiledInstruction,
    Entry,
    InnerInstructions,
    Outcome,
    Parsed,
)
from holdfast.upstreams.solana.associated import ASSOCIATED_TOKEN_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from holdfast.upstreams.solana.instructions import list_instructions
from holdfast.upstreams.solana.ownership import settle
from holdfast.upstreams.solana.records import TokenTransfer, Transaction
from holdfast.upstreams.solana.token_program import (
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

# Which instructions a transaction is to carry: none, those at top level, or all; or what a function says of each.
Scope = bool | Literal["top-level"]
Wanted = Scope | Callable[[Transaction], Scope]

_Instructions = Sequence[CompiledInstruction | WireInstruction]
_Inner = Mapping[int, list[CompiledInstruction]]
# The place of a top-level instruction, the place among its inner ones, the instruction: by index in most
# encodings, by name in `jsonParsed`.
_Placed = tuple[int, int | None, Any]

# Keys are text or bytes, by encoding; either finds the program's address.
_PROGRAMS: dict[str | bytes, str] = {
    form: program
    for program in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM, ASSOCIATED_TOKEN_PROGRAM)
    for form in (program, base58.decode(program))
}
_TOKEN_KEYS = frozenset(form for form, program in _PROGRAMS.items() if program != ASSOCIATED_TOKEN_PROGRAM)


def build(entry: Entry, slot: int | None, block_time: int | None, instructions: Wanted) -> Transaction:
    """The transaction of `entry`; `slot` and `block_time` stand in for what it does not say itself.

    Raises `MalformedRecord` where it contradicts itself or says what cannot be.
    """
    meta = entry.meta
    if meta is None:
        raise MalformedRecord("no meta: whether the transaction succeeded is not known")
    seen = view(entry)
    keys = seen.keys
    if meta.preTokenBalances or meta.postTokenBalances:
        _check_balances(meta, len(keys))
    ordered = _in_order(seen.instructions, _inner_lists(meta.innerInstructions, len(seen.instructions)))
    is_token = not _TOKEN_KEYS.isdisjoint(keys)
    steps: list[Step] = []
    if seen.index is not None:
        steps = _parsed_steps(ordered, seen.index, is_token)
    else:
        _check_indexes(ordered, len(keys))
        if is_token:
            steps = _steps(ordered, {place: _PROGRAMS[key] for place, key in enumerate(keys) if key in _PROGRAMS})

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
    scope = instructions(transaction) if callable(instructions) else instructions
    if not scope:
        return transaction
    if scope == "top-level":
        ordered = [(place, inner, instruction) for place, inner, instruction in ordered if inner is None]
    return msgspec.structs.replace(transaction, instructions=list_instructions(seen, ordered))


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


def _check_balances(meta: Outcome, count: int) -> None:
    before, after = meta.preTokenBalances or [], meta.postTokenBalances or []
    for balances in (before, after):
        places = {balance.accountIndex for balance in balances}
        if places and max(places) >= count:
            raise MalformedRecord(f"token balance of account {max(places)}, which does not exist: there are {count}")
        if len(places) != len(balances):
            raise MalformedRecord("token balances name one account twice")
    both = before + after
    amounts = [balance.uiTokenAmount.amount for balance in both]
    lengths = set(map(len, amounts))
    if not "".join(amounts).isdigit() or 0 in lengths or max(lengths) > 19:  # 19 digits always fit
        for amount in amounts:
            whole_amount(amount, "amount of a token balance")
    base58.check_addresses([balance.mint for balance in both])
    base58.check_addresses([balance.owner for balance in both if balance.owner])


def _in_order(instructions: _Instructions, inner: _Inner) -> list[_Placed]:
    """Every instruction in execution order: each top-level one, then its inner ones."""
    if not inner:
        return [(place, None, instruction) for place, instruction in enumerate(instructions)]
    ordered: list[_Placed] = []
    for place, instruction in enumerate(instructions):
        ordered.append((place, None, instruction))
        for inner_place, called in enumerate(inner.get(place, ())):
            ordered.append((place, inner_place, called))
    return ordered


def _check_indexes(ordered: list[_Placed], count: int) -> None:
    try:
        used = max(chain.from_iterable([instruction.accounts or () for _, _, instruction in ordered]), default=0)
        program = max([instruction.programIdIndex for _, _, instruction in ordered], default=0)
        if used < count and program < count:
            return
    except TypeError:
        pass
    for place, inner, instruction in ordered:
        for index in (instruction.programIdIndex, *(instruction.accounts or ())):
            if not isinstance(index, int) or index >= count:
                raise MalformedRecord(
                    f"{_name(place, inner)} names account {index!r}, which does not exist: there are {count}"
                )


def _steps(ordered: list[_Placed], programs: Mapping[int, str]) -> list[Step]:
    steps: list[Step] = []
    for place, inner, instruction in ordered:
        program = programs.get(instruction.programIdIndex)
        if program is None:
            continue
        data = instruction.data if isinstance(instruction.data, bytes) else base58.decode(instruction.data)
        if program == ASSOCIATED_TOKEN_PROGRAM:
            read_associated(data, instruction.accounts or (), steps)
        else:
            read_token(data, instruction.accounts or (), program, (place, inner, None), steps)
    return steps


def _parsed_steps(ordered: list[_Placed], index: Mapping[str, int], is_token: bool) -> list[Step]:
    steps: list[Step] = []
    for place, inner, instruction in ordered:
        program = instruction.programId
        if program not in index:
            raise MalformedRecord(f"{_name(place, inner)} has no program among the transaction's accounts")
        try:
            accounts = [index[account] for account in instruction.accounts or ()]
        except KeyError as missing:
            raise MalformedRecord(f"{_name(place, inner)} names {missing}, which is not among the accounts") from None
        if not is_token or program not in _PROGRAMS:
            continue
        parsed = instruction.parsed
        if parsed is None:
            data = base58.decode(instruction.data)
            if program == ASSOCIATED_TOKEN_PROGRAM:
                read_associated(data, accounts, steps)
            else:
                read_token(data, accounts, program, (place, inner, None), steps)
        elif not isinstance(parsed, Parsed):
            raise MalformedRecord(f"{_name(place, inner)} of {program} has no parsed fields: {str(parsed)[:100]!r}")
        elif program == ASSOCIATED_TOKEN_PROGRAM:
            read_parsed_associated(parsed, index, steps)
        else:
            read_parsed_token(parsed, index, program, (place, inner, None), steps)
    return steps


def _name(place: int, inner: int | None) -> str:
    return f"instruction {place}" if inner is None else f"inner instruction {inner} of instruction {place}"
