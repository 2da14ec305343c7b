"""ALTER TABLE and the definitions of columns and constraints."""

from __future__ import annotations

from holdfast.migrate.lint.reader import NO_NAME, Name, Reader, split, written
from holdfast.migrate.lint.sql_types import read_type
from holdfast.migrate.lint.syntax import Action, Alter, Column, Constraint, ConstraintKind, Tokens

_ALTERED = (
    "foreign table", "table", "materialized view", "view", "domain", "schema", "index", "sequence", "database",
    "function", "procedure", "trigger", "role", "user", "system", "extension", "default privileges", "policy",
    "publication", "subscription",
)  # fmt: skip
_WITH_ACTIONS = {"table", "foreign table", "materialized view", "view", "domain", "schema"}
_COLUMN_STOPS = (
    "constraint", "not null", "null", "default", "primary key", "unique", "references", "check", "generated",
    "collate", "deferrable", "not deferrable", "initially", "storage", "compression", "not valid", "autoincrement",
    "on delete", "on update", "match", "as", "virtual", "stored",
)  # fmt: skip
_MANNERS = (
    "enable always trigger", "enable replica trigger", "enable trigger", "disable trigger", "set tablespace",
    "set logged", "set unlogged", "set access method", "set schema", "inherit", "no inherit", "cluster on",
    "set without cluster", "set without oids", "enable row level security", "disable row level security",
    "force row level security", "no force row level security", "replica identity", "owner to", "validate constraint",
    "alter constraint", "enable always rule", "enable replica rule", "enable rule", "disable rule", "not of", "of",
    "set default", "drop default", "set not null", "drop not null", "set", "reset", "options",
)  # fmt: skip


def read_alter(reader: Reader) -> Alter:
    """The record of an ALTER whose first word is taken; of what has no actions only the name."""
    what = reader.accept(*_ALTERED) or reader.next().value
    if reader.accept("all in tablespace"):
        reader.name()
        return Alter(what, NO_NAME, (Action("set tablespace", written(reader.rest())),))
    if_exists = bool(reader.accept("if exists"))
    only = bool(reader.accept("only"))
    name = reader.name()
    actions: list[Action] = []
    if what in _WITH_ACTIONS:
        actions = [_action(Reader(part), part) for part in split(reader.rest())]
    elif what == "index" and reader.accept("set tablespace"):
        actions = [Action("set tablespace", "SET TABLESPACE " + written(reader.rest()))]
    return Alter(what, name, tuple(actions), only, if_exists)


def _action(reader: Reader, tokens: Tokens) -> Action:
    text = written(tokens)
    if reader.accept("add"):
        return _add(reader, text)
    if reader.accept("drop"):
        return _drop(reader, text)
    if reader.accept("alter"):
        if reader.accept("constraint"):
            return Action("alter constraint", text, name=reader.name())
        reader.accept("column")
        return _alter_column(reader, text)
    if reader.accept("rename"):
        return _rename(reader, text)
    if reader.accept("attach partition"):
        return Action("attach partition", text, name=reader.name())
    if reader.accept("detach partition"):
        name = reader.name()
        return Action("detach partition", text, name=name, concurrently=bool(reader.accept("concurrently", "finalize")))
    kind = reader.accept(*_MANNERS)
    if kind is None:
        return Action("unread", text)
    return Action(kind, text, name=reader.name())


def _add(reader: Reader, text: str) -> Action:
    constraint = read_constraint(reader)
    if constraint is not None:
        return Action("add constraint", text, constraint=constraint, name=constraint.name)
    if reader.accept("generated", "value", "attribute"):
        return Action("unread", text)
    reader.accept("column")
    exists = bool(reader.accept("if not exists"))
    if reader.peek().text == "(":
        reader = Reader(reader.group() or ())
    column = read_column(reader)
    if column.name is NO_NAME:
        return Action("unread", text)
    return Action("add column", text, column=column, name=column.name, if_not_exists=exists)


def _drop(reader: Reader, text: str) -> Action:
    if kind := reader.accept("default", "not null", "expression"):
        return Action(f"drop {kind}", text)
    if reader.accept("constraint"):
        reader.accept("if exists")
        return Action("drop constraint", text, name=reader.name(), cascade=bool(reader.accept("cascade")))
    if reader.accept("primary key"):
        return Action("drop primary key", text)
    reader.accept("column")
    reader.accept("if exists")
    name = reader.name()
    return Action(
        "drop column" if name is not NO_NAME else "unread", text, name=name, cascade=bool(reader.accept("cascade"))
    )


def _alter_column(reader: Reader, text: str) -> Action:
    name = reader.name()
    if reader.accept("set data type", "type"):
        kind = read_type(reader)
        if reader.accept("collate"):
            reader.name()
        using = reader.rest() if reader.accept("using") else None
        return Action("alter column type", text, name=name, type=kind, using=using)
    kinds = (
        "set not null", "drop not null", "set default", "drop default", "drop expression", "set expression",
        "set statistics", "set storage", "set compression", "add generated", "drop identity", "set generated",
        "restart", "set", "reset",
    )  # fmt: skip
    found = reader.accept(*kinds)
    return Action(found or "unread", text, name=name, using=reader.rest() if found == "set default" else None)


def _rename(reader: Reader, text: str) -> Action:
    if reader.accept("to"):
        return Action("rename", text, new_name=reader.name())
    what = "constraint" if reader.accept("constraint") else "column"
    if what == "column":
        reader.accept("column", "attribute")
    old = reader.name()
    if not reader.accept("to"):
        return Action("unread", text)
    return Action(f"rename {what}", text, name=old, new_name=reader.name())


def read_constraint(reader: Reader) -> Constraint | None:
    """A table constraint when one comes next, else None and nothing is taken."""
    start = reader.at
    name = NO_NAME
    if reader.accept("constraint"):
        name = reader.name()
    body = reader.at
    kind = reader.accept("check", "foreign key", "unique", "primary key", "exclude", "not null")
    if kind is None or (kind == "unique" and name is NO_NAME and reader.peek().kind == "quoted"):
        reader.at = start
        return None
    columns: tuple[str, ...] = ()
    expression: Tokens = ()
    references = using_index = None
    if reader.accept("using index"):
        using_index = reader.name()
        reader.accept("tablespace")
    elif kind == "not null":
        columns = (reader.name().last,)
    elif kind == "check":
        expression = reader.group() or ()
    else:
        if kind == "exclude" and reader.accept("using"):
            reader.name()
        reader.accept("nulls not distinct", "nulls distinct")
        columns = tuple(Reader(part).name().last for part in split(reader.group() or ()))
    if kind == "foreign key" and reader.accept("references"):
        references = reader.name()
    rest = Reader(reader.rest())
    not_valid = False
    while not rest.done:
        if rest.accept("not valid"):
            not_valid = True
        else:
            rest.next()
    reader.at = body
    text = written(reader.rest())
    return Constraint(
        _kind(kind), name, columns, _without_not_valid(text), expression, references, using_index, not_valid
    )


def _kind(found: str) -> ConstraintKind:
    kinds: dict[str, ConstraintKind] = {
        "check": "check", "foreign key": "foreign key", "unique": "unique", "primary key": "primary key",
        "exclude": "exclude", "not null": "not null",
    }  # fmt: skip
    return kinds[found]


def _without_not_valid(text: str) -> str:
    return text[: -len(" not valid")] if text.lower().endswith(" not valid") else text


def read_column(reader: Reader) -> Column:
    """The column definition that comes next, up to the end; what is not known of it is passed over."""
    name = reader.name()
    kind = read_type(Reader(reader.until(*_COLUMN_STOPS)))
    default: Tokens | None = None
    check: Tokens | None = None
    references: Name | None = None
    not_null = primary = unique = identity = False
    generated = ""
    while not reader.done:
        if reader.accept("not null"):
            not_null = True
        elif reader.accept("default"):
            default = (reader.next(), *reader.until(*_COLUMN_STOPS))
        elif reader.accept("primary key"):
            primary = True
        elif reader.accept("unique"):
            unique = True
        elif reader.accept("references"):
            references = reader.name()
            reader.group()
        elif reader.accept("check"):
            check = reader.group() or ()
        elif reader.accept("generated always as", "generated by default as", "generated by default on null as"):
            if reader.accept("identity"):
                identity = True
                reader.group()
            else:
                reader.group()
                generated = reader.accept("stored", "virtual") or "virtual"
        elif reader.accept("constraint", "collate"):
            reader.name()
        elif reader.accept("on delete", "on update"):
            reader.accept("set null", "set default", "no action", "cascade", "restrict")
            reader.group()
        else:
            reader.next()
    return Column(
        name, kind, default, not_null, primary, unique, references, check, identity,
        "stored" if generated == "stored" else "virtual" if generated else "",
    )  # fmt: skip
