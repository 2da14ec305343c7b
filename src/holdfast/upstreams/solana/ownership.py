"""Who owned a token account, and what it held, at the time of each transfer.

The balance lists of an answer say so for the start and the end of a transaction only. Accounts are opened,
handed over and closed in between, and one that is opened and closed within the transaction is in neither
list. So the steps are followed in order: balances before, then what each instruction changes; what is
unknown at a transfer is taken from the first later step, or the balances after, that still speaks of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from holdfast.upstreams.solana.answers import TokenBalance
from holdfast.upstreams.solana.records import TokenTransfer
from holdfast.upstreams.solana.token_program import NATIVE_MINTS, Holds, Opened, Reowned, Step, Transfer


class _Settled(Struct, gc=False):
    """A transfer with what is known of it so far."""

    asked: Transfer
    mint: str | None
    source_owner: str | None
    destination_owner: str | None


def settle(
    steps: Iterable[Step],
    before: Iterable[TokenBalance],
    after: Iterable[TokenBalance],
    address: Callable[[int], str],
    successful: bool,
) -> tuple[TokenTransfer, ...]:
    """The transfers among `steps`, with mints, decimals and owners as far as they can be known.

    `address` turns an index among the transaction's keys into text. `before` and `after` are its token
    balances. In a failed transaction, what a transfer says of decimals is taken for that transfer only.
    """
    owners: dict[int, str] = {}
    mints: dict[int, str] = {}
    decimals: dict[str, int] = dict.fromkeys(NATIVE_MINTS, 9)
    for balance in before:
        mints[balance.accountIndex] = balance.mint
        decimals[balance.mint] = balance.uiTokenAmount.decimals
        if balance.owner:
            owners[balance.accountIndex] = balance.owner

    settled: list[_Settled] = []
    waiting: dict[int, list[_Settled]] = {}  # transfers from or to an account that has no known owner yet
    for step in steps:
        if isinstance(step, Transfer):
            source, destination = step.source, step.destination
            if step.mint is None:
                mint = mints.get(source) or mints.get(destination)
            else:
                mint = address(step.mint)
                if successful:
                    decimals.setdefault(mint, step.decimals or 0)
            if mint is not None:
                # Both ends of a transfer hold its mint.
                mints.setdefault(source, mint)
                mints.setdefault(destination, mint)
            transfer = _Settled(step, mint, owners.get(source), owners.get(destination))
            if transfer.source_owner is None:
                waiting.setdefault(source, []).append(transfer)
            if transfer.destination_owner is None:
                waiting.setdefault(destination, []).append(transfer)
            settled.append(transfer)
        elif isinstance(step, Opened):
            waiting.pop(step.account, None)  # what it was before it was opened again stays unknown
            owners[step.account] = step.owner if isinstance(step.owner, str) else address(step.owner)
            mints[step.account] = address(step.mint)
        elif isinstance(step, Reowned):
            _own(step.account, address(step.before), waiting)
            owners[step.account] = step.after
        elif isinstance(step, Holds):
            mints.setdefault(step.account, address(step.mint))
        else:
            decimals.setdefault(address(step.mint), step.decimals)

    for balance in after:
        mints.setdefault(balance.accountIndex, balance.mint)
        decimals.setdefault(balance.mint, balance.uiTokenAmount.decimals)
        if waiting and balance.owner:
            _own(balance.accountIndex, balance.owner, waiting)
    _spread(settled, mints)
    return tuple(_transfer(transfer, decimals, address, successful) for transfer in settled)


def _own(account: int, owner: str, waiting: dict[int, list[_Settled]]) -> None:
    """`owner` is who owned `account` up to now: the transfers that wait for it get it."""
    for transfer in waiting.pop(account, ()):
        if transfer.asked.source == account and transfer.source_owner is None:
            transfer.source_owner = owner
        if transfer.asked.destination == account and transfer.destination_owner is None:
            transfer.destination_owner = owner


def _spread(settled: list[_Settled], mints: dict[int, str]) -> None:
    """Give plain transfers the mint of either end, known perhaps through another transfer."""
    missing = [transfer for transfer in settled if transfer.mint is None]
    while missing:
        still = []
        for transfer in missing:
            source, destination = transfer.asked.source, transfer.asked.destination
            transfer.mint = mints.get(source) or mints.get(destination)
            if transfer.mint is None:
                still.append(transfer)
            else:
                mints.setdefault(source, transfer.mint)
                mints.setdefault(destination, transfer.mint)
        if len(still) == len(missing):
            return
        missing = still


def _transfer(
    transfer: _Settled, decimals: Mapping[str, int], address: Callable[[int], str], successful: bool
) -> TokenTransfer:
    asked = transfer.asked
    scale = asked.decimals
    if scale is None and transfer.mint is not None:
        scale = decimals.get(transfer.mint)
    instruction, inner, batch = asked.at
    return TokenTransfer(
        instruction=instruction,
        inner=inner,
        batch=batch,
        kind=asked.kind,
        program=asked.program,
        mint=transfer.mint,
        decimals=scale,
        amount=asked.amount,
        fee=asked.fee,
        source=address(asked.source),
        source_owner=transfer.source_owner,
        destination=address(asked.destination),
        destination_owner=transfer.destination_owner,
        authority=address(asked.authority),
        successful=successful,
    )
