"""The PostgreSQL engine: asyncpg, with nothing kept in the session, so that any pooler may stand between."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from holdfast.errors import MissingExtra
from holdfast.settings import Settings


def create_engine(url: URL, settings: Settings) -> AsyncEngine:
    """The engine for `url`.

    Raises:
        MissingExtra: asyncpg is not installed.
    """
    try:
        import asyncpg  # noqa: F401
    except ImportError:
        raise MissingExtra("PostgreSQL needs asyncpg: pip install 'holdfast[postgres]'") from None
    arguments: dict[str, Any] = {"timeout": settings.connect_timeout}
    options: dict[str, Any] = {}
    if settings.pooler == "transaction":
        # Prepared statements belong to a server connection, which the pooler changes under us.
        arguments |= {"statement_cache_size": 0, "prepared_statement_name_func": lambda: f"__holdfast_{uuid4()}__"}
        options["prepared_statement_cache_size"] = "0"
        url = url.update_query_dict(options)
    return create_async_engine(
        url,
        pool_size=settings.pool_size,
        max_overflow=max(0, settings.pool_max - settings.pool_size),
        pool_timeout=settings.pool_timeout,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=arguments,
    )
