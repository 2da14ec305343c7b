"""Row security of every table, made from the models' policies: who may do what, and which rows they see of it.

What is there is compared with what the models want, and each difference brings the statements that mend it. The parent
and every partition carry the same policies, for whoever names a partition is asked by the partition's own. See
docs/adr/0016.
"""

# ruff: noqa: S608  statements are made of quoted names and constants; no value is ever formatted in
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Integer, Table, Uuid
from sqlalchemy.ext.asyncio import AsyncConnection

from holdfast.journal.pruning import SLOTS
from holdfast.journal.schema import quoted_schema
from holdfast.model import Model
from holdfast.store.append_only import AppendOnly
from holdfast.store.row_security import APP, BACKUP, DERIVED, OWNER, READONLY, ROLES, SUBJECT_KEYS, TENANT, WORKER

TENANT_POLICY = "holdfast_tenant"
WORKER_POLICY = "holdfast_worker"

_RELATIONS = """
    WITH RECURSIVE tree AS (
        SELECT c.oid, c.oid AS root FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
            AND NOT c.relispartition
            -- What an extension has brought is the extension's to own and to show.
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                AND d.deptype = 'e')
        UNION ALL
        SELECT i.inhrelid, t.root FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
    )
    SELECT c.oid::bigint, c.oid::regclass::text AS quoted, c.relname AS name, r.relname AS root,
        c.relkind::text AS kind, pg_get_userbyid(c.relowner) AS owner, c.relrowsecurity AS secured,
        c.relforcerowsecurity AS forced,
        (SELECT o.relname FROM pg_depend d JOIN pg_class o ON o.oid = d.refobjid WHERE d.objid = c.oid
            AND c.relkind = 'S' AND d.deptype IN ('a', 'i') AND d.classid = 'pg_class'::regclass
            AND d.refclassid = 'pg_class'::regclass) AS used_by
    FROM tree JOIN pg_class c USING (oid) JOIN pg_class r ON r.oid = tree.root
    ORDER BY c.relname
"""
_POLICIES = """
    SELECT p.polrelid::bigint AS oid, p.polname AS name, p.polcmd::text AS command, p.polpermissive AS permissive,
        ARRAY(SELECT CASE WHEN r = 0 THEN 'public' ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) r)
            AS roles,
        pg_get_expr(p.polqual, p.polrelid) AS sees, pg_get_expr(p.polwithcheck, p.polrelid) AS writes
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
"""
_GRANTS = f"""
    SELECT c.oid::bigint, g.grantee, g.privilege, g.attname FROM pg_class c
    CROSS JOIN LATERAL (
        SELECT a.grantee AS oid, a.privilege_type AS privilege, NULL::name AS attname FROM aclexplode(c.relacl) a
        UNION ALL
        SELECT a.grantee, a.privilege_type, t.attname FROM pg_attribute t, aclexplode(t.attacl) a
        WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped
    ) raw
    CROSS JOIN LATERAL (SELECT CASE WHEN raw.oid = 0 THEN 'public' ELSE pg_get_userbyid(raw.oid)::text END AS grantee,
        raw.privilege, raw.attname) g
    WHERE c.relnamespace = current_schema()::regnamespace AND g.grantee = ANY (ARRAY{["public", *ROLES]!r})
"""
_FUNCTIONS = f"""
    SELECT p.oid::regprocedure::text FROM pg_proc p
    WHERE p.pronamespace = current_schema()::regnamespace AND p.proname LIKE 'holdfast\\_%'
        AND pg_get_userbyid(p.proowner) <> '{OWNER}'
"""
_PUBLIC_FUNCTIONS = """
    SELECT p.oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    WHERE p.pronamespace = current_schema()::regnamespace AND p.proname = 'holdfast_emit' AND a.grantee = 0
"""

_EMPTIED = frozenset(f"holdfast_journal_{slot}" for slot in range(SLOTS))
"""Tables that who prunes the journal empties, as workers do."""
_EVERY = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
_ADDS = frozenset({"SELECT", "INSERT"})
_CHANGES = frozenset({"SELECT", "INSERT", "UPDATE"})
_READS = frozenset({"SELECT"})

Privileges = dict[str, frozenset[str]]  # by grantee; `SELECT (column)` where it is one column's


@dataclass(frozen=True)
class Lack:
    """What is not as the models want it.

    Attributes:
        told: a sentence.
        statements: what mends it.
    """

    told: str
    statements: tuple[str, ...]


@dataclass
class Relation:
    """A table, view or sequence of the schema, as the catalogue has it.

    Attributes:
        quoted: its name, as SQL wants it.
        root: the table that it is a partition of, else its own name.
        kind, owner, secured, forced: relkind, who owns it, whether it has policies, and whether they reach its owner.
        used_by: the table whose column a sequence numbers.
        policies: by name: command, permissive, roles, and what they let see and write.
        granted: privileges by grantee.
    """

    quoted: str
    name: str
    root: str
    kind: str
    owner: str
    secured: bool
    forced: bool
    used_by: str | None
    policies: dict[str, Any] = field(default_factory=dict)
    granted: dict[str, set[str]] = field(default_factory=dict)

    @property
    def is_partition(self) -> bool:
        """Whether it is a part of another table."""
        return self.name != self.root


class Known:
    """The tables that models have, and those of figures about their rows."""

    def __init__(self, models: Iterable[type[Model]]) -> None:
        self._models = {str(model.__tablename__): model for model in models}
        self._derived: dict[str, type[Model]] = {
            str(table.name): table.info[DERIVED]
            for metadata in {id(m.metadata): m.metadata for m in self._models.values()}.values()
            for table in metadata.tables.values()
            if DERIVED in table.info
        }

    def model_of(self, relation: Relation) -> type[Model] | None:
        """The model of a table, of a partition of it, or of a sequence that numbers its rows."""
        return self._models.get(relation.used_by or relation.root)

    def wanted(self, relation: Relation) -> Privileges:
        """Who may do what with a relation, by role; nobody else anything."""
        if relation.root == SUBJECT_KEYS:
            # A backup that had the keys would undo erasures, and a row that is deleted would make room for a new key.
            return {WORKER: _CHANGES}
        model, of = self.model_of(relation), self._derived.get(relation.name)
        shows = model is not None and not model.__policy__.internal
        if relation.kind == "S":
            uses = frozenset({"USAGE", "SELECT"})
            return {WORKER: uses, BACKUP: _READS, **({APP: frozenset({"USAGE"})} if shows else {})}
        only_added = None if model is None else model.__policy__.aspect(AppendOnly)
        every = _EVERY if only_added is None else _ADDS
        if model is None and relation.name in _EMPTIED:
            every |= {"TRUNCATE"}
        wanted: Privileges = {WORKER: every if relation.kind in "rpf" else _READS, BACKUP: _READS}
        if of is not None and of.__policy__.is_shared:
            wanted |= {APP: _READS, READONLY: _READS}
        # A partition is reached through its parent alone.
        if model is not None and shows and not relation.is_partition and relation.kind in "rp":
            secret = set(model.__policy__.secret)
            shown = [str(column.name) for column in model.__table__.columns if column.name not in secret]
            wanted[APP] = _READS if only_added is not None and only_added.by_workers else every
            wanted[READONLY] = frozenset(f"SELECT ({name})" for name in shown) if secret else _READS
        return wanted


async def verify(connection: AsyncConnection, models: Iterable[type[Model]]) -> list[str]:
    """What of the row security of `models` is missing or other than it must be, a sentence each."""
    return [lack.told for lack in await lacks(connection, models)]


async def install(connection: AsyncConnection, models: Iterable[type[Model]]) -> None:
    """Mend all of it, in the connection's transaction. The roles are there already."""
    schema = await quoted_schema(connection)
    everybody = ", ".join(ROLES)
    for statement in (f"GRANT USAGE ON SCHEMA {schema} TO {everybody}", f"GRANT CREATE ON SCHEMA {schema} TO {OWNER}"):
        await connection.exec_driver_sql(statement)
    for lack in await lacks(connection, models):
        for statement in lack.statements:
            await connection.exec_driver_sql(statement)


async def lacks(connection: AsyncConnection, models: Iterable[type[Model]]) -> list[Lack]:
    """What is not as `models` want it, with what mends it."""
    known = Known(models)
    quote = connection.dialect.identifier_preparer.quote
    found: list[Lack] = []
    for relation in await relations(connection):
        model = known.model_of(relation)
        if relation.owner != OWNER and relation.used_by is None:
            kind = {"S": "SEQUENCE", "v": "VIEW", "m": "MATERIALIZED VIEW", "f": "FOREIGN TABLE"}.get(
                relation.kind, "TABLE"
            )
            told = f"{relation.name} belongs to {relation.owner}, not to {OWNER}"
            found.append(Lack(told, (f"ALTER {kind} {relation.quoted} OWNER TO {OWNER}",)))
        if model is not None and model.__policy__.tenant is not None:
            found += _policy_lacks(relation, model, quote)
        found += _grant_lacks(relation, known, quote)
    for function in (await connection.exec_driver_sql(_FUNCTIONS)).scalars():
        found.append(Lack(f"{function} does not belong to {OWNER}", (f"ALTER FUNCTION {function} OWNER TO {OWNER}",)))
    for function in (await connection.exec_driver_sql(_PUBLIC_FUNCTIONS)).scalars():
        only = (
            f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC",
            f"GRANT EXECUTE ON FUNCTION {function} TO {APP}, {WORKER}",
        )
        found.append(Lack(f"everybody may put events into the journal by {function}", only))
    return found


async def relations(connection: AsyncConnection) -> list[Relation]:
    """What the schema has, with policies and grants."""
    found: dict[int, Relation] = {}
    rows: list[Any] = list(await connection.exec_driver_sql(_RELATIONS))
    for row in rows:
        found[row[0]] = Relation(*row[1:])
    for policy in await connection.exec_driver_sql(_POLICIES):
        if policy.oid in found:
            found[policy.oid].policies[policy.name] = policy
    for grant in await connection.exec_driver_sql(_GRANTS):
        told = grant.privilege if grant.attname is None else f"{grant.privilege} ({grant.attname})"
        if grant.oid in found:
            found[grant.oid].granted.setdefault(grant.grantee, set()).add(told)
    return list(found.values())


def _policy_lacks(relation: Relation, model: type[Model], quote: Any) -> list[Lack]:
    table = relation.quoted
    found = []
    if not relation.secured:
        found.append(Lack(f"{relation.name} has no row security", (f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",)))
    if not relation.forced:
        told = f"{relation.name} lets its owner past its policies"
        found.append(Lack(told, (f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",)))
    column = quote(model.__policy__.tenant)
    rule = f"{column} = (SELECT {_value(model)} AS tenant)"
    wanted = {
        TENANT_POLICY: (("public",), rule),
        WORKER_POLICY: ((WORKER,), "true"),
    }
    for name, (roles, expression) in wanted.items():
        there = relation.policies.get(name)
        if there is None or not _is(there, roles, expression):
            made = (
                f"DROP POLICY IF EXISTS {name} ON {table}",
                f"CREATE POLICY {name} ON {table} TO {', '.join(roles)} USING ({expression}) WITH CHECK ({expression})",
            )
            found.append(Lack(f"{relation.name} lacks the policy {name}, or has another of that name", made))
    for name in sorted(relation.policies.keys() - wanted.keys()):
        if relation.policies[name].permissive:  # a restrictive one can only take away
            told = f"{relation.name} has a policy {name} that is none of the models'"
            found.append(Lack(told, (f"DROP POLICY {quote(name)} ON {table}",)))
    return found


def _value(model: type[Model]) -> str:
    """The tenant of the transaction, as the column holds it; NULL where it names none, as an empty one does."""
    value = f"nullif(current_setting('{TENANT}', true), '')"
    table: Table = model.__table__  # type: ignore[assignment]
    kind = table.columns[str(model.__policy__.tenant)].type
    if isinstance(kind, Uuid):
        return f"{value}::uuid"
    # Never as varchar(n), which would cut a longer tenant down to another's name.
    return f"{value}::bigint" if isinstance(kind, Integer) else value


def _is(there: Any, roles: Sequence[str], expression: str) -> bool:
    return (
        there.command == "*"
        and there.permissive
        and list(there.roles) == list(roles)
        and _plain(there.sees) == _plain(expression)
        and _plain(there.writes) == _plain(expression)
    )


def _plain(expression: str | None) -> str:
    """An expression without what PostgreSQL adds when it shows one: brackets, blanks, casts of text."""
    return re.sub(r'[\s()"]|::text|::character varying', "", expression or "").lower()


def _grant_lacks(relation: Relation, known: Known, quote: Any) -> list[Lack]:
    wanted = known.wanted(relation)
    what = f"{'SEQUENCE ' if relation.kind == 'S' else ''}{relation.quoted}"
    found = []
    for grantee in ("public", APP, WORKER, READONLY, BACKUP):
        want, has = wanted.get(grantee, frozenset()), relation.granted.get(grantee, set())
        if want == has:
            continue
        statements = []
        if has - want:
            columns = {one.partition(" (")[2].rstrip(")") for one in has if " (" in one}
            statements.append(f"REVOKE ALL ON {what} FROM {grantee}")
            statements += [f"REVOKE ALL ({quote(column)}) ON {what} FROM {grantee}" for column in sorted(columns)]
        whole = sorted(one for one in want if " (" not in one)
        parts = sorted(quote(one.partition(" (")[2].rstrip(")")) for one in want if " (" in one)
        if whole:
            statements.append(f"GRANT {', '.join(whole)} ON {what} TO {grantee}")
        if parts:
            statements.append(f"GRANT SELECT ({', '.join(parts)}) ON {what} TO {grantee}")
        more, less = ", ".join(sorted(has - want)), ", ".join(sorted(want - has))
        told = f"{grantee} may {more} {relation.name}" if more else f"{grantee} may not {less} {relation.name}"
        found.append(Lack(told, tuple(statements)))
    return found
