"""What the balance lists say of the transfers, worked out from `jsonParsed` forms alone.

Over a transaction, an account's balance changes by what came in less what went out. That holds for the
accounts whose balance nothing else touched; those are compared.
"""

from collections import defaultdict
from typing import Any

from holdfast.upstreams.solana.records import Transaction
from tests.upstreams.encodings import TOKEN_PROGRAMS

OTHER_CHANGES = {
    "mintTo": ("account",),
    "mintToChecked": ("account",),
    "burn": ("account",),
    "burnChecked": ("account",),
    "closeAccount": ("account",),
    "syncNative": ("account",),
    "initializeAccount": ("account",),
    "initializeAccount2": ("account",),
    "initializeAccount3": ("account",),
    "unwrapLamports": ("source",),
}
TOKEN_2022 = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"


def disagreements(parsed_answer: dict[str, Any], transaction: Transaction) -> tuple[int, list[str]]:
    """How many accounts could be compared, and what disagrees; of a transaction that succeeded."""
    message = parsed_answer["transaction"]["message"]
    meta = parsed_answer["meta"]
    keys = [account["pubkey"] for account in message["accountKeys"]]
    before = {keys[b["accountIndex"]]: b for b in meta["preTokenBalances"]}
    after = {keys[b["accountIndex"]]: b for b in meta["postTokenBalances"]}

    touched = set()
    instructions = [*message["instructions"], *(i for g in meta["innerInstructions"] for i in g["instructions"])]
    for instruction in instructions:
        if instruction["programId"] in TOKEN_PROGRAMS and "parsed" in instruction:
            parsed = instruction["parsed"]
            touched |= {parsed["info"][name] for name in OTHER_CHANGES.get(parsed["type"], ())}

    moved: dict[str, int] = defaultdict(int)
    problems = []
    for transfer in transaction.transfers:
        moved[transfer.source] -= transfer.amount
        moved[transfer.destination] += transfer.amount - (transfer.fee or 0)
        ends = ((transfer.source, transfer.source_owner), (transfer.destination, transfer.destination_owner))
        for account, owner in ends:
            listed = [lists[account] for lists in (before, after) if account in lists]
            if any(balance["mint"] != transfer.mint for balance in listed):
                problems.append(f"{account} does not hold {transfer.mint}")
            if any(balance["uiTokenAmount"]["decimals"] != transfer.decimals for balance in listed):
                problems.append(f"{transfer.mint} does not have {transfer.decimals} decimals")
            owners = {balance["owner"] for balance in listed if "owner" in balance}
            if len(owners) == 1 and owner not in owners:
                problems.append(f"{account} belongs to {owners}, not {owner}")

    compared = 0
    for account in before.keys() & after.keys() - touched:
        if before[account].get("programId") == TOKEN_2022:
            continue  # the mint may keep a fee that a plain transfer does not tell
        compared += 1
        change = int(after[account]["uiTokenAmount"]["amount"]) - int(before[account]["uiTokenAmount"]["amount"])
        if change != moved[account]:
            problems.append(f"{account} changed by {change}, the transfers say {moved[account]}")
    return compared, problems
