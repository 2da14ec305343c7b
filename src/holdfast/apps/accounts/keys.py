"""What is kept of users, and for them, and for how long."""

from __future__ import annotations

from holdfast.cache import Key
from holdfast.upstreams.quotes import Analysis, ProviderSession, Quote

USER = Key(
    "accounts.user",
    "accounts:user:{user_id}",
    ttl="5m",
    tags=("user:{user_id}",),
    about="a user with profile",
)
# By the session's own number: a token has no business in a key, which Redis shows to whoever looks at it.
SESSION = Key(
    "accounts.session",
    "accounts:session:{session_id}",
    ttl="1h",
    tags=("session:{session_id}",),
    about="what the auth provider says of a session",
    kind=ProviderSession | None,
)
PRICE = Key(
    "accounts.price",
    "accounts:price:{symbol}:{currency}",
    ttl="60s",
    tags=("price:{symbol}",),
    about="what a token costs",
    kind=Quote | None,
)
ANALYSIS = Key(
    "accounts.analysis",
    "accounts:analysis:{symbol}:{horizon}",
    ttl="5m",
    tags=("analysis:{symbol}",),
    about="a market analysis of a token for a horizon",
    kind=Analysis | None,
)
