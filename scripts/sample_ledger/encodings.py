"""One transaction in the three encodings of `getTransaction`: `json`, `base64` and `jsonParsed`."""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import Any

from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from holdfast.upstreams.solana.base58 import encode

from .addresses import ASSOCIATED, MEMO, SYSTEM, TOKEN, TOKEN_2022

_PROGRAMS = {
    str(TOKEN): "spl-token",
    str(TOKEN_2022): "spl-token-2022",
    str(ASSOCIATED): "spl-associated-token-account",
    str(MEMO): "spl-memo",
    str(SYSTEM): "system",
}


def as_json(tx: VersionedTransaction, keys: list[str], meta: dict[str, Any]) -> dict[str, Any]:
    """Return `transaction` in the encoding `json`; `meta`'s inner instructions get their data in base58."""
    message = tx.message
    _write_inner(meta, _compiled)
    header = message.header
    body: dict[str, Any] = {
        "accountKeys": [str(k) for k in message.account_keys],
        "header": {
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
            "numRequiredSignatures": header.num_required_signatures,
        },
        "instructions": [
            _compiled({"accounts": list(i.accounts), "data": bytes(i.data), "programIdIndex": i.program_id_index,
                       "stackHeight": 1})
            for i in message.instructions
        ],
        "recentBlockhash": str(message.recent_blockhash),
    }  # fmt: skip
    if isinstance(message, MessageV0):
        body["addressTableLookups"] = [
            {
                "accountKey": str(use.account_key),
                "readonlyIndexes": list(use.readonly_indexes),
                "writableIndexes": list(use.writable_indexes),
            }
            for use in message.address_table_lookups
        ]
    return {"transaction": {"message": body, "signatures": [str(s) for s in tx.signatures]}}


def as_base64(tx: VersionedTransaction, keys: list[str], meta: dict[str, Any]) -> dict[str, Any]:
    """Return `transaction` as bytes in base64; inner instructions stay as in `json`, as RPC nodes have it."""
    _write_inner(meta, _compiled)
    return {"transaction": [b64encode(bytes(tx)).decode(), "base64"]}


def as_parsed(tx: VersionedTransaction, keys: list[str], meta: dict[str, Any]) -> dict[str, Any]:
    """Return `transaction` in the encoding `jsonParsed`: known programs' instructions by name, the rest half raw."""
    message = tx.message
    header = message.header
    signers, static = header.num_required_signatures, len(message.account_keys)
    # Read-only accounts are the last of the signers and the last of the others.
    fixed = {*range(signers - header.num_readonly_signed_accounts, signers)}
    fixed |= {*range(static - header.num_readonly_unsigned_accounts, static)}

    def parsed(i: dict[str, Any]) -> dict[str, Any]:
        return _parsed(keys[i["programIdIndex"]], [keys[a] for a in i["accounts"]], i["data"], i["stackHeight"])

    _write_inner(meta, parsed)
    meta.pop("loadedAddresses")
    body: dict[str, Any] = {
        "accountKeys": [
            {
                "pubkey": k,
                "signer": i < signers,
                "source": "transaction",
                "writable": i not in fixed,
            }
            for i, k in enumerate(keys)
        ],
        "instructions": [
            parsed({"accounts": list(i.accounts), "data": bytes(i.data), "programIdIndex": i.program_id_index,
                    "stackHeight": 1})
            for i in message.instructions
        ],
        "recentBlockhash": str(message.recent_blockhash),
    }  # fmt: skip
    if isinstance(message, MessageV0):
        body["addressTableLookups"] = []
    return {"transaction": {"message": body, "signatures": [str(s) for s in tx.signatures]}}


def _write_inner(meta: dict[str, Any], write: Any) -> None:
    for called in meta["innerInstructions"]:
        called["instructions"] = [write(i) for i in called["instructions"]]


def _compiled(i: dict[str, Any]) -> dict[str, Any]:
    return {**i, "data": encode(i["data"])}


def _parsed(program: str, accounts: list[str], data: bytes, height: int) -> dict[str, Any]:
    parsed: Any = None
    if program == str(MEMO):
        parsed = data.decode()
    elif program == str(SYSTEM):
        parsed = _system(accounts, data)
    elif program == str(ASSOCIATED):
        parsed = _associated(accounts, data)
    elif program in (str(TOKEN), str(TOKEN_2022)):
        parsed = _token(accounts, data)
    if parsed is None:
        return {"accounts": accounts, "data": encode(data), "programId": program, "stackHeight": height}
    return {"parsed": parsed, "program": _PROGRAMS[program], "programId": program, "stackHeight": height}


def _system(a: list[str], data: bytes) -> dict[str, Any] | None:
    (tag,) = struct.unpack_from("<I", data)
    if tag == 0:
        _, lamports, space, owner = struct.unpack("<IQQ32s", data)
        info = {"lamports": lamports, "newAccount": a[1], "owner": str(Pubkey(owner)), "source": a[0], "space": space}
        return {"info": info, "type": "createAccount"}
    if tag == 2:
        info = {"destination": a[1], "lamports": struct.unpack_from("<Q", data, 4)[0], "source": a[0]}
        return {"info": info, "type": "transfer"}
    return None


def _associated(a: list[str], data: bytes) -> dict[str, Any] | None:
    if data[:1] not in (b"", b"\0", b"\1"):
        return None
    info = {"account": a[1], "mint": a[3], "source": a[0], "systemProgram": a[4], "tokenProgram": a[5], "wallet": a[2]}
    return {"info": info, "type": "createIdempotent" if data == b"\1" else "create"}


def _token(a: list[str], data: bytes) -> dict[str, Any] | None:
    if data[0] == 3:
        info: dict[str, Any] = {"amount": str(struct.unpack_from("<Q", data, 1)[0]), "authority": a[2],
                                "destination": a[1], "source": a[0]}  # fmt: skip
        return {"info": info, "type": "transfer"}
    if data[0] == 9:
        return {"info": {"account": a[0], "destination": a[1], "owner": a[2]}, "type": "closeAccount"}
    if data[0] == 12:
        _, amount, decimals = struct.unpack("<BQB", data)
        info = {"authority": a[3], "destination": a[2], "mint": a[1], "source": a[0],
                "tokenAmount": ui_amount(amount, decimals)}  # fmt: skip
        return {"info": info, "type": "transferChecked"}
    if data[0] == 18:
        info = {"account": a[0], "mint": a[1], "owner": str(Pubkey(data[1:33]))}
        return {"info": info, "type": "initializeAccount3"}
    if data[0] == 21:
        return {"info": {"extensionTypes": ["immutableOwner"], "mint": a[0]}, "type": "getAccountDataSize"}
    if data[0] == 22:
        return {"info": {"account": a[0]}, "type": "initializeImmutableOwner"}
    return None


def ui_amount(amount: int, decimals: int) -> dict[str, Any]:
    """Return an amount as RPC nodes write it; `uiAmount` is their float and not for computing."""
    text = f"{amount:0{decimals + 1}d}"
    text = f"{text[:-decimals]}.{text[-decimals:]}".rstrip("0").rstrip(".") if decimals else text
    return {
        "amount": str(amount),
        "decimals": decimals,
        "uiAmount": amount / 10**decimals if amount else None,
        "uiAmountString": text,
    }
