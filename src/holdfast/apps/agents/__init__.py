"""A registry of on-chain agents, and the x402 payments made to them."""

from holdfast.apps.agents.models import (
    Agent,
    AgentCapability,
    AgentPricing,
    TokenTransfer,
    X402Payment,
    X402Transaction,
)

__all__ = ["Agent", "AgentCapability", "AgentPricing", "TokenTransfer", "X402Payment", "X402Transaction"]
