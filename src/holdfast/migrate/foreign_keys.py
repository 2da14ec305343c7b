"""A foreign key that is added, or put in another's place, while others write; to tables in partitions too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.autogenerate.render import renderers
from alembic.operations import Operations, ops

from holdfast.migrate.operations import SteppedOp, partitions_of
from holdfast.migrate.steps import Step, of_partition

_THERE = "SELECT count(*) > 0 FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2"
_VALID = "SELECT convalidated FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2"
_GONE = "SELECT count(*) = 0 FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2"
_OPTIONS = ("ondelete", "onupdate", "deferrable", "initially")


@Operations.register_operation("add_foreign_key")
class AddForeignKeyOp(SteppedOp):
    """A foreign key whose rows are looked at while others write.

    Attributes:
        options: `ondelete`, `onupdate`, `deferrable`, `initially`, those that are given.
        replaced: the key of the same name that it takes the place of.
    """

    directive = "add_foreign_key"

    def __init__(
        self,
        constraint_name: str,
        table_name: str,
        referred: str,
        columns: Sequence[str],
        referred_columns: Sequence[str],
        options: dict[str, Any],
        *,
        replaced: AddForeignKeyOp | None = None,
        replaces: bool = False,
    ) -> None:
        self.constraint_name = constraint_name
        self.table_name = table_name
        self.referred = referred
        self.columns = list(columns)
        self.referred_columns = list(referred_columns)
        self.options = {name: options[name] for name in _OPTIONS if options.get(name)}
        self.replaced = replaced
        self.replaces = replaces or replaced is not None

    @classmethod
    def of(cls, found: ops.CreateForeignKeyOp, *, replaced: AddForeignKeyOp | None = None) -> AddForeignKeyOp:
        """What does in steps what `found` does."""
        name, tables = str(found.constraint_name), (str(found.source_table), str(found.referent_table))
        return cls(name, *tables, found.local_cols, found.remote_cols, found.kw, replaced=replaced)

    @classmethod
    def add_foreign_key(
        cls,
        operations: Operations,
        name: str,
        table: str,
        referred: str,
        columns: Sequence[str],
        referred_columns: Sequence[str],
        *,
        replace: bool = False,
        **options: Any,
    ) -> None:
        """Add a foreign key to `table`; with `replace` in the place of the one of this name, which holds until then.

        `options` are `ondelete`, `onupdate`, `deferrable`, `initially`.
        """
        operations.invoke(cls(str(name), table, referred, columns, referred_columns, options, replaces=replace))

    def reverse(self) -> ops.MigrateOperation:
        if self.replaced is not None:
            other = self.replaced
            given = (other.constraint_name, other.table_name, other.referred, other.columns, other.referred_columns)
            return AddForeignKeyOp(*given, other.options, replaced=self)
        return ops.DropConstraintOp(self.constraint_name, self.table_name, "foreignkey")

    def rendered(self) -> str:
        """The call in a migration."""
        given = [self.constraint_name, self.table_name, self.referred, self.columns, self.referred_columns]
        said = [repr(value) for value in given] + [f"{name}={value!r}" for name, value in self.options.items()]
        return f"op.add_foreign_key({', '.join(said)}{', replace=True' if self.replaces else ''})"

    def steps(self, operations: Operations) -> list[Step]:
        quote = operations.impl.dialect.identifier_preparer.quote
        # Done again from the start it comes to the same: the key that is then replaced is the new one.
        name = f"{self.constraint_name[:58]}_next" if self.replaces else self.constraint_name
        partitions = partitions_of(operations, self.table_name)
        steps = []
        # PostgreSQL adds none to the whole without a look at the rows, unless each partition has it already.
        for table, key in [(part, of_partition(part, name)) for part in partitions or ()] or [(self.table_name, name)]:
            steps += self._added(quote(table), key, quote)
        table = quote(self.table_name)
        if partitions:
            steps.append(Step(f"ALTER TABLE {table} ADD {self._key(name, quote)}", done=[(_THERE, (table, name))]))
        if self.replaces:
            steps += self._renamed(name, partitions or (), quote)
        return steps

    def _added(self, table: str, name: str, quote: Any) -> list[Step]:
        add = f"ALTER TABLE {table} ADD {self._key(name, quote)} NOT VALID"
        validate = f"ALTER TABLE {table} VALIDATE CONSTRAINT {quote(name)}"
        return [
            Step(add, done=[(_THERE, (table, name))]),
            Step(validate, done=[(_VALID, (table, name))], long=True),
        ]

    def _renamed(self, name: str, partitions: Sequence[str], quote: Any) -> list[Step]:
        table, wanted = quote(self.table_name), self.constraint_name
        steps = [Step(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {quote(wanted)}", done=[(_GONE, (table, name))])]
        for of, old, new in [
            *((part, of_partition(part, name), of_partition(part, wanted)) for part in partitions),
            (self.table_name, name, wanted),
        ]:
            renamed = f"ALTER TABLE {quote(of)} RENAME CONSTRAINT {quote(old)} TO {quote(new)}"
            steps.append(Step(renamed, done=[(_GONE, (quote(of), old))]))
        return steps

    def _key(self, name: str, quote: Any) -> str:
        columns, referred = (", ".join(map(quote, some)) for some in (self.columns, self.referred_columns))
        text = f"CONSTRAINT {quote(name)} FOREIGN KEY ({columns}) REFERENCES {quote(self.referred)} ({referred})"
        for word in ("ondelete", "onupdate"):
            text += f" ON {word[2:].upper()} {self.options[word]}" if word in self.options else ""
        text += " DEFERRABLE" if self.options.get("deferrable") else ""
        return text + (f" INITIALLY {self.options['initially']}" if "initially" in self.options else "")

    def at_once(self, operations: Operations) -> None:
        with operations.batch_alter_table(self.table_name) as batch:
            name = batch.f(self.constraint_name)
            if self.replaces:
                batch.drop_constraint(name, type_="foreignkey")
            batch.create_foreign_key(name, self.referred, self.columns, self.referred_columns, **self.options)


@renderers.dispatch_for(AddForeignKeyOp)
def _render(context: Any, operation: AddForeignKeyOp) -> str:
    return operation.rendered()
