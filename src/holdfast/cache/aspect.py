"""What a model declares for the cache: how long its rows are kept, and the tags that they touch."""

from __future__ import annotations

from typing import Any, ClassVar

from holdfast.cache.options import COLD, HOT, WARM, Options
from holdfast.errors import ModelError
from holdfast.journal.templates import template_fields
from holdfast.model import Aspect, Model


class Tier(Aspect):
    """How `hold.cache[Model]` keeps the rows of the model, and which tags they touch. One of `Hot`, `Warm`, `Cold`.

    A row touches the tag of its table, `notes`, and its own, `notes:<key>`, whether the model declares anything or not.

    Args:
        tags: templates of columns, such as `"user:{user_id}"`; a row in which one is NULL has no such tag. What carries
            such a tag ends when the row changes.
        write_through: read the rows that a unit of this process has written into the cache, once it is committed.
        given: single options in place of the tier's: `ttl="1m"`, `negative_ttl="10s"`.

    Attributes:
        options: how the rows are kept.

    Raises:
        ConfigurationError: an option makes no sense.

    Example::

        class Note(Model):
            __policy__ = Policy(Warm(tags=("user:{user_id}",)))

        @cached(key="titles of {user_id}", tags=("user:{user_id}",))
        async def titles(user_id: UUID) -> list[str]: ...
    """

    preset: ClassVar[Options]

    def __init__(self, *, tags: tuple[str, ...] = (), write_through: bool = False, **given: Any) -> None:
        if isinstance(tags, str):
            raise ModelError(f"{type(self).__name__}(tags={tags!r}) takes several templates; write ({tags!r},)")
        if not isinstance(write_through, bool):
            raise ModelError(f"{type(self).__name__}(write_through={write_through!r}) must be True or False")
        self.tags = tuple(tags)
        self.write_through = write_through
        self.options = self.preset.but(**given)

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` for a tag that is no template of columns, and for a second tier."""
        tiers = model.__policy__.all(Tier)
        if len(tiers) > 1:
            names = " and ".join(type(tier).__name__ for tier in tiers)
            raise ModelError(f"{model.__name__} has {names}: its rows are kept in one way; leave one tier")
        for template in self.tags:
            try:
                template_fields(template)
            except (ValueError, AttributeError) as error:
                raise ModelError(
                    f"{model.__name__}: {template!r} is no template of a tag ({error}); write columns in braces:"
                    " 'user:{user_id}'"
                ) from None

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        """The columns in the templates: capture carries them."""
        return tuple(dict.fromkeys(name for template in self.tags for name in template_fields(template)))


class Hot(Tier):
    """Rows that are kept for five minutes; see `Tier`."""

    preset = HOT


class Warm(Tier):
    """Rows that are kept for half an hour; see `Tier`."""

    preset = WARM


class Cold(Tier):
    """Rows that are kept for a day; see `Tier`."""

    preset = COLD
