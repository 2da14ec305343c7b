"""`Consents`: who agreed to what, when, to which text, and until when."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import Any, Generic, Literal, TypeVar, get_args

from sqlalchemy import CheckConstraint, func, select, tuple_
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from holdfast.errors import InvalidValue, ModelError, NotFound
from holdfast.model import Text
from holdfast.model.policy import PLAIN
from holdfast.store import Unit

C = TypeVar("C", bound=Any)

Basis = Literal["consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests"]
"""On what processing rests: the six of article 6 (1) of the GDPR."""

_SUBJECT, _WORDS = 255, 100  # characters


class ConsentColumns:
    """Mixed into the model of the ledger: `class Consent(ConsentColumns, KeyedModel)`, with `Policy(AppendOnly(), …)`.

    A row is what somebody said of one purpose; the last of them holds. None is ever changed.

    Attributes:
        subject: who said it: the key of a user.
        purpose: what for: `newsletter`.
        number: the place among what he said of this purpose, from 1.
        given: that he agreed; False: that he withdrew it.
        basis: as in `Basis`.
        text_hash: SHA-256 of the text that he agreed to, as hexadecimal digits; None of a withdrawal.
        source: where he said it: `web`, `app`, `support`.
        said_at: when.
    """

    subject: Mapped[str] = mapped_column(Text(_SUBJECT), primary_key=True, sort_order=-90)
    purpose: Mapped[str] = mapped_column(Text(_WORDS), primary_key=True, sort_order=-89)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, sort_order=-88)
    given: Mapped[bool] = mapped_column(sort_order=-87, info=PLAIN)
    basis: Mapped[str] = mapped_column(Text(50), sort_order=-86, info=PLAIN)
    text_hash: Mapped[str | None] = mapped_column(Text(64), sort_order=-85, info=PLAIN)
    source: Mapped[str] = mapped_column(Text(_WORDS), sort_order=-84, info=PLAIN)
    said_at: Mapped[dt.datetime] = mapped_column(default=lambda: dt.datetime.now(dt.UTC), sort_order=-83, info=PLAIN)

    @declared_attr.directive
    def __table_args__(cls) -> tuple[CheckConstraint, ...]:
        bases = ", ".join(f"'{basis}'" for basis in get_args(Basis))
        return (
            CheckConstraint(f"basis IN ({bases})", name="basis"),
            CheckConstraint("given = (text_hash IS NOT NULL)", name="text_of_what_was_given"),
        )


def text_hash(text: str) -> str:
    """What tells one text from another: SHA-256 of its UTF-8, as hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


class Consents(Generic[C]):
    """The ledger of consent of a data layer; its methods take a unit for all tenants.

    Two who say something of one purpose of one person at the same time get a `Conflict`, as `hold.run` knows.
    """

    def __init__(self, model: type[C]) -> None:
        self._model = model

    async def give(
        self, unit: Unit, subject: object, purpose: str, *, text: str, source: str, basis: Basis = "consent"
    ) -> C:
        """Note that somebody agreed to a text; where he had agreed to the same on the same basis, that stands.

        Args:
            text: what he was shown, as he was shown it; its hash is kept, so keep the text itself elsewhere.

        Raises:
            InvalidValue: a value cannot be kept; it says which, and what it may be. Conflict: as above.
        """
        if basis not in get_args(Basis):
            raise InvalidValue(
                f"the basis of a consent is one of {', '.join(get_args(Basis))}, not {str(basis)[:60]!r}"
            )
        if not isinstance(text, str) or not text.strip():
            raise InvalidValue("a consent is given to a text: what was shown to who gave it")
        last = await self._last(unit, _checked(subject, "subject", _SUBJECT), _checked(purpose, "purpose", _WORDS))
        shown = text_hash(text)
        if last is not None and last.given and (last.text_hash, last.basis) == (shown, basis):
            return last
        return await self._say(unit, subject, purpose, last, given=True, basis=basis, text_hash=shown, source=source)

    async def withdraw(self, unit: Unit, subject: object, purpose: str, *, source: str) -> C:
        """Note that somebody takes his consent back.

        Raises:
            NotFound: none stands. InvalidValue, Conflict: as of `give`.
        """
        last = await self._last(unit, _checked(subject, "subject", _SUBJECT), _checked(purpose, "purpose", _WORDS))
        if last is None or not last.given:
            raise NotFound(f"{str(subject)!r} has agreed to nothing called {purpose!r} that could be withdrawn")
        return await self._say(
            unit, subject, purpose, last, given=False, basis=last.basis, text_hash=None, source=source
        )

    async def stands(self, unit: Unit, subject: object, purpose: str, *, text: str | None = None) -> bool:
        """Whether somebody agrees now; with `text`, to just this one."""
        last = await self._last(unit, str(subject), purpose)
        return last is not None and last.given and (text is None or last.text_hash == text_hash(text))

    async def standing(self, unit: Unit, subject: object) -> dict[str, C]:
        """What somebody agrees to now, by purpose."""
        model: Any = self._model
        newest = (
            select(model.purpose, func.max(model.number)).where(model.subject == str(subject)).group_by(model.purpose)
        )
        asked = (
            unit[model]
            .query()
            .where(
                model.subject == str(subject), tuple_(model.purpose, model.number).in_(newest), model.given.is_(True)
            )
        )
        return {row.purpose: row for row in await unit[model].list(asked.order_by("purpose"))}

    async def history(self, unit: Unit, subject: object) -> list[C]:
        """Everything that somebody said, by purpose, the first first."""
        model: Any = self._model
        asked = unit[model].query().where(model.subject == str(subject))
        return await unit[model].list(asked.order_by("purpose", "number"))

    async def _last(self, unit: Unit, subject: str, purpose: str) -> C | None:
        model: Any = self._model
        asked = unit[model].query().where(model.subject == subject, model.purpose == purpose)
        found: C | None = await unit[model].first(asked.order_by("-number"))
        return found

    async def _say(self, unit: Unit, subject: object, purpose: str, last: C | None, *, source: str, **said: Any) -> C:
        model: Any = self._model
        row = model(
            subject=str(subject),
            purpose=purpose,
            number=1 if last is None else last.number + 1,
            source=_checked(source, "source", _WORDS),
            **said,
        )
        made: C = await unit[model].add(row)
        return made


def consent_model(models: Iterable[type[Any]]) -> type[Any] | None:
    """The model with `ConsentColumns`; None where there is none. ModelError: there are several."""
    found = [model for model in models if issubclass(model, ConsentColumns)]
    if len(found) > 1:
        raise ModelError(f"one model keeps consents, not {', '.join(model.__name__ for model in found)}")
    return found[0] if found else None


def _checked(value: object, what: str, most: int) -> str:
    text = str(value)
    if not 0 < len(text) <= most or not text.isprintable():
        raise InvalidValue(f"the {what} of a consent is 1 to {most} characters that can be seen, not {text[:60]!r}")
    return text
