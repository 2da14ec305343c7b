"""Transactions put together by hand, with the parts that recognition looks at."""

from __future__ import annotations

import msgspec

from holdfast.upstreams.solana.records import Instruction, TokenTransfer, Transaction

TOKEN = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TOKEN_2022 = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
ASSOCIATED = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"
BUDGET = "ComputeBudget111111111111111111111111111111"
MEMO = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
LIGHTHOUSE = "L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95"
SYSTEM = "11111111111111111111111111111111"
SQUADS = "SQDS4ep65T869zMMBKyuUq6aD6EgTu8psMjkvj52pCf"
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
USDT = "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB"
BONK = "DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB263hd5Q"

PAYAI = "2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4"  # a facilitator of the shipped list
DEXTER = "DeXterR2kQm8AvRHnNPatWkE46TfAcMeBDjb6FySoAb8"
RELAYER = "7uUJqYkbSCqDJbGSNrnYPTFGNyXT3VJu3WbGuyz4a1Ti"  # no facilitator
BUYER = "BprZ3eTVMHAcqC2wcE4XY71tvjdxJ6C6pSYjVmD75ujf"
SELLER = "GN5WAKRAckXoPmkcYCvFmLqs1tTTgEKhgzdekFaxmGaJ"
NONCE = b"9f86d081884c7d659a2feaa0c55ad015"

Step = tuple[str, tuple[str, ...], bytes]


def limit(units: int = 20_000) -> Step:
    return BUDGET, (), b"\2" + units.to_bytes(4, "little")


def price(micro_lamports: int = 1) -> Step:
    return BUDGET, (), b"\3" + micro_lamports.to_bytes(8, "little")


def memo(text: bytes = NONCE, *signers: str) -> Step:
    return MEMO, signers, text


def account(owner: str | None, mint: str | None = USDC) -> str:
    """A token account's name; not a real address, since recognition compares names only."""
    return f"{owner}'s account of {mint}"


def create(payer: str = PAYAI) -> Step:
    return ASSOCIATED, (payer, account(SELLER), SELLER, USDC, SYSTEM, TOKEN), b"\1"


def lighthouse() -> Step:
    return LIGHTHOUSE, (account(BUYER),), b"\x09\x01"


def program(name: str, *accounts: str) -> Step:
    return name, accounts, b"\x01\x02"


def move(
    sender: str = BUYER,
    recipient: str | None = SELLER,
    *,
    amount: int = 10_000,
    mint: str | None = USDC,
    kind: str = "transferChecked",
    token_program: str = TOKEN,
    destination: str | None = None,
) -> TokenTransfer:
    """A transfer; where it stands is said by `transaction`."""
    return TokenTransfer(
        instruction=0,
        inner=None,
        kind=kind,
        program=token_program,
        mint=mint,
        decimals=6,
        amount=amount,
        fee=None,
        source=account(sender, mint),
        source_owner=sender,
        destination=destination or account(recipient, mint),
        destination_owner=recipient,
        authority=sender,
        successful=True,
    )


def transaction(
    fee_payer: str, *steps: Step | TokenTransfer | tuple[Step, list[TokenTransfer]], signature: str = "s" * 88
) -> Transaction:
    """A transaction of these top-level instructions; a step with a list makes those transfers as inner instructions."""
    instructions, transfers = [], []

    def transfer(t: TokenTransfer, place: int, inner: int | None) -> None:
        codes = {"transfer": b"\3", "transferChecked": b"\x0c", "transferCheckedWithFee": b"\x1a\x01"}
        accounts = (t.source, t.mint or "", t.destination, t.authority)
        instructions.append(
            Instruction(instruction=place, inner=inner, program=t.program, accounts=accounts, data=codes[t.kind])
        )
        transfers.append(msgspec.structs.replace(t, instruction=place, inner=inner))

    for place, step in enumerate(steps):
        if isinstance(step, TokenTransfer):
            transfer(step, place, None)
            continue
        called: list[TokenTransfer] = []
        if isinstance(step[1], list):
            step, called = step
        name, accounts, data = step
        instructions.append(Instruction(instruction=place, inner=None, program=name, accounts=accounts, data=data))
        for inner, t in enumerate(called):
            transfer(t, place, inner)
    return Transaction(
        signature=signature,
        slot=1,
        block_time=1_772_409_600,
        version="0",
        fee_payer=fee_payer,
        signers=(fee_payer, BUYER),
        fee=10_000,
        successful=True,
        error=None,
        instructions=tuple(instructions),
        transfers=tuple(transfers),
    )
