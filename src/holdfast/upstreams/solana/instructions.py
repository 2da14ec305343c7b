"""The instructions of a transaction as records: made only for callers who ask, since they cost the most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from holdfast.upstreams.solana import base58
from holdfast.upstreams.solana.answers import CompiledInstruction, Parsed
from holdfast.upstreams.solana.records import Instruction
from holdfast.upstreams.solana.view import View
from holdfast.upstreams.solana.wire import WireInstruction

# Fields of token and system instructions whose address is part of the data, not one of the accounts.
_NOT_ACCOUNTS = {
    "initializeAccount2": ("owner",),
    "initializeAccount3": ("owner",),
    "initializeMint": ("mintAuthority", "freezeAuthority"),
    "initializeMint2": ("mintAuthority", "freezeAuthority"),
    "setAuthority": ("newAuthority",),
    "createAccount": ("owner",),
    "createAccountWithSeed": ("owner",),
    "allocateWithSeed": ("owner",),
    "assign": ("owner",),
    "assignWithSeed": ("owner",),
}


def list_instructions(seen: View, ordered: Iterable[tuple[int, int | None, Any]]) -> tuple[Instruction, ...]:
    """The records of `ordered`: place, place among the inner instructions, instruction as decoded.

    Raises `MalformedRecord` for data that is not base58. Indexes must have been checked before.
    """
    return tuple([_instruction(seen, instruction, place, inner) for place, inner, instruction in ordered])


def _instruction(
    seen: View, instruction: CompiledInstruction | WireInstruction, place: int, inner: int | None
) -> Instruction:
    kind = None
    accounts: tuple[str, ...]
    if seen.index is None:
        program = seen.address(instruction.programIdIndex or 0)
        accounts = tuple([seen.address(account) for account in instruction.accounts or ()])  # type: ignore[arg-type]
        data = instruction.data if isinstance(instruction.data, bytes) else base58.decode(instruction.data)
    else:
        assert isinstance(instruction, CompiledInstruction)
        program = instruction.programId or ""
        parsed = instruction.parsed
        if parsed is None:
            accounts = tuple(instruction.accounts or ())  # type: ignore[arg-type]
            data = base58.decode(instruction.data)
        elif isinstance(parsed, Parsed):
            kind, data = parsed.type, b""
            info = msgspec.json.decode(parsed.info)
            accounts = tuple(dict.fromkeys(_named(_without_data({"type": kind, "info": info}), seen.index)))
        else:
            accounts, data = (), parsed.encode() if isinstance(parsed, str) else b""
    return Instruction(instruction=place, inner=inner, program=program, accounts=accounts, data=data, parsed_type=kind)


def _without_data(parsed: dict[str, Any]) -> Any:
    """`parsed` without the addresses that are part of the data, in a batch too."""
    info, kind = parsed.get("info"), parsed.get("type")
    if not isinstance(info, dict) or not isinstance(kind, str):
        return info
    if kind == "batch" and isinstance(info.get("instructions"), list):
        return [_without_data(part) for part in info["instructions"] if isinstance(part, dict)]
    left_out = _NOT_ACCOUNTS.get(kind, ())
    return {name: value for name, value in info.items() if name not in left_out}


def _named(info: Any, index: Mapping[str, int]) -> list[str]:
    """The transaction's accounts that a parsed instruction names, in the order of its fields."""
    if isinstance(info, str):
        return [info] if info in index else []
    if isinstance(info, dict):
        info = list(info.values())
    if not isinstance(info, list):
        return []
    return [name for value in info for name in _named(value, index)]
