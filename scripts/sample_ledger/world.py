"""What is there before the first transaction: tokens, programs, agents, buyers, facilitators and other people."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from solders.pubkey import Pubkey

from .addresses import (
    CREDIT,
    DOLLAR,
    EURO,
    LIGHTHOUSE,
    MINTS,
    WALLET_PROGRAM,
    Mint,
    account_of,
    address,
    lookup_table,
    mint_account,
    smart_wallet_of,
    token_account,
)  # fmt: skip
from .agents import Agent, make_agents
from .chain import Chain
from .programs import assertion, smart_wallet

LISTED = {"Tidepool": 2, "Kelpworks": 1, "Skerry": 2, "Saltmarsh": 1}  # facilitators and how many fee payers each has
UNLISTED = "Sandbar"  # a facilitator that no list knows yet

SAVINGS, FORTUNE = 10_000, 1_000_000  # whole tokens: more than a buyer, or anyone, spends in the sample


@dataclass
class World:
    """The cast. All are key names, see `addresses.key`."""

    chain: Chain
    random: Random
    agents: list[Agent]
    buyers: list[str]
    loyalty: list[float]  # how often each buys, accumulated
    keepers: list[str]  # buyers that pay out of a smart wallet
    broke: list[str]  # buyers with too little left
    people: list[str]  # wallets that have nothing to do with x402
    relayers: list[str]  # pay others' fees, for reasons of their own
    fee_payers: list[str]
    unlisted: str
    opened: set[Pubkey] = field(default_factory=set)  # token accounts of sellers that exist

    @classmethod
    def make(cls, seed: str) -> World:
        random = Random(seed)
        world = cls(
            chain=Chain(),
            random=random,
            agents=make_agents(random),
            buyers=[f"buyer/{i}" for i in range(420)],
            loyalty=list(accumulate(1 / (i + 3) for i in range(420))),
            keepers=[f"keeper/{i}" for i in range(40)],
            broke=[f"broke/{i}" for i in range(25)],
            people=[f"person/{i}" for i in range(160)],
            relayers=[f"relayer/{i}" for i in range(3)],
            fee_payers=[f"facilitator/{name}/{i}" for name, count in LISTED.items() for i in range(count)],
            unlisted=f"facilitator/{UNLISTED}/0",
        )
        world._settle()
        return world

    def _settle(self) -> None:
        chain = self.chain
        for mint in MINTS:
            chain.put(mint.address, mint_account(mint))
        chain.put_program(LIGHTHOUSE, assertion())
        chain.put_program(WALLET_PROGRAM, smart_wallet())
        for name in (*self.fee_payers, self.unlisted, *self.relayers, "exchange/fees", "custodian"):
            chain.fund(address(name), 50 * 10**9)
        for name in (*self.fee_payers, *self.relayers, "custodian", "exchange/hot", "pool"):
            self.give(address(name), DOLLAR, FORTUNE * 10**DOLLAR.decimals)
        for name in self.buyers:
            for mint in MINTS:
                self.give(address(name), mint, SAVINGS * 10**mint.decimals)
        for name in self.keepers:
            for mint in (DOLLAR, EURO):
                self.give(smart_wallet_of(address(name))[0], mint, SAVINGS * 10**mint.decimals)
        for i, name in enumerate(self.broke):
            for mint in (DOLLAR, EURO):
                # The last few have been frozen by the issuer.
                frozen = i >= 20
                chain.put(account_of(address(name), mint), token_account(address(name), mint, 300, frozen))
        for name in (*self.people, "exchange/hot", "pool", "spammer"):
            chain.fund(address(name), 10 * 10**9)
        for name in (*self.people, "pool", "spammer"):
            for mint in (DOLLAR, CREDIT):
                self.give(address(name), mint, FORTUNE * 10**mint.decimals)
        for agent in self.agents:
            if agent.sponsors:
                chain.fund(agent.pay_to, 10**10)
            if agent.launched == 0 and agent.number % 5:
                self.give(agent.pay_to, agent.mint, 0)
                self.opened.add(account_of(agent.pay_to, agent.mint))
        shared = [m.address for m in MINTS] + [account_of(a.pay_to, a.mint) for a in self.agents[:20]]
        chain.put_table(address("lookup table"), lookup_table(shared), shared)

    def give(self, owner: Pubkey, mint: Mint, amount: int) -> None:
        self.chain.put(account_of(owner, mint), token_account(owner, mint, amount))
