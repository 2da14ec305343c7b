"""Transactions that share traits with x402 payments and are none."""

from __future__ import annotations

from collections.abc import Callable

from solders.instruction import Instruction

from .addresses import CREDIT, DOLLAR, Mint, account_of, address, token_account
from .agents import Agent
from .instructions import (
    close_account,
    create_account,
    limit,
    memo,
    pay,
    price,
    recover_nested,
    send_lamports,
    transfer,
    wallet_pay,
)  # fmt: skip
from .plan import Plan
from .world import World


def plan_lookalike(world: World) -> Plan:
    """Plan one of them, the common ones more often."""
    make = world.random.choices([m for m, _ in _MAKERS], [weight for _, weight in _MAKERS])[0]
    return make(world)


def _two(world: World) -> tuple[str, str]:
    one, other = world.random.sample(world.people, 2)
    return one, other


def _amount(world: World, mint: Mint = DOLLAR) -> int:
    # What people send is rarely a round price: mostly a few units, now and then some hundreds.
    spread = world.random.random() * world.random.random() * world.random.random()
    return int(spread * 400 * 10**mint.decimals) + world.random.randrange(1, 10**4)


def _transfer(world: World) -> Plan:
    """A wallet pays someone and its own fee; now and then the recipient is an agent, as a tip."""
    random = world.random
    sender, recipient = _two(world)
    agent: Agent | None = None
    to = address(recipient)
    if random.random() < 0.25:
        agent = random.choice([a for a in world.agents if account_of(a.pay_to, DOLLAR) in world.opened])
        to = agent.pay_to
    step = pay(address(sender), to, DOLLAR, _amount(world))
    form = random.randrange(5)
    steps: tuple[Instruction, ...]
    if form == 0:
        steps = (step,)
    elif form == 1:
        steps = (limit(12_000), price(random.choice((1, 5_000, 200_000))), step)
    elif form == 2:
        steps = (price(40_000), limit(80_000), create_account(address(sender), to, DOLLAR), step, memo("thanks!"))
    elif form == 3:
        steps = (step, limit(30_000), price(25_000))
    else:
        source, target = account_of(address(sender), DOLLAR), account_of(to, DOLLAR)
        step = transfer(source, target, address(sender), DOLLAR, _amount(world))
        steps = (limit(10_000), price(1_000), step)
    labels = ((steps.index(step), None, False),)
    return Plan("wallet transfer", steps, (sender,), labels, agent.number if agent else None, legacy=form != 1)


def _swap(world: World) -> Plan:
    """Two tokens change hands at once, between two people or with a pool."""
    random = world.random
    sender, other = _two(world)
    give = pay(address(sender), address(other), DOLLAR, _amount(world))
    take = pay(address(other), address(sender), CREDIT, _amount(world, CREDIT))
    # Some are paid for by a wallet's relayer, and some by a facilitator that is in more than one business.
    payer = random.choice((sender, sender, world.relayers[0], world.fee_payers[-1]))
    signers = (sender, other) if payer == sender else (payer, sender, other)
    return Plan("swap", (limit(60_000), price(20_000), give, take), signers, ((2, None, False), (3, None, False)))


def _airdrop(world: World) -> Plan:
    sender, *recipients = world.random.sample(world.people, world.random.randrange(5, 9))
    amount = 10**CREDIT.decimals * world.random.randrange(1, 50)
    steps = [limit(90_000), price(1), *(pay(address(sender), address(r), CREDIT, amount) for r in recipients)]
    payer = (world.relayers[1],) if world.random.random() < 0.3 else ()
    labels = tuple((i, None, False) for i in range(2, len(steps)))
    return Plan("airdrop", tuple(steps), (*payer, sender), labels)


def _relayed(world: World) -> Plan:
    """A relayer pays the fee of an ordinary transfer, as gasless wallets have it."""
    random = world.random
    relayer = random.choice(world.relayers)
    sender, recipient = _two(world)
    step = pay(address(sender), address(recipient), DOLLAR, _amount(world))
    form = random.randrange(4)
    steps: tuple[Instruction, ...]
    labels: tuple[tuple[int, int | None, bool], ...]
    if form == 0:  # the relayer is paid back in the token
        steps = (limit(40_000), price(1_000), pay(address(sender), address(relayer), DOLLAR, 20_000), step)
        labels = ((2, None, False), (3, None, False))
    elif form == 1:  # the very layout of a payment
        steps = (limit(20_000), price(random.choice((1, 10_000))), step)
        if random.random() < 0.5:
            steps = (*steps, memo(random.choice(("rent March", "lunch", "for the tickets", "gift"))))
        labels = ((2, None, False),)
    elif form == 2:
        steps, labels = (step,), ((0, None, False),)
    else:
        source, target = account_of(address(sender), DOLLAR), account_of(address(recipient), DOLLAR)
        step = transfer(source, target, address(sender), DOLLAR, _amount(world))
        steps, labels = (limit(20_000), price(1), step), ((2, None, False),)
    return Plan("relayed transfer", steps, (relayer, sender), labels)


def _rent_refund(world: World) -> Plan:
    """A relayer moves the rest out of an account and takes back the rent that it lent."""
    relayer = world.random.choice(world.relayers)
    sender, recipient = _two(world)
    spare = address(f"spare/{world.random.getrandbits(64):x}")
    world.chain.put(spare, token_account(address(sender), DOLLAR, 5_000_000))
    step = transfer(spare, account_of(address(recipient), DOLLAR), address(sender), DOLLAR, 5_000_000)
    steps = (limit(30_000), price(1), step, close_account(spare, address(relayer), address(sender), DOLLAR))
    return Plan("rent refund", steps, (relayer, sender), ((2, None, False),))


def _treasury(world: World) -> Plan:
    """A facilitator moves its own money, in the layout that it settles payments in."""
    random = world.random
    one, other = random.sample(world.fee_payers, 2)
    payer = random.choice((one, other))
    step = pay(address(one), address("facilitator treasury"), DOLLAR, random.randrange(10**6, 10**8))
    treasury = account_of(address("facilitator treasury"), DOLLAR)
    steps: tuple[Instruction, ...] = (limit(20_000), price(1), step, memo(f"{random.getrandbits(128):032x}"))
    at = 2
    if treasury not in world.opened:
        world.opened.add(treasury)
        steps = (limit(90_000), price(1), create_account(address(payer), address("facilitator treasury"), DOLLAR), step)
        at = 3
    signers = (payer,) if payer == one else (payer, one)
    return Plan("facilitator treasury", steps, signers, ((at, None, False),))


def _withdrawal(world: World) -> Plan:
    """An exchange pays out; a second wallet of it pays the fee and opens the account."""
    recipient = world.random.choice(world.people)
    create = create_account(address("exchange/fees"), address(recipient), DOLLAR)
    step = pay(address("exchange/hot"), address(recipient), DOLLAR, _amount(world))
    steps = (create, step, limit(60_000), price(100_000))
    return Plan("exchange withdrawal", steps, ("exchange/fees", "exchange/hot"), ((1, None, False),), legacy=True)


def _sweep(world: World) -> Plan:
    """A custodian collects a deposit and pays the fee itself."""
    sender = world.random.choice(world.people)
    step = pay(address(sender), address("custodian"), DOLLAR, _amount(world))
    return Plan("deposit sweep", (step,), ("custodian", sender), ((0, None, False),), legacy=True)


def _dust(world: World) -> Plan:
    """Nothing is sent, so that an address appears in someone's history."""
    recipient = address(world.random.choice(world.people))
    step = pay(address("spammer"), recipient, DOLLAR, 0)
    steps = (limit(7_000), price(1), step, memo(f"visit {world.random.getrandbits(32):08x}.example"))
    return Plan("address poisoning", steps, ("spammer",), ((2, None, False),))


def _recovery(world: World) -> Plan:
    """Tokens sent to the wrong kind of address come back, by an inner transfer."""
    owner = world.random.choice(world.people)
    own = account_of(address(owner), DOLLAR)
    amount = world.random.randrange(10**6, 10**8)
    world.chain.put(account_of(own, DOLLAR), token_account(own, DOLLAR, amount))
    steps = (limit(60_000), price(1), recover_nested(address(owner), DOLLAR))
    return Plan("nested account recovery", steps, (owner,), ((2, 0, False),))


def _own_wallet(world: World) -> Plan:
    """The owner of a smart wallet moves money out of it and pays the fee."""
    keeper = world.random.choice(world.keepers)
    world.chain.fund(address(keeper), 10**7)
    recipient = address(world.random.choice(world.people))
    steps = (limit(60_000), price(1), wallet_pay(address(keeper), recipient, DOLLAR, _amount(world)))
    return Plan("smart-wallet withdrawal", steps, (keeper,), ((2, 0, False),))


def _fuel(world: World) -> Plan:
    """A facilitator's fee payer gets lamports: no token moves."""
    person = world.random.choice(world.people)
    step = send_lamports(address(person), address(world.random.choice(world.fee_payers)), world.random.randrange(10**7))
    return Plan("no token transfer", (limit(500), price(1), step), (person,))


_MAKERS: tuple[tuple[Callable[[World], Plan], int], ...] = (
    (_transfer, 34), (_swap, 11), (_airdrop, 4), (_relayed, 16), (_rent_refund, 3), (_treasury, 5), (_withdrawal, 8),
    (_sweep, 5), (_dust, 4), (_recovery, 2), (_own_wallet, 2), (_fuel, 6),
)  # fmt: skip
