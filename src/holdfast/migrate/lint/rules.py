"""Which rule is asked about which statement on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from holdfast.migrate.lint import (
    rules_columns,
    rules_constraints,
    rules_data,
    rules_indexes,
    rules_partitions,
    rules_tables,
    rules_transactions,
)
from holdfast.migrate.lint.finding import Problem
from holdfast.migrate.lint.our_words import in_our_words
from holdfast.migrate.lint.situation import Situation
from holdfast.migrate.lint.syntax import (
    Action,
    Alter,
    Control,
    CreateIndex,
    CreateTable,
    Drop,
    Maintain,
    Record,
    Rename,
    Write,
)

ActionRule = Callable[[Alter, Action, Situation], Iterator[Problem]]
MaintainRule = Callable[[Maintain, Situation], Iterator[Problem]]

TABLE_ACTIONS: Mapping[str, ActionRule] = {
    "add column": rules_columns.add_column,
    "set not null": rules_columns.set_not_null,
    "alter column type": rules_columns.alter_column_type,
    "drop column": rules_columns.drop_column,
    "rename column": rules_columns.rename_column,
    "set expression": rules_columns.set_expression,
    "add constraint": rules_constraints.add_constraint,
    "validate constraint": rules_constraints.validate_constraint,
    "drop constraint": rules_constraints.drop_constraint,
    "drop primary key": rules_constraints.drop_constraint,
    "rename": rules_tables.rename,
    "set schema": rules_tables.set_schema,
    "set tablespace": rules_tables.rewrite,
    "set logged": rules_tables.rewrite,
    "set unlogged": rules_tables.rewrite,
    "set access method": rules_tables.rewrite,
    "disable trigger": rules_tables.disable_trigger,
    "attach partition": rules_partitions.attach,
    "detach partition": rules_partitions.detach,
}
DOMAIN_ACTIONS: Mapping[str, ActionRule] = {
    "add constraint": rules_constraints.domain_constraint,
    "set not null": rules_constraints.domain_constraint,
}
MAINTENANCE: Mapping[str, MaintainRule] = {
    "reindex": rules_indexes.reindex,
    "refresh": rules_indexes.refresh,
    "truncate": rules_tables.truncate,
    "vacuum": rules_tables.vacuum,
    "cluster": rules_tables.vacuum,
    "lock": rules_tables.lock,
}
_RULE_NAMES = """
add-check-constraint add-column-auto-increment add-column-check add-column-default-dropped
add-column-foreign-key add-column-not-constant add-column-not-null add-column-stored-generated
add-column-unique add-column-volatile-default add-exclusion-constraint add-foreign-key add-primary-key
add-unique-constraint alter-column-type alter-domain-constraint attach-partition bad-suppression cluster
concurrently-in-transaction create-index delete-all-rows detach-partition disable-trigger drop-cascade
drop-column drop-database drop-index drop-owned drop-primary-key drop-schema drop-table drop-view
enum-value-in-transaction json-column lock-table lock-taken migration-not-rendered needs-steps nested-transaction
not-null-before-deployment pragma-in-transaction primary-key-on-nullable rebuild-with-foreign-keys
refresh-materialized-view reindex
rename-attribute rename-column rename-enum-value rename-schema rename-table rename-type rename-view set-access-method
set-expression set-logged set-not-null set-tablespace set-unlogged statement-failed table-rewritten
table-scanned truncate uncommitted-transaction unfinished-migration unmatched-commit unreadable-statement
update-all-rows vacuum-full validate-in-same-transaction wide-index work-under-lock rewrite-under-lock
"""
RULES = frozenset(_RULE_NAMES.split())
"""Every rule by name; what a suppression may name."""


def problems_of(record: Record, situation: Situation) -> Iterator[Problem]:
    """What is wrong with a statement, given what the statements before it did."""
    for problem, action in _found(record, situation):
        yield problem if situation.phase is None else in_our_words(problem, record, action)


def _found(record: Record, situation: Situation) -> Iterator[tuple[Problem, Action | None]]:
    for problem in rules_transactions.refused(record, situation):
        yield problem, None
    if isinstance(record, Alter):
        yield from _altering(record, situation)
        return
    for problem in _of_others(record, situation):
        yield problem, None


def _of_others(record: Record, situation: Situation) -> Iterator[Problem]:
    if isinstance(record, CreateTable):
        yield from rules_tables.create_table(record, situation)
    elif isinstance(record, CreateIndex):
        yield from rules_indexes.create_index(record, situation)
    elif isinstance(record, Drop):
        rule = rules_indexes.drop_index if record.what == "index" else rules_tables.drop
        yield from rule(record, situation)
    elif isinstance(record, Maintain):
        yield from MAINTENANCE[record.what](record, situation)
    elif isinstance(record, Write):
        yield from rules_data.write(record, situation)
    elif isinstance(record, Rename):
        yield from rules_tables.rename_in_type(record, situation)
    elif isinstance(record, Control):
        yield from rules_transactions.begin(record, situation)
        yield from rules_transactions.end(record, situation)


def _altering(alter: Alter, situation: Situation) -> Iterator[tuple[Problem, Action]]:
    for action in alter.actions:
        for problem in _of_action(alter, action, situation):
            yield problem, action


def _of_action(alter: Alter, action: Action, situation: Situation) -> Iterator[Problem]:
    if alter.what == "domain":
        rule = DOMAIN_ACTIONS.get(action.kind)
        if rule is not None:
            yield from rule(alter, action, situation)
        return
    # Of a new table only what is wrong with any table: nobody waits for its locks.
    if action.kind == "add column" and action.column is not None:
        yield from rules_tables.json_columns((action.column,), alter.name.text, situation)
        if situation.is_fresh(alter.name) and alter.name.key in situation.filled:
            yield from rules_columns.add_not_null(alter, action.column)
    if action.kind == "attach partition" or not situation.is_fresh(alter.name):
        rule = TABLE_ACTIONS.get(action.kind)
        found = list(rule(alter, action, situation)) if rule is not None else []
        yield from found
        yield from rules_tables.rewrite_under_lock(alter, found, situation)
