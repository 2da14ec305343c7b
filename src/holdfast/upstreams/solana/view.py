"""One view of a transaction for all encodings: its keys, its instructions, who signed.

The keys are numbered as on chain: static keys, then those loaded from lookup tables, writable ones first.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence

from msgspec import Struct

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana import base58, wire
from holdfast.upstreams.solana.answers import AccountKey, Body, CompiledInstruction, Entry, LoadedAddresses

VERSIONS = {None: None, "legacy": "legacy", 0: "0", "0": "0", 1: "1", "1": "1"}


class View(Struct, gc=False):
    """`keys` are text, or 32 bytes where the answer was binary; `address` gives the text of one."""

    signature: str
    version: str
    keys: list[str | bytes]
    signers: tuple[str, ...]
    instructions: Sequence[CompiledInstruction | wire.WireInstruction]
    index: dict[str, int] | None  # the place of each key, in `jsonParsed`, whose instructions name them

    def address(self, place: int) -> str:
        key = self.keys[place]
        return key if isinstance(key, str) else base58.address(key)


def view(entry: Entry) -> View:
    """The view of `entry`. Raises `MalformedRecord` for a transaction that cannot be one."""
    transaction = entry.transaction
    loaded = None if entry.meta is None else entry.meta.loadedAddresses
    if isinstance(transaction, Body):
        keys = transaction.message.accountKeys
        if keys and isinstance(keys[0], AccountKey):
            return _view_parsed(entry, transaction)
        return _view_json(entry, transaction, loaded)
    if isinstance(transaction, str):  # the oldest form, `binary`
        return _view_wire(base58.decode(transaction), loaded)
    if isinstance(transaction, list):
        if len(transaction) == 2 and transaction[1] == "base64":
            try:
                raw = binascii.a2b_base64(transaction[0], strict_mode=True)
            except ValueError as error:
                raise MalformedRecord(f"transaction is not base64: {error}") from None
            return _view_wire(raw, loaded)
        if len(transaction) == 2 and transaction[1] == "base58":
            return _view_wire(base58.decode(transaction[0]), loaded)
        raise MalformedRecord(f"transaction encoding {str(transaction[1:])[:100]} is not known: base64 and base58 are")
    raise MalformedRecord("no transaction in it")


def _view_json(entry: Entry, body: Body, loaded: LoadedAddresses | None) -> View:
    message = body.message
    keys: list[str] = message.accountKeys  # type: ignore[assignment]  # all text: checked below
    signers = len(body.signatures) if message.header is None else message.header.numRequiredSignatures
    if not 1 <= signers <= len(keys) or signers != len(body.signatures):
        raise MalformedRecord(
            f"{len(body.signatures)} signatures and {len(keys)} accounts for {signers} required signers"
        )
    if message.addressTableLookups:
        _check_loaded(
            sum(len(table.writableIndexes) for table in message.addressTableLookups),
            sum(len(table.readonlyIndexes) for table in message.addressTableLookups),
            loaded,
        )
    if loaded is not None:
        keys = keys + loaded.writable + loaded.readonly
    base58.check_addresses(keys)
    base58.check_signature(body.signatures[0])
    version = _version(entry, message.addressTableLookups is not None)
    return View(body.signatures[0], version, keys, tuple(keys[:signers]), message.instructions, None)  # type: ignore[arg-type]


def _view_parsed(entry: Entry, body: Body) -> View:
    keys: list[str] = []
    signers = []
    for key in body.message.accountKeys:
        if isinstance(key, str):
            raise MalformedRecord(f"account {key[:100]!r} is bare text among accounts with signer flags")
        keys.append(key.pubkey)
        if key.signer:
            signers.append(key.pubkey)
    if not signers or len(signers) != len(body.signatures):
        raise MalformedRecord(f"{len(body.signatures)} signatures for {len(signers)} signers")
    base58.check_addresses(keys)
    base58.check_signature(body.signatures[0])
    index = {key: place for place, key in enumerate(keys)}
    version = _version(entry, body.message.addressTableLookups is not None)
    return View(body.signatures[0], version, keys, tuple(signers), body.message.instructions, index)  # type: ignore[arg-type]


def _view_wire(raw: bytes, loaded: LoadedAddresses | None) -> View:
    parts = wire.read(raw)
    keys: list[str | bytes] = parts.keys  # type: ignore[assignment]
    if parts.loaded_writable or parts.loaded_readonly:
        _check_loaded(parts.loaded_writable, parts.loaded_readonly, loaded)
    if loaded is not None and (loaded.writable or loaded.readonly):
        base58.check_addresses(loaded.writable)
        base58.check_addresses(loaded.readonly)
        keys = keys + loaded.writable + loaded.readonly  # type: ignore[operator]
    signers = tuple(base58.address(key) for key in parts.keys[: parts.signers])
    return View(base58.encode(parts.signatures[0]), parts.version, keys, signers, parts.instructions, None)


def _version(entry: Entry, has_lookups: bool) -> str:
    # Without `maxSupportedTransactionVersion`, and from old nodes, answers do not name the version.
    try:
        return VERSIONS[entry.version] or ("0" if has_lookups else "legacy")
    except KeyError:
        raise MalformedRecord(
            f"transaction version {str(entry.version)[:100]!r} is not known: legacy, 0 and 1 are"
        ) from None


def _check_loaded(writable: int, readonly: int, loaded: LoadedAddresses | None) -> None:
    if loaded is None:
        raise MalformedRecord(
            f"{writable + readonly} accounts come from lookup tables, and meta.loadedAddresses does not name them"
        )
    if len(loaded.writable) != writable or len(loaded.readonly) != readonly:
        raise MalformedRecord(
            f"meta.loadedAddresses has {len(loaded.writable)} writable and {len(loaded.readonly)} readonly accounts, "
            f"where the lookup tables give {writable} and {readonly}"
        )
