"""x402 payments as the `exact` scheme for Solana has had them, and attempts that fail in the VM."""

from __future__ import annotations

from dataclasses import replace

from solders.instruction import Instruction

from .addresses import account_of, address
from .agents import Agent
from .instructions import assertion, create_account, limit, memo, pay, price, transfer_checked, wallet_pay
from .plan import Plan
from .world import World

_BEFORE_MEMOS = {"exact v1": 14, "exact with Lighthouse": 3, "minimal": 3}
_SINCE_MEMOS = {
    "exact v2": 44, "exact v2 with reference": 11, "exact v1": 5, "exact with Lighthouse": 11, "smart wallet": 9,
    "unlisted facilitator": 2, "minimal": 1,
}  # fmt: skip
_FAILURES = {"insufficient funds": 12, "frozen": 2, "wrong decimals": 1, "out of compute": 2, "empty smart wallet": 2}


def plan_payment(world: World, agent: Agent, day: int) -> Plan:
    """Plan a payment to `agent` as clients made them on that day of the sample (version 2 arrives with day 15)."""
    random = world.random
    if agent.sponsors:
        kind = "merchant-sponsored"
    else:
        share = min(1.0, max(0.0, (day - 12) / 10))
        kinds = _SINCE_MEMOS if random.random() < share else _BEFORE_MEMOS
        kind = random.choices(list(kinds), list(kinds.values()))[0]
    if kind == "smart wallet" and agent.mint.symbol == "CRED":
        kind = "exact v2"
    payer = _fee_payer(world, agent, kind)
    if kind == "smart wallet":
        return _by_wallet(world, agent, payer, random.choice(world.keepers))
    # A few buyers come back much more often than the others.
    (buyer,) = random.choices(world.buyers, cum_weights=world.loyalty)
    amount = agent.price * random.choice((1, 1, 1, 1, 2, 3, 5))
    plan = _direct(world, agent, kind, payer, buyer, amount)
    account = account_of(agent.pay_to, agent.mint)
    if account not in world.opened:
        world.opened.add(account)
        create = create_account(address(payer), agent.pay_to, agent.mint, idempotent=random.random() < 0.5)
        return _inserted(plan, create)
    return plan


def plan_failure(world: World, agent: Agent, day: int) -> Plan:
    """Plan a payment attempt that the VM will refuse."""
    random = world.random
    if account_of(agent.pay_to, agent.mint) not in world.opened:
        return plan_payment(world, agent, day)
    why = random.choices(list(_FAILURES), list(_FAILURES.values()))[0]
    payer = _fee_payer(world, agent, "exact v2")
    funded = agent.mint.symbol != "CRED"
    if why == "empty smart wallet" and funded:
        plan = _by_wallet(world, agent, payer, random.choice(world.keepers), amount=10**17)
    elif why in ("insufficient funds", "frozen") and funded:
        broke = world.broke[random.randrange(20, 25) if why == "frozen" else random.randrange(20)]
        plan = _direct(world, agent, "exact v2", payer, broke, max(agent.price, 1000))
    else:
        why = "out of compute" if why == "out of compute" else "wrong decimals"
        plan = _direct(world, agent, "exact v2", payer, random.choice(world.buyers), agent.price)
        steps = list(plan.instructions)
        if why == "out of compute":
            steps[0] = limit(250)
        else:
            buyer = address(plan.signers[1])
            source, target = account_of(buyer, agent.mint), account_of(agent.pay_to, agent.mint)
            steps[2] = transfer_checked(
                source, target, buyer, agent.mint, agent.price, decimals=agent.mint.decimals + 1
            )
        plan = replace(plan, instructions=tuple(steps))
    return replace(plan, kind=f"failed: {why}")


def _fee_payer(world: World, agent: Agent, kind: str) -> str:
    if agent.sponsors:
        return agent.pay_to_name
    if kind == "unlisted facilitator":
        return world.unlisted
    # Agents keep to one facilitator; those with several fee payers take turns.
    home = (0, 0, 0, 2, 2, 3, 5)[agent.number % 7]
    return world.fee_payers[home + (world.random.randrange(2) if home in (0, 3) else 0)]


def _direct(world: World, agent: Agent, kind: str, payer: str, buyer: str, amount: int) -> Plan:
    random = world.random
    sender = address(buyer)
    step = pay(sender, agent.pay_to, agent.mint, amount)
    # Early clients estimated the limit and set a price of one micro-lamport; some set a real one.
    head = (limit(random.randrange(6_000, 12_000)), price(random.choice((1, 1, 1, 1, 10_000, 50_000))))
    nonce = memo(f"{random.getrandbits(128):032x}")
    legacy = False
    if kind == "minimal":
        steps: tuple[Instruction, ...] = (step,)
        legacy = True
    elif kind == "exact v1":
        steps = (*head, step)
    elif kind == "exact with Lighthouse":
        checks = [assertion(account_of(sender, agent.mint), random.randbytes(12)) for _ in range(random.choice((1, 2)))]
        steps = (*head, step, *checks)
        if random.random() < 0.6:
            steps = (*steps, nonce)
    else:
        reference = memo(f"inv-{agent.number:02d}-{random.randrange(10**6):06d}")
        steps = (limit(20_000), price(1), step, reference if kind == "exact v2 with reference" else nonce)
    at = steps.index(step)
    lookup = not legacy and random.random() < 0.06
    return Plan(kind, steps, (payer, buyer), ((at, None, True),), agent.number, legacy, lookup)


def _by_wallet(world: World, agent: Agent, payer: str, keeper: str, amount: int | None = None) -> Plan:
    nonce = memo(f"{world.random.getrandbits(128):032x}")
    step = wallet_pay(address(keeper), agent.pay_to, agent.mint, agent.price if amount is None else amount)
    steps = (limit(60_000), price(1), step, nonce)
    account = account_of(agent.pay_to, agent.mint)
    plan = Plan("smart wallet", steps, (payer, keeper), ((2, 0, True),), agent.number)
    if account not in world.opened and amount is None:
        world.opened.add(account)
        return _inserted(plan, create_account(address(payer), agent.pay_to, agent.mint))
    return plan


def _inserted(plan: Plan, create: Instruction) -> Plan:
    """Put the creation of the seller's account before the transfer, and grant it the compute it takes."""
    ((at, inner, payment),) = plan.labels
    steps = [*plan.instructions[:at], create, *plan.instructions[at:]]
    if at:
        steps[0] = limit(90_000)
    return replace(plan, instructions=tuple(steps), labels=((at + 1, inner, payment),))
