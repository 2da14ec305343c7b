"""What a full-text search is kept in: an index on an expression on PostgreSQL, an FTS5 table elsewhere.

PostgreSQL needs no column for it, so a table that is in use gets its search by one CREATE INDEX CONCURRENTLY.

SQLite's FTS5 knows a row by a number, and the rowid of a table whose key is a UUID is none: VACUUM and a batch
migration give out new ones. So the keys have a table that numbers them, and triggers keep both, whoever writes. What
INSERT OR REPLACE evicts by another unique key stays there under a key that no row has, and so is never found; a row
that comes to have that key takes its place.
"""

# ruff: noqa: S608  statements are made of quoted names and constants; no value is ever formatted in
from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass

from sqlalchemy import Connection

PREFIX = "holdfast_search_"
_VERSION = 1  # of what is kept: another one is another index
_NAME = 63  # bytes PostgreSQL keeps of an identifier

# What stands between words: PostgreSQL's own parser would take a path, a host or `a.b` for one word. A database in the
# locale C takes everything beyond ASCII for letters, so the usual punctuation is named.
_BETWEEN = (
    r"[\x01-/:-@\[-`{-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7\u060c\u061b\u061f\u0964\u0965"
    r"\u2000-\u206f\u20a0-\u20cf\u2190-\u245f\u2500-\u2bff\u3000-\u3003\u3008-\u3020\ufe30-\ufe6f\uff01-\uff0f"
    r"\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\U0001f000-\U0001faff]+"
)
# Between columns, so that no phrase reaches from one into the next. It is no word: nobody can ask for it.
_GAP = " || '''|'':1'::tsvector || "
_TOKENS = "unicode61 remove_diacritics 0 categories 'L* N* Co Mn Mc'"

_TRIGGER = re.compile(rf"keep_(?P<search>{PREFIX}.+_[0-9a-f]{{8}})_on_(?P<event>\w+)")

Quote = Callable[[str], str]


@dataclass(frozen=True, order=True)
class SearchIndex:
    """What is searched.

    Attributes:
        columns: of `table`, all of text.
        weights: for each column the class of its weight on PostgreSQL, from A, the heaviest, to D.
        language: a text search configuration of PostgreSQL.
    """

    table: str
    columns: tuple[str, ...]
    weights: str
    language: str = "simple"

    @property
    def name(self) -> str:
        """What it is called: another definition has another name, so that the old and the new can stand beside."""
        end = "_" + hashlib.sha256(repr((_VERSION, *astuple(self))).encode()).hexdigest()[:8]
        return (PREFIX + self.table).encode()[: _NAME - len(end)].decode(errors="ignore") + end

    @property
    def keys(self) -> str:
        """The table that numbers the keys, on SQLite."""
        return f"{self.name}_keys"

    def trigger(self, event: str) -> str:
        """The trigger that keeps it on SQLite. Capture takes all that begin with `holdfast_` for its own."""
        return f"keep_{self.name}_on_{event}"


def vector(index: SearchIndex, columns: Sequence[str]) -> str:
    """The expression that PostgreSQL indexes, over `columns` as SQL."""
    words = (f"regexp_replace(coalesce({column}, ''), '{_BETWEEN}', ' ', 'g')" for column in columns)
    vectors = (f"to_tsvector('{index.language}'::regconfig, {text})" for text in words)
    return _GAP.join(f"setweight({one}, '{weight}')" for one, weight in zip(vectors, index.weights, strict=True))


def creation(index: SearchIndex, quote: Quote, *, concurrently: bool = False) -> str:
    """What makes it on PostgreSQL."""
    how = "INDEX CONCURRENTLY" if concurrently else "INDEX"
    expression = vector(index, [quote(column) for column in index.columns])
    return f"CREATE {how} {quote(index.name)} ON {quote(index.table)} USING gin (({expression}))"


def removal(index: SearchIndex, quote: Quote, *, concurrently: bool = False) -> str:
    """What drops it on PostgreSQL; it may have gone with a column."""
    return f"DROP INDEX {'CONCURRENTLY ' if concurrently else ''}IF EXISTS {quote(index.name)}"


def is_there(connection: Connection, index: SearchIndex) -> bool:
    """Whether the database has it, whole."""
    if connection.dialect.name == "postgresql":
        quoted = _quote(index.name)
        return bool(connection.exec_driver_sql("SELECT to_regclass($1) IS NOT NULL", (quoted,)).scalar())
    wanted = {index.name, index.keys, *(index.trigger(event) for event in ("insert", "update", "delete"))}
    return wanted <= set(connection.exec_driver_sql("SELECT name FROM sqlite_master").scalars())


def searches(connection: Connection) -> dict[tuple[str, str], str]:
    """On SQLite: what there is of each search, by table and name; words to compare."""
    rows = [tuple(row) for row in connection.exec_driver_sql("SELECT tbl_name, name FROM sqlite_master")]
    names = {name for _, name in rows}
    found: dict[tuple[str, str], list[str]] = {}
    for table, name in rows:
        if (trigger := _TRIGGER.fullmatch(name)) is not None:
            found.setdefault((table, trigger["search"]), []).append(f"kept on {trigger['event']}")
    return {
        (table, name): ", ".join(sorted([*parts, *({name, f"{name}_keys"} & names)]))
        for (table, name), parts in found.items()
    }


def create(connection: Connection, index: SearchIndex) -> None:
    """Make it, with the rows that are there; on PostgreSQL writers wait meanwhile."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(creation(index, _quote))
        return
    drop(connection, index)  # what is left of one that is not whole
    table = "SELECT name, type FROM pragma_table_xinfo(?) WHERE pk > 0 ORDER BY pk"
    keys = [(row.name, row.type) for row in connection.exec_driver_sql(table, (index.table,))]
    for statement in _creations(index, keys):
        connection.exec_driver_sql(statement)


def drop(connection: Connection, index: SearchIndex) -> None:
    """Drop it, if it is there."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(removal(index, _quote))
        return
    for event in ("insert", "update", "delete"):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_quote(index.trigger(event))}")
    for name in (index.name, index.keys):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_quote(name)}")


def _creations(index: SearchIndex, keys: Sequence[tuple[str, str]]) -> Iterator[str]:
    """What makes it on SQLite; `keys` are the names and types of the columns of the table's key."""
    table, name, numbers = _quote(index.table), _quote(index.name), _quote(index.keys)
    numbered = [f"k{number}" for number in range(len(keys))]
    columns = [f"c{number}" for number in range(len(index.columns))]
    listed = ", ".join(f"{column} {kind} NOT NULL" for column, (_, kind) in zip(numbered, keys, strict=True))
    tokens = f"porter {_TOKENS}" if index.language == "english" else _TOKENS
    yield f"CREATE TABLE {numbers} (number INTEGER PRIMARY KEY, {listed}, UNIQUE ({', '.join(numbered)}))"
    yield f'CREATE VIRTUAL TABLE {name} USING fts5({", ".join(columns)}, tokenize="{tokens}")'

    key = ", ".join(_quote(column) for column, _ in keys)
    yield f"INSERT INTO {numbers} ({', '.join(numbered)}) SELECT {key} FROM {table}"
    same = " AND ".join(f"t.{_quote(column)} = n.{k}" for k, (column, _) in zip(numbered, keys, strict=True))
    texts = ", ".join(f"t.{_quote(column)}" for column in index.columns)
    into = f"INSERT INTO {name} (rowid, {', '.join(columns)})"
    yield f"{into} SELECT n.number, {texts} FROM {numbers} AS n JOIN {table} AS t ON {same}"

    def row(side: str, names: Sequence[str]) -> str:
        return ", ".join(f"{side}.{_quote(column)}" for column in names)

    def forget(side: str) -> str:
        this = " AND ".join(f"{k} = {side}.{_quote(column)}" for k, (column, _) in zip(numbered, keys, strict=True))
        return (
            f"DELETE FROM {name} WHERE rowid = (SELECT number FROM {numbers} WHERE {this});"
            f" DELETE FROM {numbers} WHERE {this};"
        )

    key_names = [column for column, _ in keys]
    # The key is forgotten first, always: the conflict clause of the outer statement would rule in here too.
    keep = (
        f"{forget('NEW')} INSERT INTO {numbers} ({', '.join(numbered)}) VALUES ({row('NEW', key_names)});"
        f" {into} VALUES (last_insert_rowid(), {row('NEW', index.columns)});"
    )
    watched = [*key_names, *(column for column in index.columns if column not in key_names)]
    changed = " OR ".join(f"OLD.{_quote(column)} IS NOT NEW.{_quote(column)}" for column in watched)
    of = ", ".join(_quote(column) for column in watched)
    for event, when, body in (
        ("insert", "AFTER INSERT ON {table}", keep),
        ("update", f"AFTER UPDATE OF {of} ON {{table}} WHEN {changed}", f"{forget('OLD')} {keep}"),
        ("delete", "AFTER DELETE ON {table}", forget("OLD")),
    ):
        yield f"CREATE TRIGGER {_quote(index.trigger(event))} {when.replace('{table}', table)} BEGIN {body} END"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
