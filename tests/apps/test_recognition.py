"""Which transfers are x402 payments: every sign, and everything that only looks like one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.apps.agents import evidence
from holdfast.apps.agents.evidence import PAYMENT_THRESHOLD, SIGNS, weigh
from holdfast.apps.agents.facilitators import fee_payers, load_facilitators
from holdfast.apps.agents.recognition import Judgement, Recogniser, RecognitionConfig, load_recognition
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.upstreams.solana.associated import associated_token_account
from holdfast.upstreams.solana.records import Instruction, TokenTransfer, Transaction
from tests.apps.x402 import (
    BONK,
    BUYER,
    DEXTER,
    LIGHTHOUSE,
    PAYAI,
    RELAYER,
    SELLER,
    SQUADS,
    SYSTEM,
    TOKEN_2022,
    USDC,
    USDT,
    account,
    create,
    lighthouse,
    limit,
    memo,
    move,
    price,
    program,
    transaction,
)

SHIPPED = RecognitionConfig(facilitators=fee_payers(load_facilitators()))


def judge(tx: Transaction, config: RecognitionConfig = SHIPPED) -> Judgement:
    """The judgement of a transaction's only transfer."""
    (judgement,) = Recogniser(config).recognise(tx)
    return judgement


def payments(tx: Transaction, config: RecognitionConfig = SHIPPED) -> list[bool]:
    return [j.payment for j in Recogniser(config).recognise(tx)]


V2 = transaction(PAYAI, limit(), price(), move(), memo())

LAYOUTS = {
    "version 1": transaction(PAYAI, limit(8_123), price(), move()),
    "version 1, the facilitator opens the seller's account": transaction(PAYAI, limit(), price(), create(), move()),
    "version 2 with a nonce": V2,
    "version 2 with the seller's reference": transaction(PAYAI, limit(), price(), move(), memo(b"order 77")),
    "Phantom": transaction(PAYAI, limit(), price(), move(), lighthouse()),
    "Solflare": transaction(PAYAI, limit(), price(), move(), lighthouse(), lighthouse(), memo()),
    "Token-2022": transaction(PAYAI, limit(), price(), move(token_program=TOKEN_2022), memo()),
    "a priority fee within the limit": transaction(PAYAI, limit(), price(5_000_000), move()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_version_of_the_exact_layout_is_a_payment_of_the_facilitator(layout: str) -> None:
    found = judge(LAYOUTS[layout])
    assert found.payment
    assert found.confidence >= 0.95
    assert found.facilitator == "payAI"
    assert found.reason.startswith("facilitator payAI pays the fee; the fee payer takes no other part; exact layout")


def test_a_facilitator_makes_a_bare_transfer_a_payment() -> None:
    assert judge(transaction(PAYAI, move())).payment


def test_a_token_that_is_no_stablecoin_can_be_paid_with() -> None:
    assert judge(transaction(PAYAI, limit(), price(), move(mint=BONK), memo())).payment


@pytest.mark.parametrize("wallet", [SQUADS, "UnknownWa11et1111111111111111111111111111111"])
def test_a_smart_wallet_pays_by_an_inner_instruction(wallet: str) -> None:
    found = judge(transaction(PAYAI, limit(), price(), (program(wallet, BUYER), [move()]), memo()))
    assert found.payment
    assert "smart-wallet layout" in found.reason
    assert ("known smart wallet" in found.reason) == (wallet == SQUADS)


def test_a_smart_wallet_that_pays_twice_has_not_the_layout_of_a_payment() -> None:
    twice = [move(), move(recipient="a wallet's till", amount=50)]
    first, second = Recogniser(SHIPPED).recognise(
        transaction(PAYAI, limit(), price(), (program(SQUADS, BUYER), twice), memo())
    )
    assert (first.payment, second.payment) == (True, False)
    assert "smart-wallet layout" not in first.reason + second.reason


def test_a_transfer_inside_the_token_program_is_not_the_one_of_the_layout() -> None:
    """A mint may have a program called at each transfer, which may move tokens itself."""
    hooked = transaction(PAYAI, limit(), price(), move())
    inside = msgspec.structs.replace(move(recipient="hook", amount=1), instruction=2, inner=0)
    hooked = msgspec.structs.replace(hooked, transfers=(*hooked.transfers, inside))
    first, second = Recogniser(SHIPPED).recognise(hooked)
    assert first.payment
    assert "exact layout" in first.reason
    assert not second.payment
    assert "exact layout" not in second.reason


def test_a_facilitator_may_sell_something_itself() -> None:
    found = judge(transaction(PAYAI, limit(), price(), move(recipient=PAYAI), memo()))
    assert found.payment
    assert "the recipient pays the fee" not in found.reason


def test_an_inner_transfer_without_a_facilitator_needs_more_than_its_layout() -> None:
    bare = transaction(RELAYER, limit(), price(), (program(SQUADS, BUYER), [move()]))
    assert not judge(bare).payment
    assert judge(transaction(RELAYER, limit(), price(), (program(SQUADS, BUYER), [move()]), memo())).payment


def test_the_exact_layout_alone_is_no_payment() -> None:
    """Gasless wallets sponsor transfers of the very same layout."""
    assert judge(transaction(RELAYER, limit(), price(10_000), move())).confidence == 0.40
    assert judge(transaction(RELAYER, limit(), price(), move())).confidence == 0.45
    assert not judge(transaction(RELAYER, limit(), price(), move(), memo(b"lunch"))).payment


@pytest.mark.parametrize("nonce", [b"9f86d081884c7d659a2feaa0c55ad015", b"n4bQgYhMfWWaL+qgxVrQFQ=="])
def test_a_clients_nonce_tells_the_payment_of_a_facilitator_that_no_list_knows(nonce: bytes) -> None:
    found = judge(transaction(RELAYER, limit(), price(), move(), memo(nonce)))
    assert found.payment
    assert found.facilitator is None
    assert "memo is a nonce" in found.reason


@pytest.mark.parametrize(
    "text",
    [
        b"9f86d081884c7d659a2feaa0c55ad01",
        b"rent for the month of March, thx",
        b"hello there, Bob == Bob==",
        b"for Bob and for Sally ==",
    ],
)
def test_other_memos_are_no_nonce(text: bytes) -> None:
    assert "nonce" not in judge(transaction(RELAYER, limit(), price(), move(), memo(text))).reason


def test_a_seller_may_pay_the_fee_itself() -> None:
    found = judge(transaction(SELLER, limit(), price(), move()))
    assert found.payment
    assert "the recipient pays the fee" in found.reason


def test_a_seller_that_opens_its_own_account_is_still_only_the_sponsor() -> None:
    assert judge(transaction(SELLER, limit(), price(), create(payer=SELLER), move())).payment


def test_a_custodian_that_collects_a_deposit_is_no_seller() -> None:
    assert not judge(transaction(SELLER, move())).payment


def test_a_known_seller_is_recognised_behind_any_sponsor() -> None:
    known = RecognitionConfig(pay_to={SELLER: (USDC,)})
    found = judge(transaction(RELAYER, limit(), price(10_000), move()), known)
    assert found.payment
    assert "the recipient is a known payTo" in found.reason


def test_a_known_seller_counts_only_for_the_tokens_it_takes() -> None:
    tx = transaction(RELAYER, limit(), price(10_000), move(mint=USDT))
    assert not judge(tx, RecognitionConfig(pay_to={SELLER: (USDC,)})).payment
    assert judge(tx, RecognitionConfig(pay_to={SELLER: (USDC, USDT)})).payment
    assert judge(tx, RecognitionConfig(pay_to={SELLER: ()})).payment


@pytest.mark.parametrize("mints", [(USDC,), ()])
def test_a_seller_without_balances_is_known_by_its_associated_account(mints: tuple[str, ...]) -> None:
    account = associated_token_account(SELLER, USDC)
    tx = transaction(RELAYER, limit(), price(10_000), move(recipient=None, destination=account))
    assert judge(tx, RecognitionConfig(pay_to={SELLER: mints})).payment
    assert not judge(tx, RecognitionConfig(pay_to={BUYER: mints})).payment


def test_a_sponsoring_seller_without_balances_is_known_by_its_associated_account() -> None:
    account = associated_token_account(SELLER, USDC, TOKEN_2022)
    paid = move(recipient=None, destination=account, token_program=TOKEN_2022)
    assert judge(transaction(SELLER, limit(), price(), paid)).payment
    assert not judge(transaction(RELAYER, limit(), price(), paid)).payment


def test_a_tip_to_a_known_seller_is_no_payment() -> None:
    tip = judge(transaction(BUYER, limit(), price(), move()), RecognitionConfig(pay_to={SELLER: ()}))
    assert not tip.payment
    assert tip.reason == "the recipient is a known payTo; stablecoin; the sender pays the fee"


def test_a_payment_response_makes_it_certain() -> None:
    settled = msgspec.structs.replace(SHIPPED, settled=frozenset({"s" * 88}))
    for tx in (V2, transaction(BUYER, move()), transaction(RELAYER, move(kind="transfer"))):
        found = judge(tx, settled)
        assert (found.confidence, found.payment) == (1.0, True)
    assert judge(transaction(BUYER, move(), signature="t" * 88), settled).confidence < PAYMENT_THRESHOLD


def test_a_settled_transaction_still_has_one_payment() -> None:
    settled = msgspec.structs.replace(SHIPPED, settled=frozenset({"s" * 88}))
    fee, price_paid = move(recipient="a wallet's till", amount=50), move(amount=10_000)
    assert payments(transaction(PAYAI, limit(), price(), fee, price_paid), settled) == [False, True]


NOT_EXACT = {
    "the price before the limit": transaction(RELAYER, price(), limit(), move(), memo(b"x")),
    "a price over the limit of the scheme": transaction(RELAYER, limit(), price(5_000_001), move()),
    "the memo before the transfer": transaction(RELAYER, limit(), price(), memo(b"x"), move()),
    "the budget after the transfer": transaction(RELAYER, move(), limit(), price()),
    "too many instructions": transaction(RELAYER, limit(), price(), move(), *[lighthouse()] * 5),
    "eight instructions": transaction(RELAYER, limit(), price(), create(RELAYER), move(), *[lighthouse()] * 4),
}


@pytest.mark.parametrize("layout", NOT_EXACT)
def test_another_order_is_not_the_exact_layout(layout: str) -> None:
    assert "bare transfer" in judge(NOT_EXACT[layout]).reason


def test_a_strange_program_spoils_the_layout() -> None:
    reason = judge(transaction(RELAYER, limit(), price(), move(), program(SYSTEM, BUYER))).reason
    assert reason == "the fee payer takes no other part; stablecoin"


def test_a_facilitator_that_moves_its_own_funds_is_not_paid() -> None:
    own = transaction(PAYAI, limit(), price(), move(sender=PAYAI), memo())
    sister = transaction(PAYAI, limit(), price(), move(sender=DEXTER), memo())
    for tx in (own, sister):
        assert judge(tx).confidence == 0.05
        assert "a facilitator moves its own funds" in judge(tx).reason


def test_a_transfer_that_pays_its_own_fee_is_no_payment() -> None:
    found = judge(transaction(BUYER, limit(), price(), move(), memo()))
    assert not found.payment
    assert found.reason == "stablecoin; the sender pays the fee"


@pytest.mark.parametrize(("owner", "delegate"), [(RELAYER, BUYER), (BUYER, RELAYER)])
def test_a_delegate_may_stand_between_the_fee_payer_and_its_own_transfer(owner: str, delegate: str) -> None:
    spent = move(sender=owner)
    tx = transaction(RELAYER, limit(), price(), msgspec.structs.replace(spent, authority=delegate))
    assert "the sender pays the fee" in judge(tx).reason


def test_a_sponsor_that_takes_part_is_no_sponsor() -> None:
    entangled = transaction(RELAYER, limit(), price(), move(), memo(b"9f86d081884c7d659a2feaa0c55ad015", RELAYER))
    assert not judge(entangled).payment
    assert "the fee payer is used by an instruction" in judge(entangled).reason


def test_an_unchecked_transfer_is_not_what_the_scheme_asks_for() -> None:
    assert not judge(transaction(PAYAI, limit(), price(), move(kind="transfer"), memo())).payment


def test_a_swap_is_no_payment_even_with_a_facilitators_fee() -> None:
    give, take = move(), move(sender=SELLER, recipient=BUYER, mint=BONK)
    assert payments(transaction(PAYAI, limit(), price(), give, take)) == [False, False]
    pool = program("DexPoo1111111111111111111111111111111111111", BUYER)
    assert payments(transaction(PAYAI, limit(), price(), (pool, [give, take]), memo())) == [False, False]


def test_an_airdrop_is_no_payment() -> None:
    drops = [move(recipient=f"holder {i}") for i in range(5)]
    assert payments(transaction(PAYAI, limit(), price(), *drops)) == [False] * 5


def test_a_wallets_fee_beside_the_payment_is_not_the_payment() -> None:
    fee, price_paid = move(recipient="a wallet's till", amount=50), move(amount=10_000)
    first, second = Recogniser(SHIPPED).recognise(transaction(PAYAI, limit(), price(), fee, price_paid, memo()))
    assert (first.payment, second.payment) == (False, True)
    assert first.reason.endswith("another transfer of the transaction is the payment")


def test_of_two_transfers_the_one_to_a_known_seller_is_the_payment() -> None:
    known = msgspec.structs.replace(SHIPPED, pay_to={SELLER: (USDC,)})
    tx = transaction(PAYAI, limit(), price(), move(recipient="someone", amount=90_000), move(amount=10_000))
    assert payments(tx, known) == [False, True]


def test_tokens_that_are_passed_on_are_paid_to_the_last() -> None:
    inward = move(recipient="vault")
    onward = move(sender="vault")
    first, second = Recogniser(SHIPPED).recognise(transaction(PAYAI, limit(), price(), inward, onward))
    assert (first.payment, second.payment) == (False, True)
    assert "the tokens are passed on" in first.reason


@pytest.mark.parametrize(
    ("moved", "why"),
    [
        (move(amount=0), "the amount is 0"),
        (move(recipient=BUYER, destination="another account"), "the tokens stay with their owner"),
        (move(recipient=None, destination=account(BUYER)), "the tokens stay with their owner"),
    ],
)
def test_a_transfer_that_gives_nobody_anything_is_no_payment(moved: TokenTransfer, why: str) -> None:
    found = judge(transaction(PAYAI, limit(), price(), moved, memo()))
    assert not found.payment
    assert why in found.reason


def test_a_failed_attempt_keeps_its_confidence() -> None:
    failed = msgspec.structs.replace(V2, successful=False, error='{"InstructionError":[2,{"Custom":1}]}')
    assert judge(failed) == judge(V2)


def test_the_parsed_form_of_the_instructions_is_judged_alike() -> None:
    def parsed(i: Instruction) -> Instruction:
        if i.program == V2.transfers[0].program:
            return msgspec.structs.replace(i, data=b"", parsed_type="transferChecked")
        return i

    for payer in (PAYAI, RELAYER):
        tx = transaction(payer, limit(), price(), move(), memo())
        same = msgspec.structs.replace(tx, instructions=tuple(map(parsed, tx.instructions)))
        assert judge(same) == judge(tx)


def test_nothing_is_said_of_a_transaction_without_transfers() -> None:
    assert Recogniser(SHIPPED).recognise(transaction(PAYAI, limit(), price(), memo())) == []


def test_instructions_are_wanted_only_where_someone_else_pays_the_fee() -> None:
    recogniser = Recogniser(SHIPPED)
    self_paid = transaction(BUYER, limit(), price(), move())
    assert not recogniser.wants(self_paid)
    assert recogniser.wants(V2)
    stripped = msgspec.structs.replace(self_paid, instructions=())
    assert recogniser.recognise(stripped) == recogniser.recognise(self_paid)
    with pytest.raises(InvalidValue, match=r"instructions=recogniser\.wants"):
        recogniser.recognise(msgspec.structs.replace(V2, instructions=()))


def test_the_threshold_is_the_users_to_set() -> None:
    tx = transaction(RELAYER, limit(), price(), move())
    assert judge(tx, RecognitionConfig(threshold=0.45)).payment
    assert not judge(tx, RecognitionConfig(threshold=0.46)).payment
    for wrong in (0, 1.01):
        with pytest.raises(ConfigurationError, match=f"threshold is {wrong}"):
            RecognitionConfig(threshold=wrong)


def test_every_sign_has_a_bit_of_its_own() -> None:
    assert sorted(sign.bit for sign in SIGNS) == [1 << i for i in range(len(SIGNS))]
    assert all(sign.points or sign.ceiling is not None for sign in SIGNS)


@given(st.sets(st.sampled_from(SIGNS)))
def test_the_weight_stays_within_its_bounds(found: set[evidence.Sign]) -> None:
    bits = sum(sign.bit for sign in found)
    percent, reason = weigh(bits, "somebody")
    if bits & evidence.SETTLED:
        assert percent == (30 if bits & evidence.OTHER else 100)
    else:
        assert 0 <= percent <= min([99] + [s.ceiling for s in found if s.ceiling is not None])
    assert reason == ("; ".join(s.phrase.format(name="somebody") for s in SIGNS if s in found) or "no sign of x402")


def test_what_two_configurations_know_is_joined() -> None:
    one = RecognitionConfig(facilitators={PAYAI: "payAI"}, pay_to={SELLER: (USDC,)}, settled=frozenset({"a"}))
    two = RecognitionConfig(facilitators={PAYAI: "PayAI", DEXTER: "Dexter"}, pay_to={SELLER: (USDT,)}, threshold=0.7)
    both = one.merged(two)
    assert both.facilitators == {PAYAI: "PayAI", DEXTER: "Dexter"}
    assert both.pay_to == {SELLER: (USDC, USDT)}
    assert (both.settled, both.threshold) == (frozenset({"a"}), 0.7)


def test_a_recognition_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "recognition.json"
    file.write_bytes(
        msgspec.json.encode({"facilitators": {PAYAI: "mine"}, "pay_to": {SELLER: [USDC]}, "threshold": 0.6})
    )
    assert load_recognition(file) == RecognitionConfig(
        facilitators={PAYAI: "mine"}, pay_to={SELLER: (USDC,)}, threshold=0.6
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"facilitator": {}}', "facilitator"),
        (b'{"threshold": 2}', "threshold is 2"),
        (b'{"pay_to": {"nobody": []}}', "'nobody' is not a Solana address"),
        (b'{"pay_to": {"' + SELLER.encode() + b'": ["l0l"]}}', "'l0l' is not a Solana address"),
    ],
)
def test_an_unusable_recognition_file_is_refused_with_what_is_wrong(tmp_path: Path, content: bytes, what: str) -> None:
    file = tmp_path / "recognition.json"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=what):
        load_recognition(file)
    with pytest.raises(ConfigurationError, match=r"missing\.json cannot be read"):
        load_recognition(tmp_path / "missing.json")


def test_the_guide_shows_the_table_that_is_used() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/x402.md").read_text("utf-8")
    for sign in SIGNS:
        weight = f"at most {sign.ceiling}" if sign.ceiling is not None else f"{sign.points:+d}"
        assert f"| {sign.phrase} | {weight} |" in guide
    assert f"**{PAYMENT_THRESHOLD}**" in guide
    assert LIGHTHOUSE in guide
