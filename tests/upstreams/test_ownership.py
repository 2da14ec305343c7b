"""Who owned a token account, and what it held, at the time of a transfer."""

import pytest

from holdfast.upstreams.solana.parse import parse_transaction
from tests.upstreams.drafts import (
    ALICE,
    ALICES,
    BOB,
    BOBS,
    CAROL,
    CAROLS,
    ENCODINGS,
    MINT,
    OTHER_MINT,
    OTHER_PROGRAM,
    TEMPORARY,
    TOKEN,
    TOKEN_2022,
    WRAPPED_SOL,
    Call,
    Draft,
    batch,
    close,
    create_associated,
    hand_over,
    holding,
    initialize,
    key,
    raw,
    transfer,
    transfer_checked,
    u64,
)


@pytest.fixture(params=ENCODINGS)
def encoding(request):
    return request.param


def ends(draft: Draft, encoding: str) -> list[tuple[str | None, ...]]:
    """Owner of the source, owner of the destination, mint and decimals of each transfer."""
    transfers = parse_transaction(draft.answer(encoding)).transfers
    return [(t.source_owner, t.destination_owner, t.mint, t.decimals) for t in transfers]


HELD = [holding(ALICES, ALICE), holding(BOBS, BOB)]


@pytest.mark.parametrize("form", [1, 2, 3])
def test_an_account_opened_and_closed_within_the_transaction_belongs_to_whom_it_was_opened_for(form, encoding):
    draft = Draft(
        [
            initialize(TEMPORARY, CAROL, form=form),
            transfer(ALICES, TEMPORARY, ALICE, 5),
            transfer(TEMPORARY, BOBS, CAROL, 5),
            close(TEMPORARY, CAROL),
        ],
        HELD,
        HELD,
    )
    assert ends(draft, encoding) == [(ALICE, CAROL, MINT, 6), (CAROL, BOB, MINT, 6)]


@pytest.mark.parametrize("data", [b"", b"\0", b"\1"])
def test_an_associated_account_belongs_to_its_wallet_even_without_inner_instructions(data, encoding):
    draft = Draft(
        [
            create_associated(TEMPORARY, CAROL, data=data),
            transfer(ALICES, TEMPORARY, ALICE, 5),
            close(TEMPORARY, CAROL),
        ],
        HELD,
        HELD,
    )
    answer = draft.answer(encoding)
    answer["meta"]["innerInstructions"] = None
    (seen,) = parse_transaction(answer).transfers
    assert (seen.destination_owner, seen.mint) == (CAROL, MINT)


def test_a_swap_program_may_open_the_account_in_an_inner_instruction(encoding):
    opening = create_associated(
        TEMPORARY, CAROL, program=TOKEN_2022, inner=[initialize(TEMPORARY, CAROL, program=TOKEN_2022)]
    )
    swap = Call(OTHER_PROGRAM, (), b"", inner=[opening, *opening.inner, transfer(ALICES, TEMPORARY, ALICE, 5)])
    assert ends(Draft([swap], HELD, HELD), encoding) == [(ALICE, CAROL, MINT, 6)]


def test_wrapped_sol_that_comes_and_goes_has_nine_decimals(encoding):
    draft = Draft(
        [
            initialize(TEMPORARY, ALICE, WRAPPED_SOL),
            initialize(CAROLS, BOB, WRAPPED_SOL, form=1),
            transfer(TEMPORARY, CAROLS, ALICE, 5),
            close(TEMPORARY, ALICE),
            close(CAROLS, BOB),
        ]
    )
    assert ends(draft, encoding) == [(ALICE, BOB, WRAPPED_SOL, 9)]


def test_an_account_handed_over_belongs_to_each_owner_in_turn(encoding):
    draft = Draft(
        [
            transfer(ALICES, BOBS, ALICE, 1),
            hand_over(ALICES, ALICE, CAROL),
            transfer(ALICES, BOBS, CAROL, 2),
            transfer(BOBS, ALICES, BOB, 3),
        ],
        HELD,
        [holding(ALICES, CAROL), holding(BOBS, BOB)],
    )
    owners = [(source, destination) for source, destination, _, _ in ends(draft, encoding)]
    assert owners == [(ALICE, BOB), (CAROL, BOB), (BOB, CAROL)]


def test_an_escrow_that_takes_over_a_fresh_account_owns_it_only_afterwards(encoding):
    escrow = key(70)
    draft = Draft(
        [
            initialize(TEMPORARY, ALICE),
            transfer(ALICES, TEMPORARY, ALICE, 5),
            Call(OTHER_PROGRAM, (), b"", inner=[hand_over(TEMPORARY, ALICE, escrow)]),
        ],
        [holding(ALICES, ALICE)],
        [holding(ALICES, ALICE), holding(TEMPORARY, escrow)],
    )
    assert ends(draft, encoding) == [(ALICE, ALICE, MINT, 6)]


def test_who_hands_over_an_account_owned_it_before_where_the_balances_do_not_say(encoding):
    draft = Draft(
        [transfer(ALICES, BOBS, ALICE, 1), hand_over(ALICES, ALICE, CAROL), transfer(ALICES, BOBS, CAROL, 2)],
        [holding(ALICES, None), holding(BOBS, None)],
        [holding(ALICES, None), holding(BOBS, None)],
    )
    assert ends(draft, encoding) == [(ALICE, None, MINT, 6), (CAROL, None, MINT, 6)]


def test_other_authorities_may_change_without_changing_the_owner(encoding):
    draft = Draft([hand_over(ALICES, ALICE, CAROL, authority_type=3), transfer(ALICES, BOBS, ALICE, 1)], HELD, HELD)
    assert ends(draft, encoding)[0][0] == ALICE


def test_an_account_closed_and_opened_again_takes_its_new_owner_and_mint(encoding):
    draft = Draft(
        [
            transfer(ALICES, BOBS, ALICE, 1),
            close(ALICES, ALICE),
            initialize(ALICES, CAROL, OTHER_MINT),
            transfer(CAROLS, ALICES, CAROL, 2),
        ],
        [*HELD, holding(CAROLS, CAROL, OTHER_MINT, decimals=2)],
        [
            holding(ALICES, CAROL, OTHER_MINT, decimals=2),
            holding(BOBS, BOB),
            holding(CAROLS, CAROL, OTHER_MINT, decimals=2),
        ],
    )
    assert ends(draft, encoding) == [(ALICE, BOB, MINT, 6), (CAROL, CAROL, OTHER_MINT, 2)]


def test_the_steps_of_a_batch_count_too(encoding):
    draft = Draft(
        [batch(initialize(TEMPORARY, CAROL), transfer(ALICES, TEMPORARY, ALICE, 1), hand_over(TEMPORARY, CAROL, BOB))],
        HELD,
        HELD,
    )
    assert ends(draft, encoding) == [(ALICE, CAROL, MINT, 6)]


def test_a_new_account_whose_opening_is_not_shown_belongs_to_its_owner_afterwards(encoding):
    draft = Draft(
        [transfer(ALICES, BOBS, ALICE, 1)], [holding(ALICES, ALICE)], [holding(ALICES, ALICE), holding(BOBS, BOB)]
    )
    assert ends(draft, encoding) == [(ALICE, BOB, MINT, 6)]


def test_an_account_that_is_gone_afterwards_belongs_to_its_owner_before(encoding):
    draft = Draft([transfer(ALICES, BOBS, ALICE, 1), close(ALICES, ALICE)], HELD, [holding(BOBS, BOB)])
    assert ends(draft, encoding) == [(ALICE, BOB, MINT, 6)]


def test_the_mint_of_a_plain_transfer_may_come_from_either_end(encoding):
    for listed in ([holding(ALICES, ALICE)], [holding(BOBS, BOB)]):
        for draft in (
            Draft([transfer(ALICES, BOBS, ALICE, 1)], listed),
            Draft([transfer(ALICES, BOBS, ALICE, 1)], (), listed),
        ):
            assert ends(draft, encoding)[0][2:] == (MINT, 6)


def test_the_mint_of_a_plain_transfer_may_come_from_other_instructions(encoding):
    chain = [
        transfer(ALICES, BOBS, ALICE, 1),
        transfer(BOBS, CAROLS, BOB, 1),
        transfer_checked(CAROLS, TEMPORARY, CAROL, 1),
    ]
    assert [(mint, decimals) for _, _, mint, decimals in ends(Draft(chain), encoding)] == [(MINT, 6)] * 3
    minted = Call(TOKEN, (MINT, ALICES, ALICE), b"\x07" + u64(5))
    assert ends(Draft([minted, transfer(ALICES, BOBS, ALICE, 1)]), encoding)[0][2:] == (MINT, None)
    burned = Call(TOKEN, (BOBS, MINT, BOB), b"\x0f" + u64(5) + b"\x04")
    assert ends(Draft([transfer(ALICES, BOBS, ALICE, 1), burned]), encoding)[0][2:] == (MINT, 4)


def test_the_decimals_of_a_new_mint_come_from_its_initialization(encoding):
    draft = Draft(
        [
            Call(TOKEN, (MINT,), b"\x14\x05" + raw(ALICE) + b"\0"),
            initialize(ALICES, ALICE),
            initialize(BOBS, BOB),
            transfer(ALICES, BOBS, ALICE, 1),
        ]
    )
    assert ends(draft, encoding) == [(ALICE, BOB, MINT, 5)]


def test_the_decimals_that_a_failed_transfer_claims_are_not_believed_of_others(encoding):
    wrong = [transfer_checked(ALICES, BOBS, ALICE, 1, decimals=9), transfer(ALICES, BOBS, ALICE, 1)]
    draft = Draft(wrong, err={"InstructionError": [0, {"Custom": 18}]})
    assert [decimals for _, _, _, decimals in ends(draft, encoding)] == [9, None]


def test_an_owner_who_is_not_among_the_accounts_is_still_named(encoding):
    stranger = key(777)
    draft = Draft([initialize(TEMPORARY, stranger), transfer(ALICES, TEMPORARY, ALICE, 1)], HELD, HELD)
    assert stranger not in draft.accounts()
    assert ends(draft, encoding)[0][1] == stranger


def test_nothing_is_made_up_where_nothing_is_known(encoding):
    assert ends(Draft([transfer(ALICES, BOBS, ALICE, 1)]), encoding) == [(None, None, None, None)]
