"""A Solana VM, and its transactions as `getTransaction` answers them: signed, run, and described from what happened."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.clock import Clock
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from .addresses import MINTS, TOKEN, TOKEN_2022
from .encodings import as_base64, as_json, as_parsed, ui_amount

BLOCKHASH_LIFE = 150  # slots

_DECIMALS = {str(m.address): m.decimals for m in MINTS}
_ENCODINGS = {"json": as_json, "base64": as_base64, "jsonParsed": as_parsed}


class Chain:
    """One VM. `run` executes a transaction and returns its record."""

    def __init__(self) -> None:
        # Blockhashes follow the sample's own clock, which the VM knows nothing of.
        self._vm = LiteSVM().with_blockhash_check(False)
        self._tables: list[AddressLookupTableAccount] = []
        self._sent: set[Signature] = set()

    def put(self, address: Pubkey, account: Account) -> None:
        self._vm.set_account(address, account)

    def put_program(self, address: Pubkey, elf: bytes) -> None:
        self._vm.add_program(address, elf)

    def put_table(self, address: Pubkey, account: Account, addresses: list[Pubkey]) -> None:
        self._vm.set_account(address, account)
        self._tables.append(AddressLookupTableAccount(address, addresses))

    def fund(self, address: Pubkey, lamports: int) -> None:
        self._vm.airdrop(address, lamports)

    def tokens(self, account: Pubkey) -> int | None:
        """Return the balance of a token account in base units, or None where there is no such account."""
        found = self._vm.get_account(account)
        if found is None or not found.data:
            return None
        (amount,) = struct.unpack_from("<Q", found.data, 64)
        return int(amount)

    def run(
        self,
        instructions: Sequence[Instruction],
        signers: Sequence[Keypair],
        *,
        slot: int,
        time: int,
        encoding: str = "json",
        legacy: bool = False,
        lookup: bool = False,
    ) -> tuple[str, dict[str, Any]]:
        """Sign a transaction, run it, and describe it.

        Args:
            instructions: what it does.
            signers: the fee payer first.
            slot: of the block; also picks the blockhash.
            time: of the block, in Unix seconds.
            encoding: "json", "base64" or "jsonParsed".
            legacy: a legacy message in place of version 0.
            lookup: take addresses from the chain's lookup tables.

        Returns:
            The signature, and the record as the RPC method `getTransaction` gives it, without logs.
        """
        clock = self._vm.get_clock()
        self._vm.set_clock(Clock(slot, clock.epoch_start_timestamp, clock.epoch, clock.leader_schedule_epoch, time))
        tx = self._sign(list(instructions), list(signers), slot // BLOCKHASH_LIFE, legacy, lookup)
        keys, loaded = self._keys(tx.message)
        before = self._balances(keys)
        result = self._vm.send_transaction(tx)
        after = self._balances(keys)
        outcome = json.loads(result.to_json())
        error = outcome.get("err")
        detail = outcome.get("meta", outcome)
        meta = {
            "computeUnitsConsumed": detail["compute_units_consumed"],
            "err": error,
            "fee": detail["fee"],
            "innerInstructions": [
                {
                    "index": i,
                    "instructions": [
                        {
                            "accounts": list(inner.instruction().accounts),
                            "data": bytes(inner.instruction().data),
                            "programIdIndex": inner.instruction().program_id_index,
                            "stackHeight": inner.stack_height(),
                        }
                        for inner in called
                    ],
                }
                for i, called in enumerate(_meta(result).inner_instructions())
                if called
            ],
            "loadedAddresses": loaded,
            "logMessages": None,
            "postBalances": [lamports for lamports, _ in after],
            "postTokenBalances": _token_balances(after),
            "preBalances": [lamports for lamports, _ in before],
            "preTokenBalances": _token_balances(before),
            "rewards": [],
            "status": {"Ok": None} if error is None else {"Err": error},
        }
        return str(tx.signatures[0]), {
            "blockTime": time,
            "meta": meta,
            "slot": slot,
            **_ENCODINGS[encoding](tx, [str(k) for k in keys], meta),
            "version": "legacy" if legacy else 0,
        }

    def _sign(
        self, instructions: list[Instruction], signers: list[Keypair], interval: int, legacy: bool, lookup: bool
    ) -> VersionedTransaction:
        """Sign with the blockhash of an interval; what was sent in it already takes the next interval's."""
        payer = signers[0].pubkey()
        while True:
            blockhash = Hash.from_bytes(sha256(b"holdfast sample blockhash %d" % interval).digest())
            message: Message | MessageV0
            if legacy:
                message = Message.new_with_blockhash(instructions, payer, blockhash)
            else:
                message = MessageV0.try_compile(payer, instructions, self._tables if lookup else [], blockhash)
            tx = VersionedTransaction(message, signers)
            if tx.signatures[0] not in self._sent:
                self._sent.add(tx.signatures[0])
                return tx
            interval += 1

    def _keys(self, message: Message | MessageV0 | MessageV1) -> tuple[list[Pubkey], dict[str, list[str]]]:
        keys = list(message.account_keys)
        loaded: dict[str, list[Pubkey]] = {"writable": [], "readonly": []}
        if isinstance(message, MessageV0):
            tables = {t.key: t.addresses for t in self._tables}
            for use in message.address_table_lookups:
                loaded["writable"] += [tables[use.account_key][i] for i in use.writable_indexes]
                loaded["readonly"] += [tables[use.account_key][i] for i in use.readonly_indexes]
        return keys + loaded["writable"] + loaded["readonly"], {k: [str(a) for a in v] for k, v in loaded.items()}

    def _balances(self, keys: list[Pubkey]) -> list[tuple[int, dict[str, Any] | None]]:
        return [_balance(self._vm.get_account(key)) for key in keys]


def _meta(result: Any) -> Any:
    return result.meta() if hasattr(result, "meta") else result


def _balance(account: Account | None) -> tuple[int, dict[str, Any] | None]:
    """Return an account's lamports, and its tokens where it is a token account."""
    if account is None:
        return 0, None
    if account.owner not in (TOKEN, TOKEN_2022) or len(account.data) < 165 or account.executable:
        return account.lamports, None
    mint, owner, amount = struct.unpack_from("<32s32sQ", account.data)
    mint_text = str(Pubkey(mint))
    if mint_text not in _DECIMALS:
        return account.lamports, None
    return account.lamports, {
        "mint": mint_text,
        "owner": str(Pubkey(owner)),
        "programId": str(account.owner),
        "uiTokenAmount": ui_amount(amount, _DECIMALS[mint_text]),
    }


def _token_balances(balances: list[tuple[int, dict[str, Any] | None]]) -> list[dict[str, Any]]:
    return [{"accountIndex": i, **tokens} for i, (_, tokens) in enumerate(balances) if tokens is not None]
