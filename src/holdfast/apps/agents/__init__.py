"""A registry of on-chain agents, and the x402 payments made to them."""

from holdfast.apps.agents.models import (
    Agent,
    AgentCapability,
    AgentPricing,
    AgentsModel,
    TokenTransfer,
    X402Payment,
    X402Transaction,
)

metadata = AgentsModel.metadata
"""What to open a `Holdfast` with: `Holdfast.open(metadata=agents.metadata)`, or `(Model.metadata, agents.metadata)`."""

__all__ = [
    "Agent",
    "AgentCapability",
    "AgentPricing",
    "AgentsModel",
    "TokenTransfer",
    "X402Payment",
    "X402Transaction",
    "metadata",
]
