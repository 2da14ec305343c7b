"""The databases that tests run on, and the settings that each wants."""

from typing import Any

from holdfast.settings import Settings

BACKENDS = ("sqlite", "postgres")
EVERY_BACKEND = (*BACKENDS, "sqld", "pgbouncer")
"""For the store and the journal, on which the rooms above stand: also libSQL over HTTP, and behind a pooler."""

POOLED = "application_name=pooled"
"""What tells the URL of a database behind pgbouncer, also to a process that is given nothing else."""


def settings_for(url: str, **overrides: Any) -> Settings:
    """Settings that come from nowhere else, so that the environment of whoever runs the tests has no part."""
    if POOLED in url:
        overrides = {"pooler": "transaction", **overrides}
    return Settings.from_environment({}, database_url=url, **overrides)
