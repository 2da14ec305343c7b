"""The binary form of a transaction, as `base64` and `base58` answers carry it.

Legacy and version 0: https://solana.com/docs/core/transactions; version 1: SIMD-0385.
"""

from __future__ import annotations

from msgspec import Struct

from holdfast.errors import MalformedRecord


class WireInstruction(Struct, gc=False):
    """A top-level instruction; `accounts` holds one key index a byte."""

    programIdIndex: int
    accounts: bytes
    data: bytes


class WireTransaction(Struct, gc=False):
    version: str  # "legacy", "0" or "1"
    signatures: list[bytes]  # 64 bytes each, at least one
    signers: int  # the first so many of `keys`
    keys: list[bytes]  # static keys, 32 bytes each
    instructions: list[WireInstruction]
    loaded_writable: int  # how many keys come from lookup tables
    loaded_readonly: int


def read(raw: bytes) -> WireTransaction:
    """The parts of one transaction. Raises `MalformedRecord` unless `raw` is exactly one."""
    try:
        transaction, end = _read_v1(raw) if raw[0] == 0x81 else _read_v0(raw)
    except IndexError:
        raise MalformedRecord(f"transaction truncated: {len(raw)} bytes are not a whole one") from None
    if end != len(raw):
        # Slices do not raise at the end of the input, so an end beyond it shows truncation too.
        what = "truncated" if end > len(raw) else "followed by other bytes"
        raise MalformedRecord(f"transaction {what}: it should take {end} bytes and there are {len(raw)}")
    if not 1 <= transaction.signers <= len(transaction.keys):
        raise MalformedRecord(
            f"transaction asks for {transaction.signers} signers and has {len(transaction.keys)} accounts"
        )
    if transaction.signers != len(transaction.signatures):
        raise MalformedRecord(
            f"transaction has {len(transaction.signatures)} signatures for {transaction.signers} signers"
        )
    return transaction


def _count(raw: bytes, at: int) -> tuple[int, int]:
    """A compact-u16 (seven bits a byte, low ones first, in its shortest form) and where it ends."""
    value = raw[at]
    if value < 0x80:
        return value, at + 1
    second = raw[at + 1]
    if second == 0:
        raise MalformedRecord(f"transaction has a length at byte {at} that is not in its shortest form")
    if second < 0x80:
        return (value & 0x7F) | second << 7, at + 2
    third = raw[at + 2]
    if not 1 <= third <= 3:
        raise MalformedRecord(f"transaction has a length at byte {at} that is no compact-u16")
    return (value & 0x7F) | (second & 0x7F) << 7 | third << 14, at + 3


def _read_v0(raw: bytes) -> tuple[WireTransaction, int]:
    signatures, at = _count(raw, 0)
    message = at + 64 * signatures
    version = "legacy"
    at = message
    if raw[at] & 0x80:
        if raw[at] != 0x80:
            raise MalformedRecord(f"transaction version {raw[at] & 0x7F} is not known: legacy, 0 and 1 are")
        version = "0"
        at += 1
    signers = raw[at]
    key_count, at = _count(raw, at + 3)
    first_key = at
    at += 32 * key_count
    keys = [raw[key : key + 32] for key in range(first_key, at, 32)]
    at += 32  # the recent blockhash
    instruction_count, at = _count(raw, at)
    instructions = []
    for _ in range(instruction_count):
        program = raw[at]
        size, start = (raw[at + 1], at + 2) if raw[at + 1] < 0x80 else _count(raw, at + 1)
        at = start + size
        accounts = raw[start:at]
        size, start = (raw[at], at + 1) if raw[at] < 0x80 else _count(raw, at)
        at = start + size
        instructions.append(WireInstruction(program, accounts, raw[start:at]))
    writable = readonly = 0
    if version == "0":
        table_count, at = _count(raw, at)
        for _ in range(table_count):
            size, at = _count(raw, at + 32)
            writable += size
            size, at = _count(raw, at + size)
            readonly += size
            at += size
    first_signature = message - 64 * signatures
    return (
        WireTransaction(
            version,
            [raw[start : start + 64] for start in range(first_signature, message, 64)],
            signers,
            keys,
            instructions,
            writable,
            readonly,
        ),
        at,
    )


def _read_v1(raw: bytes) -> tuple[WireTransaction, int]:
    signers = raw[1]
    settings = int.from_bytes(raw[4:8], "little")
    instruction_count, key_count = raw[40], raw[41]
    at = 42 + 32 * key_count
    keys = [raw[key : key + 32] for key in range(42, at, 32)]
    at += 4 * settings.bit_count()
    headers = at
    at += 4 * instruction_count
    instructions = []
    for header in range(headers, at, 4):
        program, accounts, size = raw[header], raw[header + 1], raw[header + 2] | raw[header + 3] << 8
        instructions.append(
            WireInstruction(program, raw[at : at + accounts], raw[at + accounts : at + accounts + size])
        )
        at += accounts + size
    end = at + 64 * signers
    signatures = [raw[start : start + 64] for start in range(at, end, 64)]
    return WireTransaction("1", signatures, signers, keys, instructions, 0, 0), end
