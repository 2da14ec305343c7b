"""Which token transfers of a Solana transaction are x402 payments.

Nothing on chain marks a payment, so signs are collected (here and in `layout`) and weighed (`evidence`); what they mean
is told in docs/guides/x402.md. Pure: no I/O, one pass over the instructions, results shared between equal cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import msgspec

from holdfast.apps.agents import evidence
from holdfast.apps.agents.evidence import PAYMENT_THRESHOLD, weigh
from holdfast.apps.agents.layout import NO_LAYOUT, Layout, read_layout
from holdfast.apps.agents.mints import MINTS
from holdfast.errors import ConfigurationError, InvalidValue
from holdfast.upstreams.solana.associated import address_bytes, associated_token_account
from holdfast.upstreams.solana.records import TokenTransfer, Transaction
from holdfast.upstreams.solana.transaction import Scope

STABLECOINS = frozenset(mint.address for mint in MINTS if mint.is_stablecoin)
SMART_WALLETS = frozenset(
    {
        "SQDS4ep65T869zMMBKyuUq6aD6EgTu8psMjkvj52pCf",  # Squads v4
        "SMRTzfY6DfH5ik3TKiyLFfXexV8uSG3d2UksSCYdunG",  # Squads Smart Account
        "SWiGmQedKzMz1tiTqoJCWeGDnGXfNBp2PkXLkpCAtQo",  # Swig
        "swigypWHEksbC64pWKwah1WTeh9JXwx8H1rJHLdbQMB",  # Swig v2
        "GovER5Lthms3bLBqWub97yVrMmEogzX7xNjdXpPPCVZw",  # SPL Governance
        "CoREENxT6tW1HoK8ypY1SxRMZTcVPm7R94rH4PZNhX7d",  # Metaplex Core
    }
)


class RecognitionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the recogniser knows beforehand. All addresses are base58.

    Raises:
        ConfigurationError: the threshold is not above 0 and at most 1.
    """

    facilitators: Mapping[str, str] = {}  # fee payer → the facilitator's name
    pay_to: Mapping[str, tuple[str, ...]] = {}  # wallet → mints it is paid in; none named means any
    settled: frozenset[str] = frozenset()  # transaction signatures taken from PAYMENT-RESPONSE headers
    stablecoins: frozenset[str] = STABLECOINS  # mints
    smart_wallets: frozenset[str] = SMART_WALLETS  # programs
    threshold: float = PAYMENT_THRESHOLD  # the confidence from which a transfer is a payment

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigurationError(f"the payment threshold is {self.threshold}: set it above 0 and at most to 1")

    def merged(self, other: RecognitionConfig) -> RecognitionConfig:
        """Return what both know; where they differ (a facilitator's name, the threshold), `other` wins."""
        pay_to = dict(self.pay_to)
        for wallet, mints in other.pay_to.items():
            pay_to[wallet] = tuple(dict.fromkeys((*pay_to.get(wallet, ()), *mints)))
        return RecognitionConfig(
            facilitators={**self.facilitators, **other.facilitators},
            pay_to=pay_to,
            settled=self.settled | other.settled,
            stablecoins=self.stablecoins | other.stablecoins,
            smart_wallets=self.smart_wallets | other.smart_wallets,
            threshold=other.threshold,
        )


def load_recognition(path: Path) -> RecognitionConfig:
    """Read a `RecognitionConfig` from a JSON object with its fields, every one optional.

    Raises:
        ConfigurationError: the file cannot be read, is no such object, or names something that is no address.
    """
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise ConfigurationError(f"the recognition file {path} cannot be read: {e.strerror or e}") from e
    try:
        config = msgspec.json.decode(raw, type=RecognitionConfig)
        Recogniser(config)
    except (msgspec.DecodeError, InvalidValue) as e:
        raise ConfigurationError(f"the recognition file {path} is not usable: {e}") from e
    return config


class Judgement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the signs say about one transfer."""

    confidence: float  # 0..1 in hundredths
    reason: str  # the signs found, in the order of the table of evidence
    facilitator: str | None  # its name, where a known facilitator pays the fee
    payment: bool  # whether the confidence reaches the threshold; in a failed transaction: a payment attempt


class Recogniser:
    """Judges the transfers of one transaction after the other; keeps nothing between them but caches.

    Raises:
        InvalidValue: a wallet or mint of `config.pay_to` is not an address.
    """

    def __init__(self, config: RecognitionConfig) -> None:
        self.config = config
        self._percent = ceil(config.threshold * 100 - 1e-9)
        for wallet, mints in config.pay_to.items():
            for address in (wallet, *mints):
                address_bytes(address)
        self._accounts: dict[tuple[str, str], frozenset[str]] = {}
        self._judgements: dict[tuple[int, str | None], Judgement] = {}

    def wants(self, tx: Transaction) -> Scope:
        """Which instructions of `tx` `recognise` reads; most transactions pay their own fee and need none.

        To be passed to the parser, for which instructions are the dearest part.
        """
        fee_payer = tx.fee_payer
        for t in tx.transfers:
            if fee_payer != t.authority and fee_payer != t.source_owner:
                return "top-level"
        return False

    def recognise(self, tx: Transaction) -> list[Judgement]:
        """Judge the transfers of `tx`, one judgement each, in their order. Its outcome plays no part.

        Raises:
            InvalidValue: `wants(tx)`, but the instructions were left out when it was parsed.
        """
        transfers = tx.transfers
        if not transfers:
            return []
        layout = NO_LAYOUT
        if self.wants(tx):
            if not tx.instructions:
                raise InvalidValue(
                    f"transaction {tx.signature} was parsed without its instructions: parse it with"
                    " `instructions=recogniser.wants`"
                )
            layout = read_layout(tx)
            if layout.shape == evidence.WALLET and len(transfers) > 1:
                layout = layout._replace(shape=0)  # a payment through a smart wallet is its only transfer
        facilitator = self.config.facilitators.get(tx.fee_payer)
        common = 0 if facilitator is None else evidence.FACILITATOR
        if tx.signature in self.config.settled:
            common |= evidence.SETTLED
        if len(transfers) == 1:
            return [self._judge(common | self._signs(tx.fee_payer, transfers[0], layout), facilitator)]
        signs = [common | self._signs(tx.fee_payer, t, layout) | _beside(t, transfers) for t in transfers]
        self._choose(signs, transfers)
        return [self._judge(s, facilitator) for s in signs]

    def _signs(self, fee_payer: str, t: TokenTransfer, layout: Layout) -> int:
        config = self.config
        signs = 0
        recipient = t.destination_owner
        if t.authority in config.facilitators or t.source_owner in config.facilitators:
            signs |= evidence.OWN_FUNDS
        elif fee_payer == t.authority or fee_payer == t.source_owner:
            signs |= evidence.SELF_PAID
        else:
            signs |= self._sponsor_signs(fee_payer, t, layout)
        if t.kind == "transfer":
            signs |= evidence.UNCHECKED
        if t.mint in config.stablecoins:
            signs |= evidence.STABLE
        if config.pay_to and self._is_payee(t):
            signs |= evidence.PAYEE
        if t.source == t.destination or (recipient is not None and recipient == t.source_owner):
            signs |= evidence.SAME_OWNER
        if t.amount == 0:
            signs |= evidence.EMPTY
        return signs

    def _sponsor_signs(self, fee_payer: str, t: TokenTransfer, layout: Layout) -> int:
        """Return what the layout says, given that the sender does not pay the fee."""
        if layout.entangled:
            signs = evidence.ENTANGLED
        else:
            signs = evidence.SPONSORED
            if fee_payer not in self.config.facilitators:
                # A failed transaction may carry no balances; the account alone then tells whose it is.
                recipient = t.destination_owner
                if recipient == fee_payer or (recipient is None and layout.shape and _owns(fee_payer, t)):
                    signs |= evidence.MERCHANT
        # The transfer of the exact layout is a top-level instruction, that of a smart wallet never is.
        if t.kind != "transfer" and layout.shape and (t.inner is not None) == (layout.shape == evidence.WALLET):
            signs |= layout.shape | layout.client
            if layout.program in self.config.smart_wallets:
                signs |= evidence.KNOWN_WALLET
        return signs

    def _is_payee(self, t: TokenTransfer) -> bool:
        if t.destination_owner is not None:
            mints = self.config.pay_to.get(t.destination_owner)
            return mints is not None and (not mints or t.mint in mints)
        # Where the balances are missing, the seller is known by its associated account, which is what the scheme pays.
        return t.mint is not None and t.destination in self._payee_accounts(t.mint, t.program)

    def _payee_accounts(self, mint: str, program: str) -> frozenset[str]:
        accounts = self._accounts.get((mint, program))
        if accounts is None:
            usual = mint in self.config.stablecoins
            wallets = [w for w, mints in self.config.pay_to.items() if (mint in mints if mints else usual)]
            accounts = frozenset(associated_token_account(w, mint, program) for w in wallets)
            if wallets:
                self._accounts[mint, program] = accounts
        return accounts

    def _choose(self, signs: list[int], transfers: Sequence[TokenTransfer]) -> None:
        """Leave one payment a transaction: the best founded, and the largest of those (a wallet's fee is smaller)."""
        claims = [i for i, s in enumerate(signs) if weigh(s)[0] >= self._percent]
        claims.sort(key=lambda i: (weigh(signs[i] & ~evidence.SETTLED)[0], transfers[i].amount, -i))
        for i in claims[:-1]:
            signs[i] |= evidence.OTHER

    def _judge(self, signs: int, facilitator: str | None) -> Judgement:
        key = (signs, facilitator)
        judgement = self._judgements.get(key)
        if judgement is None:
            percent, reason = weigh(signs, facilitator)
            judgement = self._judgements[key] = Judgement(
                confidence=percent / 100, reason=reason, facilitator=facilitator, payment=percent >= self._percent
            )
        return judgement


def _beside(t: TokenTransfer, transfers: Sequence[TokenTransfer]) -> int:
    """Return the signs that the other transfers of the transaction give about `t`."""
    signs = 0
    sender = t.source_owner or t.authority
    recipients = set()
    passed_on = 0
    for u in transfers:
        if (u.source_owner or u.authority) == sender:
            recipients.add(u.destination)
        elif u.destination_owner == sender and (u.mint is None or u.mint != t.mint):
            signs |= evidence.RETURN
        if u.source == t.destination:
            passed_on += u.amount
    if len(recipients) > 2:
        signs |= evidence.BATCH
    if passed_on and passed_on >= t.amount:
        signs |= evidence.PASSED_ON
    return signs


def _owns(owner: str, t: TokenTransfer) -> bool:
    return t.mint is not None and associated_token_account(owner, t.mint, t.program) == t.destination
