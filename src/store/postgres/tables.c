/* tables.c: the tables of the present format (HK_PG_FORMAT), made once for a log. They follow those of
 * docs/format-sqlite.md column by column where they tell the same; names are kept as text, since
 * reading an event is then one row and no join. */
#include "store/postgres/store_i.h"

const char hk_pg_tables[] =
    "CREATE TABLE @log(one int PRIMARY KEY CHECK(one = 1), log_id bytea NOT NULL, format int NOT "
    "NULL, epoch int8 NOT NULL, lock_no int NOT NULL, last int8 NOT NULL, recorded int8 NOT NULL, "
    "lost_from int8 NOT NULL DEFAULT 1, lost_to int8 NOT NULL DEFAULT 0, server int8 NOT NULL, "
    "timeline int8 NOT NULL, created timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 10);"

    /* who has the log open: the text of hk_who_self, and how long it lives unless it says so again */
    "CREATE TABLE @processes(id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, who text NOT NULL, "
    "until timestamptz NOT NULL) WITH (fillfactor = 10);"
    /* the last group of each that was committed: not in the row that is held up while a commit waits */
    "CREATE TABLE @tickets(process_id int8 PRIMARY KEY, ticket int8 NOT NULL) "
    "WITH (fillfactor = 10);"

    "CREATE TABLE @events(seq int8 PRIMARY KEY, recorded int8 NOT NULL, "
    "source text COLLATE \"C\" NOT NULL, id text COLLATE \"C\" NOT NULL, "
    "type text COLLATE \"C\" NOT NULL, mediatype text, time int8 NOT NULL, "
    "dataversion int8 NOT NULL, check_sum int8 NOT NULL, digest bytea NOT NULL, "
    "subject text COLLATE \"C\", subject_version int8, partitionkey text, correlationid text, "
    "causationid text, attrs text, data bytea);"
    "CREATE UNIQUE INDEX events_by_id ON @events(id, source);"
    "CREATE INDEX events_by_type ON @events(type, seq);"
    "CREATE INDEX events_by_time ON @events(recorded);"
    "CREATE INDEX events_by_subject ON @events(subject, seq) WHERE subject IS NOT NULL;"
    /* the newest version of each subject, whose events may have been removed */
    "CREATE TABLE @subjects(subject text COLLATE \"C\" PRIMARY KEY, version int8 NOT NULL) "
    "WITH (fillfactor = 50);"
    /* events of each type and version that are there; a type stays known when its last event is removed */
    "CREATE TABLE @versions(type text COLLATE \"C\", version int8, count int8 NOT NULL, "
    "first int8 NOT NULL, last int8 NOT NULL, PRIMARY KEY(type, version)) WITH (fillfactor = 50);"

    "CREATE TABLE @schedules(id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "due int8 NOT NULL, by_delay int8 NOT NULL, created int8 NOT NULL, "
    "source text COLLATE \"C\" NOT NULL, event_id text COLLATE \"C\" NOT NULL, "
    "digest bytea NOT NULL, type text COLLATE \"C\" NOT NULL, dataversion int8 NOT NULL, "
    "envelope text NOT NULL, data bytea);"
    "CREATE UNIQUE INDEX schedules_by_event ON @schedules(event_id, source);"
    "CREATE INDEX schedules_by_due ON @schedules(due, id);"
    "CREATE TABLE @replays(id text COLLATE \"C\" PRIMARY KEY, pattern text NOT NULL, "
    "first int8 NOT NULL, last int8 NOT NULL, from_ns int8 NOT NULL, to_ns int8 NOT NULL, "
    "rate int8 NOT NULL, position int8 NOT NULL, done int8 NOT NULL, total int8 NOT NULL, "
    "rejected int8 NOT NULL, state int8 NOT NULL, started int8 NOT NULL, changed int8 NOT NULL, "
    /* the process under which it is under way */
    "error text, owner int8);"
    "CREATE TABLE @kept(key text COLLATE \"C\" PRIMARY KEY, until int8 NOT NULL, "
    "data bytea NOT NULL);"
    "CREATE INDEX kept_by_until ON @kept(until);"
    /* while a program has the connection, a row here makes every commit fail: see tx.c */
    "CREATE TABLE @native(one int REFERENCES @log(one) DEFERRABLE INITIALLY DEFERRED);";

/* The ledger's. */
const char hk_pg_ledger_tables[] =
    "CREATE TABLE @consumers(id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "name text COLLATE \"C\" NOT NULL UNIQUE, pattern text NOT NULL, policy text NOT NULL, "
    "start int8 NOT NULL, start_sequence int8 NOT NULL, start_time int8 NOT NULL, "
    "created int8 NOT NULL, generation int8 NOT NULL, shares int4 NOT NULL, "
    "paused boolean NOT NULL, rerun_id text, rerun_from int8 NOT NULL DEFAULT 0, "
    "rerun_upto int8 NOT NULL DEFAULT 0, rerun_rate int8 NOT NULL DEFAULT 0, "
    "rerun_started int8 NOT NULL DEFAULT 0, rerun_settled int8 NOT NULL DEFAULT 0) "
    "WITH (fillfactor = 40);"
    /* a consumer's part of the log by keys (hark_store_share_of), and whose it is: see shares.c */
    "CREATE TABLE @shares(consumer_id int8, share int4, owner int8, token int8 NOT NULL, "
    "floor int8 NOT NULL, highest int8 NOT NULL, settled bytea, claimed int8 NOT NULL DEFAULT 0, "
    "suspect int8 NOT NULL DEFAULT 0, "
    "PRIMARY KEY(consumer_id, share)) "
    "WITH (fillfactor = 40);"
    /* the processes that have a consumer open */
    "CREATE TABLE @members(consumer_id int8, process_id int8, PRIMARY KEY(consumer_id, "
    "process_id));"
    /* what one process did to the deliveries of another; ids grow as they are committed, per consumer */
    "CREATE TABLE @news(id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "consumer_id int8 NOT NULL, share int4 NOT NULL, kind int8 NOT NULL, seq int8 NOT NULL, "
    "due int8 NOT NULL, key text);"
    "CREATE TABLE @deliveries(consumer_id int8, share int4, seq int8, state int8 NOT NULL, "
    "attempts int8 NOT NULL, crashes int8 NOT NULL, interruptions int8 NOT NULL, "
    "due int8 NOT NULL, first int8 NOT NULL, partitionkey text, error text, "
    "PRIMARY KEY(consumer_id, share, seq));"
    "CREATE TABLE @attempts(id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "consumer_id int8 NOT NULL, generation int8 NOT NULL, seq int8 NOT NULL, "
    "number int8 NOT NULL, started int8 NOT NULL, ended int8 NOT NULL, outcome text NOT NULL, "
    "error text);"
    "CREATE INDEX attempts_by_seq ON @attempts(seq, consumer_id);"
    "CREATE TABLE @dead_letters(id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "consumer_id int8 NOT NULL, generation int8 NOT NULL, seq int8 NOT NULL, reason text NOT NULL, "
    "error text, attempts int8 NOT NULL, crashes int8 NOT NULL, interruptions int8 NOT NULL, "
    "first int8 NOT NULL, dead int8 NOT NULL, state int8 NOT NULL, recorded int8 NOT NULL, "
    "type text COLLATE \"C\" NOT NULL, dataversion int8 NOT NULL, envelope text NOT NULL, "
    "data bytea);"
    "CREATE INDEX dead_letters_by_consumer ON @dead_letters(consumer_id, seq, state);"
    "CREATE INDEX dead_letters_redriven ON @dead_letters(seq, consumer_id) WHERE state = 2;"
    "CREATE TABLE @gaps(consumer_id int8, first int8, last int8 NOT NULL, "
    "PRIMARY KEY(consumer_id, first));";
