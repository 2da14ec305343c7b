-- The journal's own tables and functions on PostgreSQL. @schema@ is the application's schema, quoted.
-- Statements are parted by a line of two dashes; each may be run again.
CREATE TABLE IF NOT EXISTS @schema@.holdfast_epoch (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    number bigint NOT NULL,
    identity text NOT NULL,
    began timestamptz NOT NULL DEFAULT clock_timestamp(),
    schema_version integer NOT NULL
)
--
-- What a row of the journal means: the table, and the names and kinds of the values in a body. Rows keep the
-- shape they were written with, so a model may change while followers lag.
CREATE TABLE IF NOT EXISTS @schema@.holdfast_shapes (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tbl text NOT NULL,
    definition text NOT NULL UNIQUE
)
--
CREATE SEQUENCE IF NOT EXISTS @schema@.holdfast_journal_seq INCREMENT BY 1024 START WITH 1024
--
-- One row is a run of up to 1,024 changes that one statement made; the i-th of them has the number seq + i.
-- body is a JSON array of the changes, each an array: key values, tenant, old facts, new facts.
CREATE TABLE IF NOT EXISTS @schema@.holdfast_journal (
    seq bigint NOT NULL DEFAULT nextval('@schema@.holdfast_journal_seq'::regclass),
    xid bigint NOT NULL,
    shape integer NOT NULL,
    op "char" NOT NULL,
    n integer NOT NULL,
    at timestamptz NOT NULL,
    actor text,
    request text,
    body text NOT NULL
)
--
-- Compressing what is read once or twice and then thrown away costs a bulk write more than its space.
ALTER TABLE @schema@.holdfast_journal ALTER body SET STORAGE EXTERNAL
--
-- Rows live in three slots, of which one is written at a time: emptying a drained one is a TRUNCATE of that slot
-- alone, for which no writer has to wait.
CREATE TABLE IF NOT EXISTS @schema@.holdfast_journal_0 () INHERITS (@schema@.holdfast_journal)
    WITH (toast_tuple_target = 8160, autovacuum_vacuum_insert_threshold = 1000000)
--
CREATE TABLE IF NOT EXISTS @schema@.holdfast_journal_1 () INHERITS (@schema@.holdfast_journal)
    WITH (toast_tuple_target = 8160, autovacuum_vacuum_insert_threshold = 1000000)
--
CREATE TABLE IF NOT EXISTS @schema@.holdfast_journal_2 () INHERITS (@schema@.holdfast_journal)
    WITH (toast_tuple_target = 8160, autovacuum_vacuum_insert_threshold = 1000000)
--
-- The parent stays empty; without an index, a look at it would be the one plan that reads a table from end to end.
CREATE INDEX IF NOT EXISTS holdfast_journal_xid ON @schema@.holdfast_journal (xid, seq)
--
CREATE INDEX IF NOT EXISTS holdfast_journal_0_xid ON @schema@.holdfast_journal_0 (xid, seq)
--
CREATE INDEX IF NOT EXISTS holdfast_journal_1_xid ON @schema@.holdfast_journal_1 (xid, seq)
--
CREATE INDEX IF NOT EXISTS holdfast_journal_2_xid ON @schema@.holdfast_journal_2 (xid, seq)
--
CREATE TABLE IF NOT EXISTS @schema@.holdfast_slot (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    slot smallint NOT NULL CHECK (slot IN (0, 1, 2)),
    since timestamptz NOT NULL DEFAULT clock_timestamp()
)
--
INSERT INTO @schema@.holdfast_slot (slot) VALUES (0) ON CONFLICT DO NOTHING
--
CREATE TABLE IF NOT EXISTS @schema@.holdfast_ticks (
    id bigint PRIMARY KEY,
    snapshot pg_snapshot NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)
--
CREATE TABLE IF NOT EXISTS @schema@.holdfast_followers (
    name text PRIMARY KEY,
    epoch bigint NOT NULL,
    tick bigint NOT NULL,
    seq bigint NOT NULL,
    state text NOT NULL DEFAULT 'following',
    reason text,
    retry boolean NOT NULL DEFAULT false,
    max_lag_changes bigint,
    max_lag_seconds double precision,
    holder text,
    token bigint NOT NULL DEFAULT 0,
    until double precision NOT NULL DEFAULT 0,
    moved double precision NOT NULL DEFAULT 0,
    handled bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    last_error text,
    last_failed double precision
)
--
CREATE TABLE IF NOT EXISTS @schema@.holdfast_dead_letters (
    follower text NOT NULL,
    seq bigint NOT NULL,
    tbl text NOT NULL,
    key text,
    change text NOT NULL,
    error text NOT NULL,
    parked double precision NOT NULL,
    PRIMARY KEY (follower, seq)
)
--
-- The transactions that ended between two snapshots, as ranges of ids without those still running in the later
-- one. A row of the journal is in a tick's batch when its xid is in a range of (previous tick, tick). Only ended
-- transactions are ever looked at: a bulk load that is still open costs a reader nothing.
CREATE OR REPLACE FUNCTION @schema@.holdfast_ended(earlier pg_snapshot, later pg_snapshot)
RETURNS TABLE (lo bigint, hi bigint)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 4
BEGIN ATOMIC
    SELECT x::text::bigint, x::text::bigint
    FROM pg_snapshot_xip(earlier) AS x
    WHERE pg_visible_in_snapshot(x, later)
    UNION ALL
    SELECT g.lo, g.hi
    FROM (
        SELECT
            lag(open.x, 1, pg_snapshot_xmax(earlier)::text::bigint - 1) OVER (ORDER BY open.x) + 1 AS lo,
            open.x - 1 AS hi
        FROM (
            SELECT x::text::bigint AS x FROM pg_snapshot_xip(later) AS x WHERE x >= pg_snapshot_xmax(earlier)
            UNION ALL
            SELECT pg_snapshot_xmax(later)::text::bigint
        ) AS open
    ) AS g
    WHERE g.lo <= g.hi;
END
--
-- Makes a tick when a captured transaction ended since the last one, else returns the last. The snapshot is taken
-- after the lock, so ticks are nested: what one sees, every later one sees. The tick is durable before anyone
-- hears of it, else a crash could give its number to another moment.
CREATE OR REPLACE FUNCTION @schema@.holdfast_make_tick(OUT epoch bigint, OUT tick bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET max_parallel_workers_per_gather = 0 SET jit = off
AS $holdfast$
DECLARE
    last pg_snapshot;
    now pg_snapshot;
    ended record;
    is_news boolean := false;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a tick is made in READ COMMITTED, not in %', current_setting('transaction_isolation');
    END IF;
    PERFORM pg_advisory_xact_lock(1751739492, '@schema@.holdfast_ticks'::regclass::oid::int);
    SELECT e.number, t.id, t.snapshot INTO STRICT epoch, tick, last
    FROM @schema@.holdfast_epoch e
    LEFT JOIN LATERAL (SELECT * FROM @schema@.holdfast_ticks ORDER BY id DESC LIMIT 1) t ON true;
    now := pg_current_snapshot();
    IF now::text = last::text THEN
        RETURN;
    END IF;
    IF tick IS NOT NULL THEN
        FOR ended IN SELECT r.lo, r.hi FROM @schema@.holdfast_ended(last, now) r LOOP
            is_news := EXISTS (SELECT FROM @schema@.holdfast_journal j WHERE j.xid >= ended.lo AND j.xid <= ended.hi);
            EXIT WHEN is_news;
        END LOOP;
        IF NOT is_news THEN
            RETURN;
        END IF;
    END IF;
    tick := coalesce(tick, 0) + 1;
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    END IF;
    INSERT INTO @schema@.holdfast_ticks (id, snapshot) VALUES (tick, now);
END
$holdfast$
--
-- Up to `most` rows of the batches after tick `after` up to tick `upto`, in order. The last row brings the epoch (as
-- seq) and the oldest tick: it is asked for after the others, so that a page which pruning emptied meanwhile cannot
-- be taken for one without changes.
CREATE OR REPLACE FUNCTION @schema@.holdfast_page(after bigint, upto bigint, tables text[], most integer)
RETURNS TABLE (
    tick bigint, seq bigint, shape integer, op "char", at timestamptz, actor text, request text, body text
)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET max_parallel_workers_per_gather = 0 SET jit = off
AS $holdfast$
BEGIN
    RETURN QUERY
        SELECT t.id, j.seq, j.shape, j.op, j.at, j.actor, j.request, j.body
        FROM @schema@.holdfast_ticks t
        JOIN @schema@.holdfast_ticks p ON p.id = t.id - 1
        CROSS JOIN LATERAL @schema@.holdfast_ended(p.snapshot, t.snapshot) r
        CROSS JOIN LATERAL (SELECT * FROM @schema@.holdfast_journal j WHERE j.xid >= r.lo AND j.xid <= r.hi OFFSET 0) j
        WHERE t.id > after AND t.id <= upto
            AND (tables IS NULL OR j.shape = 0
                OR j.shape IN (SELECT s.id FROM @schema@.holdfast_shapes s WHERE s.tbl = ANY (tables)))
        ORDER BY t.id, j.seq
        LIMIT most;
    RETURN QUERY
        SELECT (SELECT min(t.id) FROM @schema@.holdfast_ticks t), e.number, NULL::integer, NULL::"char",
            NULL::timestamptz, NULL::text, NULL::text, NULL::text
        FROM @schema@.holdfast_epoch e;
END
$holdfast$
--
-- The order of a batch too big for a page: transactions and numbers of its rows from number `first` on.
CREATE OR REPLACE FUNCTION @schema@.holdfast_order(
    of_tick bigint, first bigint, most integer, OUT xids bigint[], OUT seqs bigint[]
)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET max_parallel_workers_per_gather = 0 SET jit = off SET work_mem = '64MB'
AS $holdfast$
BEGIN
    SELECT array_agg(k.xid ORDER BY k.seq), array_agg(k.seq ORDER BY k.seq) INTO xids, seqs
    FROM (
        SELECT j.xid, j.seq
        FROM @schema@.holdfast_ticks t
        JOIN @schema@.holdfast_ticks p ON p.id = t.id - 1
        CROSS JOIN LATERAL @schema@.holdfast_ended(p.snapshot, t.snapshot) r
        CROSS JOIN LATERAL (SELECT * FROM @schema@.holdfast_journal j WHERE j.xid >= r.lo AND j.xid <= r.hi OFFSET 0) j
        WHERE t.id = of_tick AND j.seq >= first
        ORDER BY j.seq
        LIMIT most
    ) k;
END
$holdfast$
--
-- The rows of a batch with the given transactions and numbers; the last row is as in holdfast_page.
CREATE OR REPLACE FUNCTION @schema@.holdfast_rows(of_tick bigint, xids bigint[], seqs bigint[], tables text[])
RETURNS TABLE (
    tick bigint, seq bigint, shape integer, op "char", at timestamptz, actor text, request text, body text
)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET max_parallel_workers_per_gather = 0 SET jit = off
AS $holdfast$
BEGIN
    RETURN QUERY
        SELECT of_tick, j.seq, j.shape, j.op, j.at, j.actor, j.request, j.body
        FROM unnest(xids, seqs) AS k (xid, seq)
        CROSS JOIN LATERAL (SELECT * FROM @schema@.holdfast_journal j WHERE j.xid = k.xid AND j.seq = k.seq OFFSET 0) j
        WHERE tables IS NULL OR j.shape = 0
            OR j.shape IN (SELECT s.id FROM @schema@.holdfast_shapes s WHERE s.tbl = ANY (tables))
        ORDER BY j.seq;
    RETURN QUERY
        SELECT (SELECT min(t.id) FROM @schema@.holdfast_ticks t), e.number, NULL::integer, NULL::"char",
            NULL::timestamptz, NULL::text, NULL::text, NULL::text
        FROM @schema@.holdfast_epoch e;
END
$holdfast$
--
-- How many changes ended after a tick, counted up to `most` rows, and the age of the oldest of them in seconds.
CREATE OR REPLACE FUNCTION @schema@.holdfast_lag(
    of_tick bigint, most integer, OUT changes bigint, OUT seconds double precision
)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET max_parallel_workers_per_gather = 0 SET jit = off
AS $holdfast$
BEGIN
    SELECT coalesce(sum(k.n), 0), coalesce(extract(epoch FROM clock_timestamp() - min(k.at)), 0)
    INTO changes, seconds
    FROM (
        SELECT j.n, j.at
        FROM @schema@.holdfast_ticks t
        CROSS JOIN LATERAL @schema@.holdfast_ended(t.snapshot, pg_current_snapshot()) r
        CROSS JOIN LATERAL (SELECT * FROM @schema@.holdfast_journal j WHERE j.xid >= r.lo AND j.xid <= r.hi OFFSET 0) j
        WHERE t.id = of_tick
        LIMIT most
    ) k;
END
$holdfast$
--
-- Events that are no rows, on the same path: a JSON array of [topic, tenant, what is told]. Anything else would stop who
-- follows the journal, so it is refused here. Who runs as a tenant, where row security is on, tells for it alone.
CREATE OR REPLACE FUNCTION @schema@.holdfast_emit(body text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $holdfast$
DECLARE
    xid bigint := pg_current_xact_id()::text::bigint;
    actor text := nullif(current_setting('holdfast.actor', true), '');
    request text := nullif(current_setting('holdfast.request', true), '');
    confined boolean := current_setting('role', true) IN ('holdfast_app', 'holdfast_readonly');
    mine text := coalesce(current_setting('holdfast.tenant', true), '');
    told json := replace(body, '\u0000', '\u0001');  -- a NUL may be told, and PostgreSQL's functions refuse to look at one
    event json;
BEGIN
    IF json_typeof(told) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'events are a JSON array of [topic, tenant, told]' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR event IN SELECT * FROM json_array_elements(told) LOOP
        IF json_typeof(event) <> 'array' OR json_array_length(event) <> 3 OR json_typeof(event->0) <> 'string'
            OR json_typeof(event->2) <> 'object' THEN
            RAISE EXCEPTION 'an event is [topic, tenant, told]' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF confined AND coalesce(event->>1, '') <> mine THEN
            RAISE EXCEPTION 'an event of another tenant is refused' USING ERRCODE = 'insufficient_privilege';
        END IF;
    END LOOP;
    CASE (SELECT s.slot FROM @schema@.holdfast_slot s)
    WHEN 0 THEN
        INSERT INTO @schema@.holdfast_journal_0 (xid, shape, op, n, at, actor, request, body)
        VALUES (xid, 0, 'e', 1, statement_timestamp(), actor, request, body);
    WHEN 1 THEN
        INSERT INTO @schema@.holdfast_journal_1 (xid, shape, op, n, at, actor, request, body)
        VALUES (xid, 0, 'e', 1, statement_timestamp(), actor, request, body);
    ELSE
        INSERT INTO @schema@.holdfast_journal_2 (xid, shape, op, n, at, actor, request, body)
        VALUES (xid, 0, 'e', 1, statement_timestamp(), actor, request, body);
    END CASE;
END
$holdfast$
