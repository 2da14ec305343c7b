"""Every error that Holdfast raises on purpose.

A message says what was wrong, with which value, and what to do. Values that may be secret
(passwords in URLs, key material) never appear in one.
"""


class HoldfastError(Exception):
    """The root: catch this to catch all of them."""


class ConfigurationError(HoldfastError):
    """A setting is missing, malformed or contradicts another."""


class ModelError(HoldfastError):
    """A model or its policy is declared wrongly; raised while the class is made."""


class InvalidValue(HoldfastError, ValueError):
    """A value that its column, or the format it came in, cannot hold."""


class StoreError(HoldfastError):
    """The database could not do what was asked."""


class Unavailable(StoreError):
    """The database cannot be reached, is shutting down, is full or read-only; a later try may work."""


class NotFound(StoreError):
    """No row has the key that was asked for."""


class Conflict(StoreError):
    """The row changed since it was read (its version differs), or a unique key is taken."""


class WrongTenant(StoreError):
    """A row of another tenant, or a tenanted model in a unit that names no tenant."""


class LazyLoad(StoreError):
    """A relationship was read that had not been loaded; the message names the `include` to add."""


class MissingExtra(HoldfastError):
    """An optional dependency is needed; the message names the extra to install."""


class JournalError(HoldfastError):
    """Capture is not whole, a position is of another epoch, or a follower lost its lease."""


class MigrationError(HoldfastError):
    """The schema could not be brought to where the models are."""


class MalformedRecord(HoldfastError, ValueError):
    """A record from outside is not what it should be; it goes to the dead letters with this reason."""
