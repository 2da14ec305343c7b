"""The tables of the agents app: a registry of on-chain agents, and the x402 payments made to them."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from holdfast.model import NAMING, Amount, Expose, Model, Policy, Timestamps
from holdfast.rollup import Count, Rollup, Sum

TOP_LEVEL = -1  # `inner_instruction` of an instruction that is not inside another: NULLs would not be unique
NO_BATCH = -1  # `batched` of a transfer that is not one of several in a token program's `batch` instruction


class AgentsModel(Model):
    """The base of these models: with a metadata of their own they are only where they are asked for."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Agent(Timestamps, AgentsModel):
    """An on-chain agent. One that was only seen being paid has an address and nothing else yet (a ghost)."""

    __tablename__ = "agents"
    __policy__ = Policy(
        Expose(
            filters=("address", "owner", "x402_enabled", "is_verified", "reputation_score", "claimed"),
            sort=("created_at", "reputation_score", "name", "total_jobs"),
            include=("capabilities", "pricing"),
            key="address",
        ),
        plain=(
            *("address", "owner", "claimed", "name", "description", "x402_enabled"),
            *("x402_payment_address", "x402_total_payments", "is_verified", "reputation_score"),
            *("total_jobs", "success_rate", "metadata_hash", "cached_at"),
        ),
    )
    __table_args__ = (
        Index("ix_agents_owner", "owner"),
        Index("ix_agents_x402_enabled_reputation_score", "x402_enabled", "reputation_score"),
        Index("ix_agents_reputation_score", "reputation_score"),
        Index("ix_agents_x402_payment_address", "x402_payment_address"),
        CheckConstraint("success_rate BETWEEN 0 AND 10000", name="success_rate"),
    )

    address: Mapped[str] = mapped_column(unique=True)  # the agent's account; a ghost's is the wallet it is paid to
    owner: Mapped[str | None]  # wallet; None for a ghost
    claimed: Mapped[bool] = mapped_column(default=False)
    name: Mapped[str | None]
    description: Mapped[str | None]
    x402_enabled: Mapped[bool] = mapped_column(default=False)
    x402_payment_address: Mapped[str | None]  # the wallet it is paid to
    x402_total_payments: Mapped[int] = mapped_column(BigInteger, default=0)  # as the chain keeps it
    is_verified: Mapped[bool] = mapped_column(default=False)
    reputation_score: Mapped[int] = mapped_column(default=0)
    total_jobs: Mapped[int] = mapped_column(default=0)
    success_rate: Mapped[int] = mapped_column(default=0)  # basis points
    metadata_hash: Mapped[str | None]  # IPFS
    cached_at: Mapped[dt.datetime | None]  # when it was last read from the chain

    capabilities: Mapped[list[AgentCapability]] = relationship(back_populates="agent", cascade="all, delete-orphan")
    pricing: Mapped[list[AgentPricing]] = relationship(back_populates="agent", cascade="all, delete-orphan")


class AgentCapability(AgentsModel):
    """One thing an agent says it can do."""

    __tablename__ = "agent_capabilities"
    __policy__ = Policy(
        Expose(filters=("agent_id", "capability"), sort=("capability",)),
        plain=("capability",),
    )
    __table_args__ = (
        UniqueConstraint("agent_id", "capability"),
        Index("ix_agent_capabilities_capability", "capability", "agent_id"),
    )

    agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"))
    capability: Mapped[str]

    agent: Mapped[Agent] = relationship(back_populates="capabilities")


class AgentPricing(AgentsModel):
    """What an agent asks for one call, in one token."""

    __tablename__ = "agent_pricing"
    __policy__ = Policy(
        Expose(filters=("agent_id", "token_mint", "network"), sort=("price",)),
        plain=("network", "token_mint", "token_decimals", "price"),
    )
    __table_args__ = (
        UniqueConstraint("agent_id", "network", "token_mint"),
        Index("ix_agent_pricing_token_mint_price", "token_mint", "price"),
    )

    agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id", ondelete="CASCADE"))
    network: Mapped[str] = mapped_column(default="solana")
    token_mint: Mapped[str]
    token_decimals: Mapped[int]
    price: Mapped[int] = mapped_column(Amount())  # base units a call

    agent: Mapped[Agent] = relationship(back_populates="pricing")


class X402Transaction(AgentsModel):
    """One transaction that has, or tried, at least one x402 payment."""

    __tablename__ = "x402_transactions"
    __policy__ = Policy(
        Expose(
            filters=("signature", "status", "fee_payer", "block_time", "slot"), sort=("block_time",), key="signature"
        ),
        plain=(
            *("signature", "slot", "block_time", "status", "error", "fee_payer", "facilitator", "fee"),
            *("payments",),
        ),
    )
    __table_args__ = (
        Index("ix_x402_transactions_block_time", "block_time"),
        Index("ix_x402_transactions_status_block_time", "status", "block_time"),
        CheckConstraint("status IN ('settled', 'failed')", name="status"),
    )

    signature: Mapped[str] = mapped_column(unique=True)
    slot: Mapped[int | None] = mapped_column(BigInteger)
    block_time: Mapped[dt.datetime | None]
    status: Mapped[str]  # settled | failed
    error: Mapped[str | None]  # the chain's error, as JSON
    fee_payer: Mapped[str]
    facilitator: Mapped[str | None]  # its name, where the fee payer is a known one
    fee: Mapped[int] = mapped_column(BigInteger)  # lamports
    payments: Mapped[int]


class X402Payment(AgentsModel):
    """One x402 payment, or the attempt at one: `status` says which, and only settled ones are revenue."""

    __tablename__ = "x402_payments"
    __policy__ = Policy(
        Expose(
            filters=(
                "signature",
                "agent_address",
                "payer_address",
                "recipient_address",
                "token_mint",
                "status",
                "block_time",
                "amount",
                "facilitator",
                "confidence",
            ),
            sort=("block_time", "amount", "confidence"),
        ),
        Rollup(
            "x402_payments_daily",
            time="block_time",
            by=("token_mint", "agent_address"),
            volume=Sum("amount", where={"status": "settled"}),
            settled=Count(where={"status": "settled"}),
            failed=Count(where={"status": "failed"}),
        ),
        plain=(
            *("signature", "instruction", "inner_instruction", "slot", "block_time", "status"),
            *("agent_address", "payer_address", "recipient_address", "amount", "fee", "token_mint"),
            *("token_decimals", "facilitator", "confidence", "reason", "response_time_ms"),
            *("metadata_hash",),
        ),
    )
    __table_args__ = (
        UniqueConstraint("signature", "instruction", "inner_instruction"),
        Index("ix_x402_payments_agent_address_token_mint_block_time", "agent_address", "token_mint", "block_time"),
        Index("ix_x402_payments_block_time", "block_time"),
        Index("ix_x402_payments_payer_address_block_time", "payer_address", "block_time"),
        Index("ix_x402_payments_token_mint_block_time", "token_mint", "block_time"),
        Index("ix_x402_payments_status_block_time", "status", "block_time"),
        CheckConstraint("status IN ('settled', 'failed')", name="status"),
    )

    signature: Mapped[str]
    instruction: Mapped[int]
    inner_instruction: Mapped[int] = mapped_column(default=TOP_LEVEL)
    slot: Mapped[int | None] = mapped_column(BigInteger)
    block_time: Mapped[dt.datetime | None]
    status: Mapped[str]  # settled | failed
    agent_address: Mapped[str]  # of the agent that is paid there; the recipient itself where none is known
    payer_address: Mapped[str]
    recipient_address: Mapped[str]
    amount: Mapped[int] = mapped_column(Amount())  # gross, base units
    fee: Mapped[int | None] = mapped_column(Amount())  # withheld by the token, base units
    token_mint: Mapped[str]
    token_decimals: Mapped[int | None]
    facilitator: Mapped[str | None]
    confidence: Mapped[float]
    reason: Mapped[str]
    response_time_ms: Mapped[int | None]
    metadata_hash: Mapped[str | None]  # IPFS


class TokenTransfer(AgentsModel):
    """One SPL token transfer instruction, as the transaction asked for it."""

    __tablename__ = "token_transfers"
    __policy__ = Policy(
        Expose(
            filters=("signature", "mint", "successful", "payment", "source_owner", "destination_owner", "slot"),
            sort=("slot",),
        ),
        plain=(
            *("signature", "instruction", "inner_instruction", "batched", "slot", "block_time"),
            *("kind", "mint", "decimals", "amount", "fee", "source", "source_owner", "destination"),
            *("destination_owner", "authority", "successful", "payment", "confidence", "reason"),
        ),
    )
    __table_args__ = (
        UniqueConstraint("signature", "instruction", "inner_instruction", "batched"),
        Index("ix_token_transfers_mint", "mint"),
    )

    signature: Mapped[str]
    instruction: Mapped[int]
    inner_instruction: Mapped[int] = mapped_column(default=TOP_LEVEL)
    batched: Mapped[int] = mapped_column(default=NO_BATCH)
    slot: Mapped[int | None] = mapped_column(BigInteger)
    block_time: Mapped[dt.datetime | None]
    kind: Mapped[str]  # transfer | transferChecked | transferCheckedWithFee
    mint: Mapped[str | None]
    decimals: Mapped[int | None]
    amount: Mapped[int] = mapped_column(Amount())  # gross, base units
    fee: Mapped[int | None] = mapped_column(Amount())  # withheld, base units
    source: Mapped[str]  # token account
    source_owner: Mapped[str | None]
    destination: Mapped[str]  # token account
    destination_owner: Mapped[str | None]
    authority: Mapped[str]
    successful: Mapped[bool]
    payment: Mapped[bool]
    confidence: Mapped[float]
    reason: Mapped[str]
