"""What a model declares for the cache: how long its rows are kept, and the tags that they touch."""

from __future__ import annotations

from typing import Any, ClassVar

from holdfast.cache import tags as tagging
from holdfast.cache.options import COLD, HOT, WARM, Options
from holdfast.errors import ConfigurationError, ModelError
from holdfast.model import Aspect, Model


class Tier(Aspect):
    """Rows of the model are kept by `hold.cache[Model]`, and end what carries their tags when they change.

    A row touches the tag of its table, `notes`, and its own, `notes:<key>`, whether the model declares anything or not.

    Args:
        tags: templates of columns, such as `"user:{user_id}"`; a row in which one is NULL has no such tag.
        given: options that the tier has otherwise, such as `ttl="1m"`.

    Example::

        class Note(Model):
            __policy__ = Policy(Warm(tags=("user:{user_id}",)))

        @cached(key="titles of {user_id}", tags=("user:{user_id}",))
        async def titles(user_id: UUID) -> list[str]: ...
    """

    preset: ClassVar[Options]

    def __init__(self, *, tags: tuple[str, ...] = (), **given: Any) -> None:
        name = type(self).__name__
        if isinstance(tags, str):
            raise ModelError(f"{name}(tags={tags!r}) takes several templates; write ({tags!r},)")
        try:
            self.options = self.preset.but(**given)
        except ConfigurationError as error:
            raise ModelError(f"{name}(…): {error}") from None
        self.tags = tuple(tags)

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` for a tag that is no template of columns, or a second tier."""
        if len(model.__policy__.all(Tier)) > 1:
            raise ModelError(f"{model.__name__}: a model is in one tier, Hot, Warm or Cold")
        for template in self.tags:
            try:
                tagging.template_fields(template)
            except (ValueError, AttributeError) as error:
                raise ModelError(
                    f"{model.__name__}: {template!r} is no template of a tag ({error}); write columns in braces:"
                    " 'user:{user_id}'"
                ) from None

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        """The columns in the templates: capture carries them."""
        return tuple(dict.fromkeys(name for template in self.tags for name in tagging.template_fields(template)))


class Hot(Tier):
    """Kept for five minutes; see `Tier`."""

    preset = HOT


class Warm(Tier):
    """Kept for half an hour; see `Tier`."""

    preset = WARM


class Cold(Tier):
    """Kept for a day; see `Tier`."""

    preset = COLD
