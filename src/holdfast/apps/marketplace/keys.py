"""What is kept of services and prices, and for how long; users and sessions are those of the accounts."""

from __future__ import annotations

from holdfast.cache import Key
from holdfast.upstreams.quotes import Quote

SERVICE = Key(
    "marketplace.service",
    "marketplace:service:{service_id}",
    ttl="1m",
    tags=("service:{service_id}",),
    about="a service as it is shown",
)
SERVICES = Key(
    "marketplace.services",
    "marketplace:services:{category}:{page}",
    ttl="1m",
    tags=("category:{category}", "services"),
    about="a page of the services of a category",
)
PRICE = Key(
    "marketplace.price",
    "marketplace:price:{symbol}:{currency}",
    ttl="10s",
    tags=("price:{symbol}",),
    about="what a token costs, for who is about to pay",
    kind=Quote | None,
)
PORTFOLIO = Key(
    "marketplace.portfolio",
    "marketplace:portfolio:{wallet}",
    ttl="30s",
    tags=("wallet:{wallet}",),
    about="what a wallet holds",
)
TOOL_SCHEMA = Key(
    "marketplace.tool_schema",
    "marketplace:tool-schema:{tool_id}",
    ttl="1d",
    tags=("tool:{tool_id}",),
    about="the arguments that a tool takes",
)
