"""The linter over one text: statement by statement, with what came before in mind."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, MutableMapping

from holdfast.migrate.files import Phase
from holdfast.migrate.lint import rules, rules_sqlite, rules_transactions
from holdfast.migrate.lint.blocks import statements_inside
from holdfast.migrate.lint.finding import Dialect, Finding, Problem
from holdfast.migrate.lint.other_tools import Accepted, accepted
from holdfast.migrate.lint.parse import parse
from holdfast.migrate.lint.scripts import Script, scripts_of
from holdfast.migrate.lint.situation import Situation, Table
from holdfast.migrate.lint.statements import Lines, Statement, is_unknown, statements_of
from holdfast.migrate.lint.suppressions import Allowance, allowances, for_whole_file, old_types
from holdfast.migrate.lint.syntax import Block, Control, Record
from holdfast.migrate.lint.tokens import Token

Known = MutableMapping[str, Table]
"""Tables by name, as earlier migrations left them."""


def lint_sql(
    text: str,
    *,
    file: str = "-",
    dialect: Dialect = "postgresql",
    known: Known | None = None,
    in_transaction: bool = False,
    phase: Phase | None = None,
    told_line: Callable[[int], int] = int,
) -> list[Finding]:
    """What is unsafe about the migration `text`, in the order of its lines; an empty list when nothing is.

    `file` is only named in the findings. `known` is what earlier migrations made of the schema: it is looked at, and
    brought to where this one leaves it. `in_transaction` says that whoever runs it wraps it in one transaction.
    `phase` is given of a revision that Holdfast runs: whether the program before it still runs beside it.
    `told_line` gives the line that a message names for one of the text, where the text was rendered from a file.
    Never raises on any text: what cannot be read as statements is a finding.
    """
    parts = [(statement, parse(statement)) for statement in statements_of(text, dialect)]
    # What a quote swallows that is never closed belongs to the finding, not to the rules.
    situation = Situation(phase=phase, told_line=told_line)
    if known is not None:
        situation.tables.update(known)
    lines = Lines(text)
    allowed = _Allowed(text, [statement for statement, _ in parts], lines)
    findings = [finding_of(problem, file, line) for line, problem in allowed.problems]
    for script in scripts_of(parts, in_transaction):
        if script.down:
            continue
        for line, problem, at in _script(script, situation, lines, dialect):
            if not allowed(problem.rule, at):
                findings.append(finding_of(allowed.softened(problem, at), file, line))
    if known is not None:
        situation.ended()
        known.clear()
        known.update(situation.tables)
    return sorted(_once(findings), key=lambda finding: finding.line)


def not_allowed(text: str, findings: Iterable[Finding]) -> list[Finding]:
    """Of somebody else's findings in the same text those that no comment in it allows."""
    statements = [statement for statement in statements_of(text) if statement.tokens]
    allowed = _Allowed(text, statements, Lines(text))
    starts = [statement.line for statement in statements]

    def at(line: int) -> Statement:
        return statements[max(0, bisect_right(starts, line) - 1)]

    return [finding for finding in _once(findings) if not allowed(finding.rule, at(finding.line))]


def _script(
    script: Script, situation: Situation, lines: Lines, dialect: Dialect
) -> Iterator[tuple[int, Problem, Statement]]:
    situation.new_script(script.wrapped)
    situation.foresee(record for _, record in script.parts)
    check = rules.problems_of if dialect == "postgresql" else rules_sqlite.problems_of
    if dialect == "sqlite":
        situation.foresee_rebuilds([record for _, record in script.parts])
    began: Statement | None = None
    work = False
    for statement, record in script.parts:
        for table, column, kind in old_types(statement.comments):
            situation.table(table).columns[column] = kind
        if not statement.tokens:
            continue
        line = statement.line
        if statement.broken:
            yield line, _UNREADABLE, statement
            continue
        if dialect == "postgresql" and is_unknown(statement):
            yield line, _unknown(statement), statement
            continue
        for problem in check(record, situation):
            yield line, problem, statement
        for problem in rules_transactions.enum_value_used(statement.tokens, situation):
            yield line, problem, statement
        if isinstance(record, Block):
            for inner_line, problem in _block(record, situation, lines):
                yield inner_line, problem, statement
        situation.advance(record, line)
        if isinstance(record, Control):
            if record.what == "begin":
                began, work = statement, False
            elif not situation.in_transaction:
                situation.wrapped = False
        else:
            work = True
    if began is not None and work:
        for problem in rules_transactions.uncommitted(situation):
            yield began.line, problem, began


def _block(block: Block, situation: Situation, lines: Lines) -> Iterator[tuple[int, Problem]]:
    outside = situation.in_transaction
    situation.in_transaction = True
    situation.foresee(parse(_bare(tokens)) for _, tokens in statements_inside(block))
    for start, tokens in statements_inside(block):
        record: Record = parse(_bare(tokens))
        line = lines.of(start)
        if isinstance(record, Control):
            continue
        for problem in rules.problems_of(record, situation):
            yield line, problem
        situation.advance(record, line)
    situation.in_transaction = outside


def _bare(tokens: tuple[Token, ...]) -> Statement:
    return Statement("", 0, 1, tokens, ())


def finding_of(problem: Problem, file: str, line: int) -> Finding:
    """What a rule says, at its place."""
    return Finding(
        file=file, line=line, rule=problem.rule, level=problem.level, message=problem.message, fix=problem.fix
    )


def _once(findings: Iterable[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def _unknown(statement: Statement) -> Problem:
    return Problem(
        "unreadable-statement",
        f"PostgreSQL has no statement that begins with {statement.tokens[0].text[:40]}: the migration fails here",
        "-- mend the word; SQL of another database does not run here",
    )


_UNREADABLE = Problem(
    "unreadable-statement",
    "a quote or a comment that begins in this statement is never closed: what follows is not looked at",
    "-- close it; inside of a string a quote is written twice: 'it''s'",
)


class _Allowed:
    """The file's suppressions, and the risks accepted towards other tools: for all of it, and for a statement."""

    def __init__(self, text: str, statements: list[Statement], lines: Lines) -> None:
        self.problems: list[tuple[int, Problem]] = []
        self._everywhere: set[str] = set()
        self._at: dict[int, set[str]] = {}
        self._accepted: dict[int | None, list[Accepted]] = {}
        first = True
        for statement in statements:
            word = statement.tokens[0].start if statement.tokens else len(text)
            for comment, said in allowances((*statement.comments, *statement.inner)):
                if isinstance(said, Allowance):
                    whole = first and for_whole_file(comment, text, word)
                    (self._everywhere if whole else self._at.setdefault(statement.start, set())).update(said.rules)
                else:
                    self.problems.append((lines.of(comment.start), said))
            for comment in (*statement.comments, *statement.inner):
                ends_another = statement.start > 0 and "\n" not in text[statement.start : comment.start]
                if (risk := accepted(comment)) is not None and not ends_another:
                    whole = risk.whole_file or (first and for_whole_file(comment, text, word))
                    self._accepted.setdefault(None if whole else statement.start, []).append(risk)
            first = first and not statement.tokens

    def softened(self, problem: Problem, statement: Statement) -> Problem:
        """The problem, as a warning where a comment to another tool accepts it."""
        risks: list[Accepted] = [*self._accepted.get(None, []), *self._accepted.get(statement.start, [])]
        for risk in risks:
            if problem.level == "error" and (softer := risk.softened(problem)) is not None:
                return softer
        return problem

    def __call__(self, rule: str, statement: Statement) -> bool:
        return rule in self._everywhere or rule in self._at.get(statement.start, ())
