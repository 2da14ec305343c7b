"""Parse `getTransaction` and `getBlock` answers: bytes in, records out, no I/O.

`parse_answer` is the fast way: one typed decode of the whole answer. Only where that fails is the answer
taken apart, so that what is wrong with one transaction costs that transaction alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from holdfast.errors import MalformedRecord
from holdfast.upstreams.solana.answers import (
    Answer,
    Entry,
    decode_answer,
    decode_entry,
    decode_list,
    decode_loose,
    decode_time,
)
from holdfast.upstreams.solana.records import Transaction
from holdfast.upstreams.solana.transaction import Wanted, build

_ABSENT = (b"", b"null")
_NO_RESULT = "null instead of an answer: the node has no such transaction or block"
_NULL_ENTRY = "null instead of a transaction"
_NEITHER = "neither a transaction nor a block with its transactions (transactionDetails: full) in it"
_TOO_DEEP = "nested too deeply to be an answer"


class NotJson(MalformedRecord):
    """What was given is not JSON at all, or only a part of it."""


Result = tuple[int | None, Transaction | MalformedRecord]


def parse_transaction(
    record: bytes | str | Mapping[str, Any],
    *,
    slot: int | None = None,
    block_time: int | None = None,
    instructions: Wanted = False,
) -> Transaction:
    """One transaction, as `getTransaction` answers it or as it stands in a block.

    `record` is JSON (a JSON-RPC envelope around it will do) or what was decoded from it, in the encoding
    `json`, `jsonParsed`, `base64` or `base58`. `slot` and `block_time` (Unix seconds) stand in for what the
    record does not say itself; without them it stays None. `instructions` asks for the instructions too: for all
    of them (True), for those at top level ("top-level"), or for what a function of the parsed transaction says.

    Raises `MalformedRecord` for anything that is not a transaction.
    """
    if isinstance(record, str):
        record = record.encode("utf-8", "surrogatepass")
    elif isinstance(record, Mapping):
        try:
            record = msgspec.json.encode(record)
        except (TypeError, ValueError, RecursionError) as error:
            raise MalformedRecord(f"not a transaction: {error}") from None
    results = parse_answer(record, slot=slot, block_time=block_time, instructions=instructions)
    if len(results) != 1 or results[0][0] is not None:
        raise MalformedRecord(f"a block or a list of {len(results)}, where one transaction was expected")
    result = results[0][1]
    if isinstance(result, MalformedRecord):
        raise result
    return result


def parse_answer(
    data: bytes, *, slot: int | None = None, block_time: int | None = None, instructions: Wanted = False
) -> list[Result]:
    """Every transaction of one JSON document, as `(index, transaction or why it is none)`.

    The document is a `getTransaction` or `getBlock` answer, bare or in a JSON-RPC envelope, or a list of any
    of these (so a JSON-RPC batch too). `index` is None for a lone transaction; else it counts the document's
    transactions from 0, where an item that holds none counts as one. The other parameters are those of
    `parse_transaction`; a block's own time goes before `block_time`.

    Never raises for what `data` holds, and never leaves anything out: what cannot be read comes back as a
    `MalformedRecord`, and only a document that is not JSON, or nests beyond the recursion limit, is
    rejected as a whole.
    """
    problem = _not_text(data)
    if problem is not None:
        return [(None, problem)]
    try:
        found = _entries(decode_answer(data), block_time)
    except msgspec.ValidationError:
        found = _loose_entries(data, block_time)
    except (ValueError, RecursionError) as error:
        return [(None, _unreadable(error))]
    results: list[Result] = []
    for index, (entry, time) in enumerate(found.entries):
        place = index if found.many else None
        if isinstance(entry, MalformedRecord):
            results.append((place, entry))
            continue
        try:
            results.append((place, build(entry, slot, time, instructions)))
        except MalformedRecord as error:
            results.append((place, error))
        except RecursionError:
            results.append((place, MalformedRecord(_TOO_DEEP)))
    return results


class _Found(NamedTuple):
    """What a document holds, each with the block's time; `many` unless it is one transaction by its nature."""

    many: bool
    entries: list[tuple[Entry | MalformedRecord, int | None]]


def _entries(answer: Answer | list[Answer | None] | None, time: int | None) -> _Found:
    if isinstance(answer, list):
        return _Found(True, [entry for item in answer for entry in _entries(item, time).entries])
    if answer is None:
        return _Found(False, [(MalformedRecord(_NO_RESULT), time)])
    if bytes(answer.error) not in _ABSENT:
        return _Found(False, [(MalformedRecord(_rpc_error(answer.error)), time)])
    if answer.result is not UNSET:
        return _entries(answer.result, time)
    if answer.transactions is not UNSET and answer.transactions is not None:
        time = time if answer.blockTime is None else answer.blockTime
        return _Found(True, [(entry or MalformedRecord(_NULL_ENTRY), time) for entry in answer.transactions])
    if answer.transaction is UNSET:
        return _Found(False, [(MalformedRecord(_NEITHER), time)])
    return _Found(False, [(answer, time)])


def _loose_entries(data: bytes | Raw, time: int | None, listed: bool = False) -> _Found:
    """`_entries`, for a document in which something has the wrong shape: down to the part that has."""
    try:
        answer = decode_loose(data)
        if isinstance(answer, list):
            if listed:
                return _Found(False, [(MalformedRecord("a list inside a list"), time)])
            return _Found(True, [entry for item in answer for entry in _loose_entries(item, time, True).entries])
        if answer is None:
            return _entries(answer, time)
        if bytes(answer.error) not in _ABSENT:
            return _Found(False, [(MalformedRecord(_rpc_error(answer.error)), time)])
        if answer.result:
            return _loose_entries(answer.result, time)
        if bytes(answer.transactions) not in _ABSENT:
            if answer.blockTime:
                time = decode_time(answer.blockTime) or time
            return _Found(True, [(_entry(item), time) for item in decode_list(answer.transactions)])
    except (ValueError, RecursionError) as error:
        return _Found(False, [(_unreadable(error), time)])
    return _Found(False, [(_entry(data), time)])


def _entry(data: bytes | Raw) -> Entry | MalformedRecord:
    try:
        return decode_entry(data)
    except (ValueError, RecursionError) as error:
        return _unreadable(error)


def _unreadable(error: Exception) -> MalformedRecord:
    if isinstance(error, RecursionError):
        return MalformedRecord(_TOO_DEEP)
    if isinstance(error, msgspec.ValidationError):
        return MalformedRecord(f"not an answer: {error}")
    return NotJson(f"not JSON: {error}")


def _rpc_error(error: Raw) -> str:
    return f"the node answered with an error: {bytes(error)[:300].decode(errors='replace')}"


def _not_text(data: bytes) -> MalformedRecord | None:
    # msgspec does not look at text that it skips, so this is seen to here.
    if b"\0" in data:
        return NotJson(f"NUL at byte {data.index(0)}: not JSON")
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            return NotJson(f"not UTF-8: {error.reason} at byte {error.start}")
    return None
