"""What the token balances of an answer say must have moved, worked out without Holdfast's parser.

Over a successful transaction an account's balance changes by what came in less what went out, unless something
else touched it: minting, burning, wrapping, closing. Which accounts those are is read off the first byte of the
token programs' instructions (github.com/solana-program/token, interface/src/instruction.rs).
"""

from __future__ import annotations

import base64
from collections import defaultdict
from typing import Any

from solders.transaction import VersionedTransaction

from tests.upstreams.encodings import base58_decode_reference

TOKEN = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TOKEN_2022 = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
# Instruction → the place of the account whose balance it changes otherwise than by a transfer.
_OTHERWISE = {1: 0, 7: 1, 8: 0, 9: 0, 14: 1, 15: 0, 16: 0, 17: 0, 18: 0}
_PARSED = {
    "initializeAccount": "account",
    "initializeAccount2": "account",
    "initializeAccount3": "account",
    "mintTo": "account",
    "mintToChecked": "account",
    "burn": "account",
    "burnChecked": "account",
    "closeAccount": "account",
    "syncNative": "account",
}

Instruction = tuple[str, list[str], bytes, dict[str, Any] | None]  # program, accounts, data, `parsed`


def entries(document: Any) -> list[dict[str, Any]]:
    """The transactions of a document: an answer, a block, an envelope around either, a list of any."""
    if isinstance(document, list):
        return [entry for part in document for entry in entries(part)]
    if not isinstance(document, dict):
        return []
    if "result" in document:
        return entries(document["result"])
    if "transactions" in document:
        return list(document["transactions"])
    return [document] if "transaction" in document else []


def signature_of(entry: dict[str, Any]) -> str:
    """The first signature."""
    transaction = entry["transaction"]
    if isinstance(transaction, dict):
        return str(transaction["signatures"][0])
    return str(VersionedTransaction.from_bytes(base64.b64decode(transaction[0])).signatures[0])


def disagreements(entry: dict[str, Any], stored: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """How many balances of a successful transaction could be held against its stored transfers, and what disagrees."""
    keys, instructions = _read(entry)
    meta = entry["meta"]
    before = {keys[b["accountIndex"]]: b for b in meta["preTokenBalances"] or []}
    after = {keys[b["accountIndex"]]: b for b in meta["postTokenBalances"] or []}
    touched = {account for instruction in instructions for account in _touched(instruction)}

    moved: dict[str, int] = defaultdict(int)
    problems: list[str] = []
    for transfer in stored:
        moved[transfer["source"]] -= int(transfer["amount"])
        moved[transfer["destination"]] += int(transfer["amount"]) - int(transfer["fee"] or 0)
        for end in ("source", "destination"):
            account = transfer[end]
            listed = [lists[account] for lists in (before, after) if account in lists]
            problems += _problems(account, transfer, transfer[f"{end}_owner"], listed)

    compared = 0
    for account in (before.keys() | after.keys()) - touched:
        either = after.get(account) or before[account]
        if account not in before or account not in after or either.get("programId") == TOKEN_2022:
            continue  # opened or closed meanwhile; or a mint that may keep a fee of which a plain transfer is silent
        compared += 1
        change = _amount(after[account]) - _amount(before[account])
        if change != moved[account]:
            problems.append(f"{account} changed by {change}; the transfers say {moved[account]}")
    return compared, problems


def _problems(account: str, transfer: dict[str, Any], owner: str | None, listed: list[dict[str, Any]]) -> list[str]:
    problems = []
    for balance in listed:
        if balance["mint"] != transfer["mint"]:
            problems.append(f"{account} holds {balance['mint']}, not {transfer['mint']}")
        if balance["uiTokenAmount"]["decimals"] != transfer["decimals"]:
            problems.append(f"{balance['mint']} has {balance['uiTokenAmount']['decimals']} decimals")
    owners = {balance["owner"] for balance in listed if balance.get("owner")}
    if len(owners) == 1 and owner not in owners:
        problems.append(f"{account} belongs to {owners}, not {owner}")
    return problems


def _amount(balance: dict[str, Any]) -> int:
    return int(balance["uiTokenAmount"]["amount"])


def _touched(instruction: Instruction) -> list[str]:
    program, accounts, data, parsed = instruction
    if program not in (TOKEN, TOKEN_2022):
        return []
    if parsed is not None:
        name = _PARSED.get(parsed.get("type", ""))
        return [parsed["info"][name]] if name else []
    if data[:1] == b"\xff":  # a batch: whatever it holds, its accounts are left out
        return accounts
    place = _OTHERWISE.get(data[0]) if data else None
    return [accounts[place]] if place is not None and place < len(accounts) else []


def _read(entry: dict[str, Any]) -> tuple[list[str], list[Instruction]]:
    """The transaction's accounts, and all its instructions."""
    transaction, meta = entry["transaction"], entry["meta"]
    loaded = meta.get("loadedAddresses") or {"writable": [], "readonly": []}
    top: list[dict[str, Any]]
    if isinstance(transaction, dict):
        message = transaction["message"]
        keys = [key if isinstance(key, str) else key["pubkey"] for key in message["accountKeys"]]
        if all(isinstance(key, str) for key in message["accountKeys"]):
            keys += loaded["writable"] + loaded["readonly"]
        top = message["instructions"]
    else:
        raw = VersionedTransaction.from_bytes(base64.b64decode(transaction[0]))
        keys = [str(key) for key in raw.message.account_keys] + loaded["writable"] + loaded["readonly"]
        top = [
            {"programIdIndex": i.program_id_index, "accounts": list(i.accounts), "raw": bytes(i.data)}
            for i in raw.message.instructions
        ]
    inner = [i for group in meta.get("innerInstructions") or [] for i in group["instructions"]]
    return keys, [_instruction(i, keys) for i in (*top, *inner)]


def _instruction(given: dict[str, Any], keys: list[str]) -> Instruction:
    program = given["programId"] if "programId" in given else keys[given["programIdIndex"]]
    parsed = given.get("parsed")
    accounts = [a if isinstance(a, str) else keys[a] for a in given.get("accounts") or []]
    data = given["raw"] if "raw" in given else base58_decode_reference(given.get("data", ""))
    return program, accounts, data, parsed if isinstance(parsed, dict) else None
