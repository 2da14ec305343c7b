"""A second opinion: from `base64` answers to `json` and `jsonParsed` ones, as an RPC node makes them.

The binary form is read by solders; parsed forms follow agave's transaction-status/src/parse_token.rs and its
neighbours, for the token programs, the associated token program and memos. All others stay partially decoded.
"""

import base64
import copy
from typing import Any

from solders.transaction import VersionedTransaction

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
TOKEN_PROGRAMS = {
    "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA": "spl-token",
    "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb": "spl-token-2022",
}
ASSOCIATED = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"
MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
MINT_AUTHORITIES = {0: "mintTokens", 1: "freezeAccount"}
ACCOUNT_AUTHORITIES = {2: "accountOwner", 3: "closeAccount"}


def base58_reference(data: bytes) -> str:
    """The textbook way: one digit at a time."""
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = ALPHABET[digit] + digits
    zeros = next((at for at, byte in enumerate(data) if byte), len(data))
    return "1" * zeros + digits


def base58_decode_reference(text: str) -> bytes:
    number = 0
    for letter in text:
        number = number * 58 + ALPHABET.index(letter)
    zeros = next((at for at, letter in enumerate(text) if letter != "1"), len(text))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def transcode(answer: dict[str, Any], encoding: str) -> dict[str, Any]:
    """A `base64` answer, or entry of a block, in `json` or `jsonParsed`."""
    answer = copy.deepcopy(answer)
    transaction = VersionedTransaction.from_bytes(base64.b64decode(answer["transaction"][0]))
    message = transaction.message
    meta = answer["meta"]
    loaded = meta.get("loadedAddresses") or {"writable": [], "readonly": []}
    static = [str(key) for key in message.account_keys]
    keys = static + loaded["writable"] + loaded["readonly"]
    signers = message.header.num_required_signatures
    compiled = [
        {
            "programIdIndex": instruction.program_id_index,
            "accounts": list(instruction.accounts),
            "data": base58_reference(bytes(instruction.data)),
            "stackHeight": 1,
        }
        for instruction in message.instructions
    ]
    lookups = [
        {
            "accountKey": str(lookup.account_key),
            "writableIndexes": list(lookup.writable_indexes),
            "readonlyIndexes": list(lookup.readonly_indexes),
        }
        for lookup in getattr(message, "address_table_lookups", [])
    ]
    written: dict[str, Any] = {"recentBlockhash": static[0]}
    if encoding == "json":
        written |= {
            "header": {
                "numRequiredSignatures": signers,
                "numReadonlySignedAccounts": 0,
                "numReadonlyUnsignedAccounts": 0,
            },
            "accountKeys": static,
            "instructions": compiled,
        }
    else:
        written |= {
            "accountKeys": [
                {
                    "pubkey": key,
                    "signer": place < signers,
                    "writable": True,
                    "source": "transaction" if place < len(static) else "lookupTable",
                }
                for place, key in enumerate(keys)
            ],
            "instructions": [_parsed(instruction, keys) for instruction in compiled],
        }
        meta.pop("loadedAddresses", None)
        for group in meta.get("innerInstructions") or ():
            group["instructions"] = [_parsed(instruction, keys) for instruction in group["instructions"]]
    if hasattr(message, "address_table_lookups"):
        written["addressTableLookups"] = lookups
    answer["transaction"] = {"signatures": [str(s) for s in transaction.signatures], "message": written}
    return answer


def _parsed(instruction: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    program = keys[instruction["programIdIndex"]]
    accounts = [keys[account] for account in instruction["accounts"]]
    data = base58_decode_reference(instruction["data"])
    parsed: Any = None
    name = ""
    if program in TOKEN_PROGRAMS:
        name, parsed = TOKEN_PROGRAMS[program], parse_token(data, accounts)
    elif program == ASSOCIATED:
        name, parsed = "spl-associated-token-account", _parse_associated(data, accounts)
    elif program == MEMO:
        name, parsed = "spl-memo", data.decode()
    if parsed is None:
        return {"programId": program, "accounts": accounts, "data": instruction["data"], "stackHeight": 1}
    return {"program": name, "programId": program, "parsed": parsed, "stackHeight": 1}


def parse_token(data: bytes, accounts: list[str]) -> dict[str, Any] | None:
    """`parsed` of a token instruction, or None where agave leaves it partially decoded."""
    tag = data[0] if data else None
    amount = str(int.from_bytes(data[1:9], "little"))

    def form(kind: str, least: int, signed: int | None = None, signed_as: str = "authority", **info: Any) -> Any:
        if len(accounts) < least:
            return None
        if signed is not None:
            if len(accounts) > signed + 1:
                multisig = "multisig" + signed_as[0].upper() + signed_as[1:]
                info |= {multisig: accounts[signed], "signers": accounts[signed + 1 :]}
            else:
                info[signed_as] = accounts[signed]
        return {"type": kind, "info": info}

    if tag == 255:
        return _parse_batch(data[1:], accounts)
    padded = [*accounts, *[""] * 8]
    first, second, third = padded[:3]
    if tag == 3 and len(data) >= 9:
        return form("transfer", 3, 2, source=first, destination=second, amount=amount)
    if tag == 12 and len(data) >= 10:
        ui = _ui_amount(amount, data[9])
        return form("transferChecked", 4, 3, source=first, mint=second, destination=third, tokenAmount=ui)
    if tag == 26 and len(data) >= 19 and data[1] == 1:
        gross = _ui_amount(str(int.from_bytes(data[2:10], "little")), data[10])
        fee = _ui_amount(str(int.from_bytes(data[11:19], "little")), data[10])
        info = {"source": first, "mint": second, "destination": third, "tokenAmount": gross, "feeAmount": fee}
        return form("transferCheckedWithFee", 4, 3, **info)
    if tag == 1:
        return form("initializeAccount", 4, account=first, mint=second, owner=third, rentSysvar=padded[3])
    if tag == 16 and len(data) >= 33:
        owner = base58_reference(data[1:33])
        return form("initializeAccount2", 3, account=first, mint=second, owner=owner, rentSysvar=third)
    if tag == 18 and len(data) >= 33:
        return form("initializeAccount3", 2, account=first, mint=second, owner=base58_reference(data[1:33]))
    if tag == 6 and len(data) >= 3 and data[1] in MINT_AUTHORITIES | ACCOUNT_AUTHORITIES:
        owned = "mint" if data[1] in MINT_AUTHORITIES else "account"
        new = base58_reference(data[3:35]) if data[2] == 1 else None
        named = (MINT_AUTHORITIES | ACCOUNT_AUTHORITIES)[data[1]]
        return form("setAuthority", 2, 1, **{owned: first, "authorityType": named, "newAuthority": new})
    if tag == 7 and len(data) >= 9:
        return form("mintTo", 3, 2, "mintAuthority", mint=first, account=second, amount=amount)
    if tag == 8 and len(data) >= 9:
        return form("burn", 3, 2, account=first, mint=second, amount=amount)
    if tag == 14 and len(data) >= 10:
        ui = _ui_amount(amount, data[9])
        return form("mintToChecked", 3, 2, "mintAuthority", mint=first, account=second, tokenAmount=ui)
    if tag == 15 and len(data) >= 10:
        return form("burnChecked", 3, 2, account=first, mint=second, tokenAmount=_ui_amount(amount, data[9]))
    if tag == 9:
        return form("closeAccount", 3, 2, "owner", account=first, destination=second)
    if tag == 17:
        return form("syncNative", 1, account=first)
    if tag == 20 and len(data) >= 35:
        authority = base58_reference(data[2:34])
        return form("initializeMint2", 1, mint=first, decimals=data[1], mintAuthority=authority)
    return None


def _parse_batch(data: bytes, accounts: list[str]) -> dict[str, Any] | None:
    parts = []
    while data:
        if len(data) < 2 or len(data) < 2 + data[1] or len(accounts) < data[0] or data[2:3] == b"\xff":
            return None
        part = parse_token(data[2 : 2 + data[1]], accounts[: data[0]])
        if part is None:
            return None
        parts.append(part)
        accounts, data = accounts[data[0] :], data[2 + data[1] :]
    return {"type": "batch", "info": {"instructions": parts}} if parts else None


def _parse_associated(data: bytes, accounts: list[str]) -> dict[str, Any] | None:
    if data not in (b"", b"\0", b"\1") or len(accounts) < 6:
        return None
    names = ("source", "account", "wallet", "mint", "systemProgram", "tokenProgram")
    return {
        "type": "createIdempotent" if data == b"\1" else "create",
        "info": dict(zip(names, accounts, strict=False)),
    }


def _ui_amount(amount: str, decimals: int) -> dict[str, Any]:
    scaled = int(amount) / 10**decimals
    return {"amount": amount, "decimals": decimals, "uiAmount": scaled, "uiAmountString": str(scaled)}
