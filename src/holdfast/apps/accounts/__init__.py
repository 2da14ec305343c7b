"""Users, organisations, and the keys by which programs act for them."""

# They declare what is kept warm, what is forgotten, and what applies webhooks.
from holdfast.apps.accounts import asked, retention, webhooks
from holdfast.apps.accounts.models import (
    AccountsModel,
    ApiKey,
    ApiKeyUse,
    AuditHead,
    AuditLog,
    BillingEvent,
    Consent,
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
    "AuditHead",
    "AuditLog",
    "BillingEvent",
    "Consent",
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
    "retention",
    "webhooks",
]
