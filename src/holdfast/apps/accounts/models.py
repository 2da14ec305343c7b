"""The tables of the accounts app: users, organisations, what they may do, and what they do."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    UniqueConstraint,
    exists,
    or_,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from holdfast.cache import Warm
from holdfast.guard.audit import AuditColumns, Audited, AuditHeadColumns
from holdfast.guard.consent import ConsentColumns
from holdfast.guard.inbox import InboxColumns
from holdfast.guard.keys import TAG, Holders, KeyColumns, KeyUseColumns
from holdfast.guard.keys.columns import Listed
from holdfast.guard.sessions import TAG as SESSION_TAG
from holdfast.guard.sessions import SessionColumns
from holdfast.model import NAMING, KeyedModel, Model, Policy, Text, Timestamps, uuid7
from holdfast.operate.privacy import Mentions, Personal
from holdfast.store import AppendOnly, Monthly

TIERS = ("free", "pro", "enterprise")
ROLES = ("owner", "admin", "member", "viewer")
KEY_ROLES = ("owner", "admin")  # whose keys of an organisation open something, and who may make and revoke them
MAX_API_KEYS = 5  # of an organisation that says nothing else
MAX_REQUESTS_PER_MONTH = 10_000


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


class AccountsModel(Model):
    """The base of these models: with a metadata of their own they are only where they are asked for."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class AccountsKeyedModel(KeyedModel):
    """The base of those that have a key of their own."""

    __abstract__ = True
    metadata = AccountsModel.metadata


class User(Timestamps, AccountsModel):
    """A person, or a wallet: known to an auth provider by `external_id`, or to a chain by `address`, or to both."""

    __tablename__ = "users"
    __policy__ = Policy(
        Warm(tags=("user:{id}",)),
        Audited(subject="id"),
        Personal("id", marks=("external_id", "email", "address", "stripe_customer_id")),
        private=("external_id", "email", "first_name", "last_name", "address", "stripe_customer_id"),
        plain=("chain_id", "tier", "last_login_at", "is_active", "synced_at", "billed_at"),
        internal=True,
    )
    __table_args__ = (
        UniqueConstraint("address", "chain_id"),
        Index("ix_users_tier", "tier"),
        Index("ix_users_created_at", "created_at"),
        _one_of("tier", TIERS),
        CheckConstraint("external_id IS NOT NULL OR address IS NOT NULL", name="known_somewhere"),
        CheckConstraint("(address IS NULL) = (chain_id IS NULL)", name="address_on_a_chain"),
    )

    external_id: Mapped[str | None] = mapped_column(Text(255), unique=True)  # the auth provider's, Clerk's
    email: Mapped[str | None] = mapped_column(Text(255), unique=True)
    first_name: Mapped[str | None] = mapped_column(Text(255))
    last_name: Mapped[str | None] = mapped_column(Text(255))
    address: Mapped[str | None] = mapped_column(Text(255))  # of a wallet
    chain_id: Mapped[int | None] = mapped_column(BigInteger)
    tier: Mapped[str] = mapped_column(Text(50), default="free")
    stripe_customer_id: Mapped[str | None] = mapped_column(Text(255), unique=True)
    last_login_at: Mapped[dt.datetime | None]
    is_active: Mapped[bool] = mapped_column(default=True)
    synced_at: Mapped[dt.datetime | None]  # what the auth provider told last was of then; what is older is ignored
    billed_at: Mapped[dt.datetime | None]  # the same of the payment provider

    profile: Mapped[UserProfile | None] = relationship(back_populates="user", cascade="all, delete-orphan")
    contacts: Mapped[list[Contact]] = relationship(back_populates="user", cascade="all, delete-orphan")


class UserProfile(Timestamps, AccountsModel):
    """What a user shows of himself."""

    __tablename__ = "user_profiles"
    __policy__ = Policy(
        Warm(tags=("user:{user_id}",)),
        Personal("user_id"),
        private=("display_name", "bio", "avatar_url", "preferences"),
        internal=True,
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), unique=True)
    display_name: Mapped[str | None] = mapped_column(Text(255))
    bio: Mapped[str | None]
    avatar_url: Mapped[str | None]
    preferences: Mapped[dict[str, Any]] = mapped_column(Listed, default=dict)

    user: Mapped[User] = relationship(back_populates="profile")


class Contact(Timestamps, AccountsModel):
    """Somebody whom a user knows by an address."""

    __tablename__ = "contacts"
    __policy__ = Policy(
        Warm(tags=("user:{user_id}",)),
        Personal("user_id"),
        private=("name", "address", "note"),
        plain=("chain_id",),
        internal=True,
    )
    __table_args__ = (UniqueConstraint("user_id", "address", "chain_id"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text(255))
    address: Mapped[str] = mapped_column(Text(255))
    chain_id: Mapped[int] = mapped_column(BigInteger)
    note: Mapped[str | None]

    user: Mapped[User] = relationship(back_populates="contacts")


class Organization(Timestamps, AccountsModel):
    """Several users who have keys, limits and a subscription together."""

    __tablename__ = "organizations"
    __policy__ = Policy(
        Warm(tags=("org:{id}",)),
        Audited(tenant="id"),
        plain=(
            *("external_id", "name", "slug", "tier", "stripe_subscription_id"),
            *("max_api_keys", "max_requests_per_month", "is_active", "synced_at", "billed_at"),
        ),
        internal=True,
    )
    __table_args__ = (
        Index("ix_organizations_tier", "tier"),
        _one_of("tier", TIERS),
        CheckConstraint("max_api_keys >= 0", name="max_api_keys"),
        CheckConstraint("max_requests_per_month >= 0", name="max_requests_per_month"),
    )

    external_id: Mapped[str | None] = mapped_column(Text(255), unique=True)  # the auth provider's, Clerk's
    name: Mapped[str] = mapped_column(Text(255))
    slug: Mapped[str | None] = mapped_column(Text(255), unique=True)
    tier: Mapped[str] = mapped_column(Text(50), default="free")
    stripe_subscription_id: Mapped[str | None] = mapped_column(Text(255), unique=True)
    max_api_keys: Mapped[int] = mapped_column(default=MAX_API_KEYS)
    max_requests_per_month: Mapped[int] = mapped_column(BigInteger, default=MAX_REQUESTS_PER_MONTH)
    is_active: Mapped[bool] = mapped_column(default=True)
    synced_at: Mapped[dt.datetime | None]  # as of users
    billed_at: Mapped[dt.datetime | None]


class OrganizationMember(AccountsModel):
    """That a user belongs to an organisation, and what he may do there."""

    __tablename__ = "organization_members"
    __policy__ = Policy(
        Warm(tags=("org:{org_id}", "user:{user_id}", "member:{org_id}:{user_id}")),
        Audited(subject="user_id"),
        Personal("user_id"),
        tenant="org_id",
        plain=("role", "joined_at", "synced_at"),
    )
    __table_args__ = (
        UniqueConstraint("org_id", "user_id"),
        # What refers to a user is looked for when he goes.
        Index("ix_organization_members_user_id_org_id", "user_id", "org_id", unique=True),
        _one_of("role", ROLES),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(Text(50), default="member")
    joined_at: Mapped[dt.datetime] = mapped_column(default=lambda: dt.datetime.now(dt.UTC))
    synced_at: Mapped[dt.datetime | None]  # as of users


def may_have_keys(user_id: Any, org_id: Any) -> ColumnElement[bool]:
    """Whether a user may have keys of an organisation, in SQL; true without one."""
    member = OrganizationMember
    belongs = exists().where(member.org_id == org_id, member.user_id == user_id, member.role.in_(KEY_ROLES))
    return or_(org_id.is_(None), belongs)


class ApiKey(KeyColumns, AccountsModel):
    """A key by which a program acts for a user, or for an organisation, as long as its user is of those who may."""

    __tablename__ = "api_keys"
    __policy__ = Policy(
        Warm(tags=(TAG, "user:{user_id}", "org:{org_id}")),
        Audited(tenant="org_id", subject="user_id"),
        Personal("user_id"),
        secret=("lookup", "pepper", "slow"),
        internal=True,
    )
    __table_args__ = (
        ForeignKeyConstraint(("user_id",), ("users.id",), ondelete="CASCADE"),
        ForeignKeyConstraint(("org_id",), ("organizations.id",), ondelete="CASCADE"),
    )

    holders = Holders("its owners and admins", may_have_keys, ("member:{org_id}:{user_id}",))


class ApiKeyUse(KeyUseColumns, AccountsKeyedModel):
    """How often a key was used, and when last."""

    __tablename__ = "api_key_uses"
    __policy__ = Policy(capture=False, internal=True)
    __table_args__ = (ForeignKeyConstraint(("key_id",), ("api_keys.id",), ondelete="CASCADE"),)


class UsageLog(AccountsKeyedModel):
    """A request that was answered, for bills and figures; a partition a month on PostgreSQL."""

    __tablename__ = "usage_logs"
    __policy__ = Policy(
        Monthly("created_at", ahead=12),
        Personal("user_id", erase="blank", because="what was used adds up in figures and bills, of nobody then"),
        private=("error_message", "request_metadata"),
        plain=("endpoint", "method", "symbol", "status_code", "response_time_ms"),
        internal=True,
    )
    __table_args__ = (
        Index("ix_usage_logs_user_id_created_at", "user_id", "created_at"),
        Index("ix_usage_logs_org_id_created_at", "org_id", "created_at"),
        Index("ix_usage_logs_api_key_id", "api_key_id"),
        Index("ix_usage_logs_created_at", "created_at"),
        Index("ix_usage_logs_endpoint", "endpoint"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)  # type: ignore[assignment]
    created_at: Mapped[dt.datetime] = mapped_column(primary_key=True, default=lambda: dt.datetime.now(dt.UTC))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="SET NULL"))
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id", ondelete="SET NULL"))
    endpoint: Mapped[str] = mapped_column(Text(255))
    method: Mapped[str] = mapped_column(Text(10))
    symbol: Mapped[str | None] = mapped_column(Text(50))  # of a token, where the request is about one
    status_code: Mapped[int]
    response_time_ms: Mapped[int | None]
    error_message: Mapped[str | None]
    request_metadata: Mapped[dict[str, Any] | None] = mapped_column(Listed)


class BillingEvent(AccountsModel):
    """What the payment provider told of a subscription or a payment."""

    __tablename__ = "billing_events"
    __policy__ = Policy(
        Personal("user_id", erase="blank", because="books are kept for as long as tax law says"),
        private=("details",),
        plain=("event_type", "stripe_event_id", "amount_cents", "currency", "status", "created_at", "processed_at"),
        internal=True,
    )
    __table_args__ = (
        Index("ix_billing_events_user_id", "user_id"),
        Index("ix_billing_events_org_id", "org_id"),
        Index("ix_billing_events_created_at", "created_at"),
        _one_of("status", ("pending", "completed", "failed")),
    )

    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id", ondelete="SET NULL"))
    event_type: Mapped[str] = mapped_column(Text(50))
    stripe_event_id: Mapped[str | None] = mapped_column(Text(255), unique=True)
    amount_cents: Mapped[int | None] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text(3), default="USD")
    status: Mapped[str] = mapped_column(Text(50), default="pending")
    details: Mapped[dict[str, Any] | None] = mapped_column(Listed)
    created_at: Mapped[dt.datetime] = mapped_column(default=lambda: dt.datetime.now(dt.UTC))
    processed_at: Mapped[dt.datetime | None]


class Session(SessionColumns, AccountsModel):
    """That a user is signed in."""

    __tablename__ = "sessions"
    __policy__ = Policy(
        Warm(tags=(SESSION_TAG, "user:{user_id}")),
        Audited(subject="user_id", called={"insert": "login"}),
        Personal("user_id"),
        secret=("lookup", "pepper"),
        private=("details",),
        internal=True,
    )
    __table_args__ = (ForeignKeyConstraint(("user_id",), ("users.id",), ondelete="CASCADE"),)


class WebhookEvent(InboxColumns, AccountsModel):
    """What a provider told us by a webhook: kept once, and applied by a handler."""

    __tablename__ = "webhook_events"
    __policy__ = Policy(Mentions("payload"), private=("payload",), internal=True)
    __table_args__ = (
        UniqueConstraint("source", "event_id"),
        Index("ix_webhook_events_received_at", "received_at"),
    )


class AuditLog(AuditColumns, AccountsKeyedModel):
    """The audit trail: what is on record; of PostgreSQL's roles the application's adds to it, and changes nothing."""

    __tablename__ = "audit_logs"
    __policy__ = Policy(AppendOnly(by_workers=True), tenant="tenant", plain=("id",), capture=False)

    id: Mapped[UUID] = mapped_column(default=uuid7, sort_order=-88)  # type: ignore[assignment]


class AuditHead(AuditHeadColumns, AccountsKeyedModel):
    """The ends of the chains of the audit trail."""

    __tablename__ = "audit_heads"
    __policy__ = Policy(internal=True, capture=False)


class Consent(ConsentColumns, AccountsKeyedModel):
    """What users agreed to, and took back; kept when they are gone, as evidence."""

    __tablename__ = "consents"
    __policy__ = Policy(
        Audited(subject="subject"),
        AppendOnly(),
        Personal("subject", erase="keep", because="it is the evidence that somebody agreed, and when he took it back"),
        internal=True,
    )
