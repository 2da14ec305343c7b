"""What a model declares for the cache: the tags that its rows touch."""

from __future__ import annotations

from holdfast.errors import ModelError
from holdfast.journal.templates import template_fields
from holdfast.model import Aspect, Model


class Warm(Aspect):
    """Rows of the model end what carries their tags when they change.

    A row touches the tag of its table, `notes`, and its own, `notes:<key>`, whether the model declares anything or not.

    Args:
        tags: templates of columns, such as `"user:{user_id}"`; a row in which one is NULL has no such tag.

    Example::

        class Note(Model):
            __policy__ = Policy(Warm(tags=("user:{user_id}",)))

        @cached(key="titles of {user_id}", tags=("user:{user_id}",))
        async def titles(user_id: UUID) -> list[str]: ...
    """

    def __init__(self, *, tags: tuple[str, ...]) -> None:
        if isinstance(tags, str):
            raise ModelError(f"Warm(tags={tags!r}) takes several templates; write ({tags!r},)")
        self.tags = tuple(tags)

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` for a tag that is no template of columns."""
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
