"""What a model declares beside its columns: a policy made of aspects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from holdfast.errors import ModelError
from holdfast.model.encrypted import refuse_encrypted

if TYPE_CHECKING:
    from holdfast.model.base import Model

A = TypeVar("A", bound="Aspect")

PLAIN: dict[Any, Any] = {"holdfast.plain": True}
"""`info` of a column that says of itself that it holds nothing about a person; mixins of the library use it."""


class Aspect:
    """One declared behaviour. Subclass it in the package that implements the behaviour.

    Attributes:
        refuses_truncate: whether what it follows must come one by one: TRUNCATE of the table is refused then.

    A worked example, a fact that a follower of the journal wants with every change::

        class Announced(Aspect):
            def __init__(self, column: str) -> None:
                self.column = column

            def check(self, model: type[Model]) -> None:
                require_columns(model, (self.column,), "Announced(column=…)")

            def needs(self, model: type[Model]) -> tuple[str, ...]:
                return (self.column,)
    """

    refuses_truncate: ClassVar[bool] = False

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` when `model` cannot carry this aspect; called while the class is made."""

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        """The columns whose old and new values capture must put into the journal."""
        return ()


class Policy:
    """The policy of one model.

    Args:
        aspects: declared behaviours, at most one of a kind unless the aspect says otherwise.
        tenant: the column that says whose row it is; makes keys and constraints tenanted.
        internal: whether its rows are no tenant's business, as keys and users: only units for all tenants, opened
            with `tenant=ALL`, may touch them. Without a tenant and not internal, rows are shared by all tenants.
        private: columns about a person; `Expose` shows them only where it names them.
        secret: columns that `Expose` never shows.
        plain: columns that say nothing about a person. `holdfast privacy check` wants every column to be in one of the
            three, but for keys, the tenant and those of the library's mixins.
        capture: whether committed writes land in the journal. Everything that follows the journal needs it.
        truncate: False refuses TRUNCATE on PostgreSQL (synced and audited models).
    """

    def __init__(
        self,
        *aspects: Aspect,
        tenant: str | None = None,
        internal: bool = False,
        private: tuple[str, ...] = (),
        secret: tuple[str, ...] = (),
        plain: tuple[str, ...] = (),
        capture: bool = True,
        truncate: bool = True,
    ) -> None:
        for aspect in aspects:
            if not isinstance(aspect, Aspect):
                raise ModelError(f"Policy(…) takes aspects, not {aspect!r}; write Expose(…), Rollup(…), …")
        for name, value in (("private", private), ("secret", secret), ("plain", plain)):
            if isinstance(value, str):
                raise ModelError(f"Policy({name}=…) takes a tuple of column names: write {name}=({value!r},)")
        if internal and tenant is not None:
            raise ModelError(
                f"Policy(tenant={tenant!r}, internal=True): rows of a tenant are not internal; leave out one"
            )
        self.aspects = aspects
        self.tenant = tenant
        self.internal = internal
        self.private = tuple(private)
        self.secret = tuple(secret)
        self.plain = tuple(plain)
        self.capture = capture
        self.truncate = truncate and not any(aspect.refuses_truncate for aspect in aspects)

    @property
    def is_shared(self) -> bool:
        """Whether every unit may touch every row: the model has no tenant, and is not internal."""
        return self.tenant is None and not self.internal

    def aspect(self, kind: type[A]) -> A | None:
        """The aspect of this kind, or None."""
        return next((a for a in self.aspects if isinstance(a, kind)), None)

    def all(self, kind: type[A]) -> tuple[A, ...]:
        """Every aspect of this kind, as declared."""
        return tuple(a for a in self.aspects if isinstance(a, kind))

    def check(self, model: type[Model]) -> None:
        """Raise `ModelError` for a column that is not there, or what an aspect refuses."""
        if self.tenant is not None:
            require_columns(model, (self.tenant,), "Policy(tenant=…)")
        require_columns(model, self.private, "Policy(private=…)")
        require_columns(model, self.secret, "Policy(secret=…)")
        require_columns(model, self.plain, "Policy(plain=…)")
        if twice := {*self.private, *self.secret}.intersection(self.plain):
            raise ModelError(
                f"{model.__name__}: Policy(plain=…) names {min(twice)!r}, which is private or secret; leave one"
            )
        for aspect in self.aspects:
            aspect.check(model)
            needed = aspect.needs(model)
            require_columns(model, needed, type(aspect).__name__)
            refuse_encrypted(model, needed, f"{type(aspect).__name__}, whose facts the journal carries,")
            if needed and not self.capture:
                raise ModelError(
                    f"{model.__name__}: {type(aspect).__name__} follows the journal, but Policy(capture=False)"
                    " keeps the model out of it; remove one of the two"
                )

    def needs(self, model: type[Model]) -> tuple[str, ...]:
        """The columns that capture carries as facts: what the aspects need, each once, in table order."""
        wanted = {name for aspect in self.aspects for name in aspect.needs(model)}
        return tuple(c.name for c in model.__table__.columns if c.name in wanted)


def require_columns(model: type[Any], names: tuple[str, ...], where: str) -> None:
    """Raise `ModelError` naming the first of `names` that `model` has no column for."""
    columns = model.__table__.columns
    for name in names:
        if name not in columns:
            raise ModelError(
                f"{model.__name__}: {where} names the column {name!r}, which {model.__tablename__} does not have;"
                f" it has {', '.join(columns.keys())}"
            )
