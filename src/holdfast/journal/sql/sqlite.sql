-- The journal's own tables on SQLite. Statements are parted by a line of two dashes; each may be run again.
CREATE TABLE IF NOT EXISTS holdfast_epoch (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    identity TEXT NOT NULL,
    began REAL NOT NULL,
    edge INTEGER NOT NULL DEFAULT 0,
    schema_version INTEGER NOT NULL
)
--
CREATE TABLE IF NOT EXISTS holdfast_shapes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl TEXT NOT NULL,
    definition TEXT NOT NULL UNIQUE
)
--
-- One row is one change. seq is also its tick: there is one writer, so numbers are handed out in commit order.
-- at is a julian day, body a JSON array: key values, tenant, old facts, new facts.
CREATE TABLE IF NOT EXISTS holdfast_journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    shape INTEGER NOT NULL,
    op TEXT NOT NULL,
    at REAL NOT NULL,
    actor TEXT,
    request TEXT,
    body TEXT NOT NULL
)
--
-- Who writes, for the length of one transaction: set after BEGIN IMMEDIATE, cleared before COMMIT.
CREATE TABLE IF NOT EXISTS holdfast_context (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    actor TEXT,
    request TEXT,
    retiring INTEGER NOT NULL DEFAULT 0
)
--
INSERT OR IGNORE INTO holdfast_context (one) VALUES (1)
--
-- Rows that the write in progress may evict by REPLACE, for which SQLite fires no delete trigger; told: the journal
-- has them as deleted.
CREATE TABLE IF NOT EXISTS holdfast_evicted (
    shape INTEGER NOT NULL,
    ident NOT NULL,
    body TEXT NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (shape, ident)
) WITHOUT ROWID
--
CREATE TABLE IF NOT EXISTS holdfast_followers (
    name TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'following',
    reason TEXT,
    retry BOOLEAN NOT NULL DEFAULT false,
    max_lag_changes INTEGER,
    max_lag_seconds REAL,
    holder TEXT,
    token INTEGER NOT NULL DEFAULT 0,
    until REAL NOT NULL DEFAULT 0,
    moved REAL NOT NULL DEFAULT 0,
    handled INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    last_failed REAL
)
--
CREATE TABLE IF NOT EXISTS holdfast_dead_letters (
    follower TEXT NOT NULL,
    seq INTEGER NOT NULL,
    tbl TEXT NOT NULL,
    key TEXT,
    change TEXT NOT NULL,
    error TEXT NOT NULL,
    parked REAL NOT NULL,
    PRIMARY KEY (follower, seq)
)
