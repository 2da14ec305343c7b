"""Users, organisations, and the keys by which programs act for them."""

from holdfast.apps.accounts import asked, webhooks  # declare what is kept warm, and the handler that applies webhooks
from holdfast.apps.accounts.models import (
    AccountsModel,
    ApiKey,
    ApiKeyUse,
    BillingEvent,
    Contact,
    Organization,
    OrganizationMember,
    Session,
    UsageLog,
    User,
    UserProfile,
    WebhookEvent,
)

metadata = AccountsModel.metadata
"""What to open a `Holdfast` with: `Holdfast.open(metadata=accounts.metadata)`, or `(Model.metadata, …)`."""

__all__ = [
    "AccountsModel",
    "ApiKey",
    "ApiKeyUse",
    "BillingEvent",
    "Contact",
    "Organization",
    "OrganizationMember",
    "Session",
    "UsageLog",
    "User",
    "UserProfile",
    "WebhookEvent",
    "asked",
    "metadata",
    "webhooks",
]
