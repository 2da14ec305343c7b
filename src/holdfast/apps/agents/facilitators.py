"""Who settles x402 payments: the shipped list of facilitators, and a user's own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.upstreams.solana.associated import address_bytes

SOLANA = "solana"


class Facilitator(msgspec.Struct, frozen=True, kw_only=True):
    """One address that settles payments: the fee payer on Solana, the sender of the transaction on an EVM chain."""

    name: str
    address: str  # base58 on Solana; lower-case hex with 0x on EVM chains
    network: str  # "solana", "base", "polygon", …; "evm" where a user's list names none
    first_transaction: str | None = None  # the day it was first seen, YYYY-MM-DD
    source: int | None = None  # index into the shipped file's `sources`


def load_facilitators(path: Path | None = None) -> list[Facilitator]:
    """Return the facilitators to recognise.

    Args:
        path: a user's own JSON file, or None for the shipped list alone. The file is an object of address to name, or a
            list of objects with `address`, `name` and optionally `network`. It extends the shipped list, and its names
            win. An object `{"replace": true, "facilitators": …}` around either form stands in the place of the shipped
            list instead.

    Returns:
        One entry for each network and address, shipped ones first.

    Raises:
        ConfigurationError: the file cannot be read or is of neither form; it names the file, the entry and the fault.
    """
    if path is None:
        return list(_shipped())
    try:
        document = msgspec.json.decode(path.read_bytes())
    except OSError as e:
        raise ConfigurationError(f"the facilitator file {path} cannot be read: {e.strerror or e}") from e
    except msgspec.DecodeError as e:
        raise ConfigurationError(f"the facilitator file {path} is not JSON: {e}") from e
    replace = False
    if isinstance(document, dict) and "facilitators" in document:
        unknown = document.keys() - {"facilitators", "replace"}
        replace = document.get("replace", False)
        if unknown or not isinstance(replace, bool):
            what = f"unknown key {min(unknown)!r}" if unknown else f"`replace` is {replace!r}, not true or false"
            raise ConfigurationError(f"the facilitator file {path} is not usable: {what}")
        document = document["facilitators"]
    own = [_facilitator(path, where, entry) for where, entry in _entries(path, document)]
    known = {} if replace else {(f.network, f.address): f for f in _shipped()}
    known.update({(f.network, f.address): f for f in own})
    return list(known.values())


def fee_payers(facilitators: Iterable[Facilitator], network: str = SOLANA) -> dict[str, str]:
    """Return address to name for one network, as `RecognitionConfig.facilitators` takes it."""
    return {f.address: f.name for f in facilitators if f.network == network}


@lru_cache(maxsize=1)
def _shipped() -> tuple[Facilitator, ...]:
    class Shipped(msgspec.Struct):
        facilitators: list[Facilitator]

    raw = files("holdfast.apps.agents").joinpath("facilitators.json").read_bytes()
    return tuple(msgspec.json.decode(raw, type=Shipped).facilitators)


def _entries(path: Path, document: Any) -> list[tuple[str, Any]]:
    if isinstance(document, dict):
        return [(f"entry {address!r}", {"address": address, "name": name}) for address, name in document.items()]
    if isinstance(document, list):
        return [(f"entry {i}", entry) for i, entry in enumerate(document)]
    raise ConfigurationError(
        f"the facilitator file {path} holds {type(document).__name__}: it must be an object of address to name, or a"
        " list of objects with `address` and `name`"
    )


def _facilitator(path: Path, where: str, entry: Any) -> Facilitator:
    def wrong(what: str) -> ConfigurationError:
        return ConfigurationError(f"the facilitator file {path}, {where}: {what}")

    if not isinstance(entry, dict):
        raise wrong(f"{entry!r} is not an object with `address` and `name`")
    texts = [entry.get("address"), entry.get("name"), entry.get("network", "")]
    for key, value in zip(("address", "name", "network"), texts, strict=True):
        if not isinstance(value, str) or (key != "network" and not value.strip()):
            raise wrong(f"`{key}` is {value!r}, not a text")
    address, name, network = (str(text).strip() for text in texts)
    if address[:2].lower() == "0x":
        if len(address) != 42 or not _is_hex(address[2:]):
            raise wrong(f"{address!r} is not an EVM address: 0x and 40 hex digits")
        return Facilitator(name=name, address=address.lower(), network=network or "evm")
    try:
        address_bytes(address)
    except InvalidValue as e:
        raise wrong(str(e)) from e
    return Facilitator(name=name, address=address, network=network or SOLANA)


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)
