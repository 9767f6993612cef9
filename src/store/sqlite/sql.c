/* Every statement the store runs after its file is open, in one table. The schema is in schema.c.
 */
#include "store/sqlite/conn_i.h"

#include <stddef.h>

#define BY_TYPE                                                                                    \
    "SELECT " HK_ROW_COLUMNS " FROM hark_events INDEXED BY hark_events_by_type "                   \
    "WHERE type_id = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq"
#define BY_SUBJECT                                                                                 \
    "SELECT " HK_ROW_COLUMNS " FROM hark_events INDEXED BY hark_events_by_subject "                \
    "WHERE subject = ?1 AND subject_version BETWEEN ?2 AND ?3 ORDER BY subject_version"

#define LETTERS                                                                                    \
    "SELECT d.id, d.seq, d.generation, d.consumer_id, c.name, d.reason, d.error, d.attempts, "     \
    "d.crashes, d.interruptions, d.first, d.dead, d.state, d.recorded, d.type, d.envelope, "       \
    "d.data FROM hark_dead_letters d LEFT JOIN hark_consumers c ON c.id = d.consumer_id "
#define SCHEDULES "SELECT id, due, by_delay, created, digest, envelope, data FROM hark_schedules "
#define BARE      "SELECT id, due, by_delay, created, digest FROM hark_schedules "

/* Of a row of `hark_deliveries`: it does not need the log, since its dead letter has the event. */
#define HAS_COPY                                                                                   \
    "(state = 4 OR EXISTS(SELECT 1 FROM hark_dead_letters d "                                      \
    "INDEXED BY hark_dead_letters_by_consumer WHERE d.consumer_id = hark_deliveries.consumer_id "  \
    "AND d.seq = hark_deliveries.seq AND d.state = 2))"
/* Of a row of `hark_attempts`: there is no dead letter of it; nor its event. */
#define NO_LETTER                                                                                  \
    "NOT EXISTS(SELECT 1 FROM hark_dead_letters d INDEXED BY hark_dead_letters_by_consumer "       \
    "WHERE d.consumer_id = hark_attempts.consumer_id AND d.seq = hark_attempts.seq)"
#define LEFT_OVER                                                                                  \
    "NOT EXISTS(SELECT 1 FROM hark_events e WHERE e.seq = hark_attempts.seq) AND " NO_LETTER
/* What a lane whose head is a dead letter has besides it is parked, whatever it was saved as. */
#define PARKS                                                                                      \
    "state < 4 AND partitionkey IS NOT NULL AND partitionkey IN (SELECT partitionkey FROM "        \
    "hark_deliveries WHERE consumer_id = ?1 AND state = 4 AND partitionkey IS NOT NULL)"

static const char *const texts[HK_SQL_TYPE_UP] = {
    [HK_SQL_BEGIN_READ] = "BEGIN",
    [HK_SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [HK_SQL_COMMIT] = "COMMIT",
    [HK_SQL_ROLLBACK] = "ROLLBACK",

    [HK_SQL_INSERT_EVENT] =
        "INSERT INTO hark_events(seq, recorded, source_id, id, type_id, mediatype_id, time, "
        "dataversion, check_sum, digest, subject, subject_version, partitionkey, correlationid, "
        "causationid, attrs, data) "
        "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17) "
        "ON CONFLICT(id, source_id) DO NOTHING",
    [HK_SQL_FIND_EVENT] =
        "SELECT seq, digest, subject_version FROM hark_events WHERE id = ?1 AND source_id = ?2",
    [HK_SQL_UNDO_UNIT] = "DELETE FROM hark_events WHERE seq >= ?1",
    [HK_SQL_SUBJECT_VERSION] = "SELECT max(subject_version) FROM hark_events INDEXED BY "
                               "hark_events_by_subject WHERE subject = ?1",

    [HK_SQL_FIRST_SEQ] = "SELECT min(seq) FROM hark_events",
    [HK_SQL_LAST_SEQ] = "SELECT max(seq) FROM hark_events",
    [HK_SQL_LAST_EVER] = "SELECT max(ifnull((SELECT max(seq) FROM hark_events), 0), "
                         "ifnull((SELECT value FROM hark_meta WHERE key = 'last_sequence'), 0))",
    [HK_SQL_RECORDED_FROM] =
        "SELECT seq, recorded FROM hark_events WHERE seq >= ?1 ORDER BY seq LIMIT 1",
    [HK_SQL_SUBJECT_BOUNDS] =
        "SELECT (SELECT min(subject_version) FROM hark_events WHERE subject = ?1),"
        " (SELECT max(subject_version) FROM hark_events WHERE subject = ?1)",
    [HK_SQL_SUBJECT_FROM] =
        "SELECT subject_version, seq FROM hark_events INDEXED BY hark_events_by_subject "
        "WHERE subject = ?1 AND subject_version >= ?2 ORDER BY subject_version LIMIT 1",

    [HK_SQL_TYPE_ID] = "SELECT id FROM hark_types WHERE name = ?1",
    [HK_SQL_SOURCE_ID] = "SELECT id FROM hark_sources WHERE name = ?1",
    [HK_SQL_MEDIA_ID] = "SELECT id FROM hark_mediatypes WHERE name = ?1",
    [HK_SQL_ADD_TYPE] = "INSERT INTO hark_types(name) VALUES(?1)",
    [HK_SQL_ADD_SOURCE] = "INSERT INTO hark_sources(name) VALUES(?1)",
    [HK_SQL_ADD_MEDIA] = "INSERT INTO hark_mediatypes(name) VALUES(?1)",
    [HK_SQL_TYPE_NAME] = "SELECT name FROM hark_types WHERE id = ?1",
    [HK_SQL_SOURCE_NAME] = "SELECT name FROM hark_sources WHERE id = ?1",
    [HK_SQL_MEDIA_NAME] = "SELECT name FROM hark_mediatypes WHERE id = ?1",
    [HK_SQL_TYPES_ABOVE] = "SELECT id, name FROM hark_types WHERE id > ?1 ORDER BY id",

    [HK_SQL_SCAN_UP] =
        "SELECT " HK_ROW_COLUMNS " FROM hark_events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
    [HK_SQL_SCAN_DOWN] =
        "SELECT " HK_ROW_COLUMNS " FROM hark_events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq DESC",
    [HK_SQL_NARROW_UP] =
        "SELECT " HK_NARROW_COLUMNS " FROM hark_events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
    [HK_SQL_NARROW_DOWN] = "SELECT " HK_NARROW_COLUMNS
                           " FROM hark_events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq DESC",
    [HK_SQL_SUBJECT_UP] = BY_SUBJECT,
    [HK_SQL_SUBJECT_DOWN] = BY_SUBJECT " DESC",

    [HK_SQL_CONSUMER_FIND] =
        "SELECT id, pattern, policy, generation, floor, highest, settled, paused, "
        "rerun_id, rerun_from, rerun_upto, rerun_rate, rerun_started, rerun_settled "
        "FROM hark_consumers WHERE name = ?1",
    [HK_SQL_CONSUMER_ADD] =
        "INSERT INTO hark_consumers(name, pattern, policy, start, start_sequence, start_time, "
        "created, generation, floor, highest, paused, settled) "
        "VALUES(?1,?2,?3,?4,?5,?6,?7,1,?8,?8,0,NULL)",
    [HK_SQL_CONSUMER_UPDATE] = "UPDATE hark_consumers SET pattern = ?2, policy = ?3 WHERE id = ?1",
    [HK_SQL_CONSUMER_SAVE] = "UPDATE hark_consumers SET floor = ?3, highest = ?4, settled = ?5 "
                             "WHERE id = ?1 AND generation = ?2",
    [HK_SQL_DELIVERIES] =
        "SELECT seq, state, attempts, crashes, interruptions, due, first, partitionkey, error "
        "FROM hark_deliveries WHERE consumer_id = ?1 ORDER BY seq",
    /* What an ack has settled (state 6, HK_ROW_SETTLED) stays: the save may be of before it. */
    [HK_SQL_DELIVERY_PUT] =
        "INSERT INTO hark_deliveries(consumer_id, seq, state, attempts, crashes, "
        "interruptions, due, first, partitionkey, error) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10) "
        "ON CONFLICT DO UPDATE SET state = ?3, attempts = ?4, crashes = ?5, interruptions = ?6, "
        "due = ?7, first = ?8, partitionkey = ?9, error = ?10 WHERE state <> 6",
    [HK_SQL_DELIVERY_DROP] = "DELETE FROM hark_deliveries WHERE consumer_id = ?1 AND seq = ?2",
    [HK_SQL_ATTEMPT_ADD] =
        "INSERT INTO hark_attempts(consumer_id, generation, seq, number, started, "
        "ended, outcome, error) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
    [HK_SQL_DEAD_ADD] =
        "INSERT INTO hark_dead_letters(consumer_id, generation, seq, reason, error, attempts, "
        "first, dead, state, recorded, type, envelope, data, crashes, interruptions) "
        "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,1,?9,?10,?11,?12,?13,?14)",
    [HK_SQL_REDRIVEN_DROP] =
        "DELETE FROM hark_dead_letters INDEXED BY hark_dead_letters_by_consumer "
        "WHERE consumer_id = ?1 AND seq = ?2 AND state = 2",
    [HK_SQL_REDRIVEN_UNDO] = "UPDATE hark_dead_letters SET state = 1 WHERE consumer_id = ?1 AND "
                             "state = 2",
    [HK_SQL_ATTEMPTS_DROP] =
        "DELETE FROM hark_attempts WHERE seq = ?2 AND consumer_id = ?1 AND " LEFT_OVER
        " AND NOT EXISTS(SELECT 1 FROM hark_deliveries r WHERE r.consumer_id = ?1 AND r.seq = ?2)",
    [HK_SQL_ATTEMPTS_RESET] =
        "DELETE FROM hark_attempts WHERE seq IN (SELECT r.seq FROM hark_deliveries r WHERE "
        "r.consumer_id = ?1) AND consumer_id = ?1 AND " LEFT_OVER,
    [HK_SQL_GAPS] = "SELECT min(first), max(last) FROM hark_gaps WHERE consumer_id = ?1",
    [HK_SQL_GAPS_DONE] = "DELETE FROM hark_gaps WHERE consumer_id = ?1 AND last <= ?2",
    [HK_SQL_CONSUMER_AT] =
        "SELECT generation, floor, highest, name, rerun_settled, (SELECT min(seq) FROM "
        "hark_deliveries WHERE consumer_id = ?1 AND state <> 6) FROM hark_consumers WHERE id = ?1",
    [HK_SQL_CONSUMER_RESET] =
        "UPDATE hark_consumers SET generation = generation + 1, floor = ?2, settled = NULL, "
        "rerun_id = ?3, rerun_from = ?4, rerun_upto = ?5, rerun_rate = ?6, rerun_started = ?7, "
        "highest = ?8, rerun_settled = ?9 WHERE id = ?1",
    [HK_SQL_RERUN_END] =
        "UPDATE hark_consumers SET rerun_id = NULL, rerun_from = 0, rerun_upto = 0, "
        "rerun_rate = 0, rerun_started = 0, rerun_settled = 0 WHERE id = ?1",
    [HK_SQL_CONSUMER_PAUSE] = "UPDATE hark_consumers SET paused = ?2 WHERE id = ?1",
    [HK_SQL_CONSUMERS] =
        "SELECT id, name, pattern, policy, generation, floor, highest, paused, created, rerun_id, "
        "rerun_from, rerun_upto, rerun_rate, rerun_started, rerun_settled FROM hark_consumers "
        "ORDER BY name",
    [HK_SQL_CONSUMER_COUNTS] =
        "SELECT sum(state = 1 AND NOT parks), sum(state IN (2, 3) AND NOT parks), sum(parks), "
        "sum(state = 4), count(DISTINCT CASE state WHEN 4 THEN partitionkey END) + "
        "sum(state = 4 AND partitionkey IS NULL) FROM (SELECT state, partitionkey, " PARKS
        " AS parks FROM hark_deliveries WHERE consumer_id = ?1)",
    [HK_SQL_CONSUMER_LETTERS] =
        "SELECT count(*) FROM hark_dead_letters WHERE consumer_id = ?1 AND state = 1",
    [HK_SQL_DELIVERIES_CLEAR] = "DELETE FROM hark_deliveries WHERE consumer_id = ?1",
    [HK_SQL_GAPS_CLEAR] = "DELETE FROM hark_gaps WHERE consumer_id = ?1",
    [HK_SQL_DELIVERY_AT] =
        "SELECT state, partitionkey FROM hark_deliveries WHERE consumer_id = ?1 AND seq = ?2",

    [HK_SQL_LETTER] = LETTERS "WHERE d.id = ?1",
    [HK_SQL_LETTERS] = LETTERS "WHERE d.id > ?1 ORDER BY d.id",
    [HK_SQL_LETTERS_OF] = LETTERS "WHERE d.id IN (SELECT id FROM hark_dead_letters WHERE "
                                  "consumer_id = ?2 AND id > ?1) ORDER BY d.id",
    [HK_SQL_LETTERS_OF_STATE] =
        LETTERS "WHERE d.consumer_id = ?2 AND d.state = ?3 AND d.id > ?1 ORDER BY d.id",
    [HK_SQL_LETTERS_AT] =
        LETTERS "WHERE d.consumer_id = ?2 AND d.seq = ?3 AND d.id > ?1 ORDER BY d.id",
    [HK_SQL_LETTER_AT] =
        "SELECT consumer_id, generation, seq, state, envelope FROM hark_dead_letters WHERE id = ?1",
    [HK_SQL_LETTER_REDRIVE] =
        "UPDATE hark_dead_letters INDEXED BY hark_dead_letters_by_consumer SET state = 2 "
        "WHERE consumer_id = ?1 AND seq = ?2 AND state = 1",
    [HK_SQL_LETTER_DROP] = "DELETE FROM hark_dead_letters WHERE id = ?1",
    [HK_SQL_ATTEMPTS] = "SELECT number, started, ended, outcome, error FROM hark_attempts "
                        "WHERE seq = ?2 AND consumer_id = ?1 ORDER BY id",

    [HK_SQL_EVENT_OF] = "SELECT seq, digest FROM hark_events WHERE id = ?1 AND "
                        "source_id = (SELECT id FROM hark_sources WHERE name = ?2)",
    [HK_SQL_SCHEDULE_OF] =
        "SELECT id, digest FROM hark_schedules WHERE event_id = ?1 AND source = ?2",
    [HK_SQL_SCHEDULE_ADD] =
        "INSERT INTO hark_schedules(due, by_delay, created, source, event_id, digest, envelope, "
        "data) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
    [HK_SQL_SCHEDULE_DROP] = "DELETE FROM hark_schedules WHERE id = ?1",
    [HK_SQL_SCHEDULES] = SCHEDULES "WHERE id > ?1 ORDER BY id",
    [HK_SQL_SCHEDULES_BARE] = BARE "WHERE id > ?1 ORDER BY id",
    [HK_SQL_SCHEDULE] = SCHEDULES "WHERE id = ?1",
    [HK_SQL_SCHEDULE_BARE] = BARE "WHERE id = ?1",
    [HK_SQL_REPLAY_PUT] =
        "INSERT OR REPLACE INTO hark_replays(id, pattern, first, last, from_ns, to_ns, rate, "
        "position, done, total, rejected, state, started, changed, error) "
        "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)",
    [HK_SQL_REPLAYS] =
        "SELECT id, pattern, first, last, from_ns, to_ns, rate, position, done, total, rejected, "
        "state, started, changed, error FROM hark_replays ORDER BY started, id",

    [HK_SQL_META_PUT] = "INSERT OR REPLACE INTO hark_meta(key, value) VALUES(?1, ?2)",
    [HK_SQL_SLOT_CONSUMER] =
        "SELECT floor, settled, name FROM hark_consumers WHERE id = ?1 AND generation = ?2",
    [HK_SQL_SLOT_ROW] =
        "SELECT attempts, state FROM hark_deliveries WHERE consumer_id = ?1 AND seq = ?2",
    [HK_SQL_SLOT_COUNT] =
        "UPDATE hark_deliveries SET crashes = crashes + ?3, interruptions = interruptions + ?4, "
        "error = ifnull(?5, error), first = iif(first = 0, ?6, first) "
        "WHERE consumer_id = ?1 AND seq = ?2",

    [HK_SQL_TRIM_CONSUMERS] = "SELECT id, pattern, floor, settled, name FROM hark_consumers",
    [HK_SQL_TRIM_ROW_FROM] = "SELECT seq, state, " HAS_COPY " FROM hark_deliveries "
                             "WHERE consumer_id = ?1 AND seq >= ?2 ORDER BY seq LIMIT 1",
    [HK_SQL_TRIM_BATCH] = "SELECT seq, dataversion FROM hark_events INDEXED BY hark_events_by_type "
                          "WHERE type_id = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq LIMIT ?4",
    [HK_SQL_TRIM_SUBJECT] =
        "INSERT INTO hark_subjects(subject, version) SELECT subject, subject_version "
        "FROM hark_events e WHERE seq = ?1 AND subject IS NOT NULL AND NOT EXISTS("
        "SELECT 1 FROM hark_events n WHERE n.subject = e.subject "
        "AND n.subject_version > e.subject_version) "
        "ON CONFLICT(subject) DO UPDATE SET version = max(version, excluded.version)",
    [HK_SQL_TRIM_ATTEMPTS] = "DELETE FROM hark_attempts WHERE seq = ?1 AND " NO_LETTER,
    [HK_SQL_TRIM_ROW] = "DELETE FROM hark_deliveries WHERE consumer_id = ?1 AND seq = ?2 "
                        "AND state <> 6 AND NOT " HAS_COPY,
    [HK_SQL_TRIM_EVENT] = "DELETE FROM hark_events WHERE seq = ?1",
    [HK_SQL_GAP_ADD] = "INSERT INTO hark_gaps(consumer_id, first, last) VALUES(?1, ?2, ?3)",
    [HK_SQL_SUBJECT_KEPT] = "SELECT version FROM hark_subjects WHERE subject = ?1",

    [HK_SQL_COUNT_TYPE] = "SELECT count(*), max(seq) FROM (SELECT seq FROM hark_events "
                          "INDEXED BY hark_events_by_type "
                          "WHERE type_id = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq LIMIT ?4)",
    [HK_SQL_COUNT_SUBJECT] =
        "SELECT subject_version, type_id FROM hark_events INDEXED BY hark_events_by_subject "
        "WHERE subject = ?1 AND subject_version BETWEEN ?2 AND ?3 "
        "ORDER BY subject_version LIMIT ?4",

    /* What is above 'counted' is not in the table yet: see versions.c. */
    [HK_SQL_COUNTED] = "SELECT value FROM hark_meta WHERE key = 'counted'",
    [HK_SQL_VERSIONS_ABOVE] =
        "SELECT type_id, dataversion, count(*), min(recorded), max(recorded) FROM hark_events "
        "NOT INDEXED WHERE seq > ?1 GROUP BY type_id, dataversion",
    [HK_SQL_VERSION_ADD] =
        "INSERT INTO hark_versions(type_id, version, count, first, last) "
        "VALUES(?1, ?2, max(?3, 0), ?4, ?5) ON CONFLICT(type_id, version) DO UPDATE SET "
        "count = max(count + ?3, 0), first = iif(first = 0, ?4, first), last = max(last, ?5)",
    [HK_SQL_VERSIONS] =
        "SELECT type, version, sum(n), sum(letters), sum(schedules), ifnull(min(first), 0), "
        "ifnull(max(last), 0) FROM ("
        "SELECT (SELECT name FROM hark_types WHERE id = type_id) AS type, version, count AS n, "
        "0 AS letters, 0 AS schedules, nullif(first, 0) AS first, last FROM hark_versions "
        "UNION ALL SELECT (SELECT name FROM hark_types WHERE id = type_id), dataversion, count(*), "
        "0, 0, min(recorded), max(recorded) FROM hark_events NOT INDEXED WHERE seq > "
        "(SELECT value FROM hark_meta WHERE key = 'counted') GROUP BY type_id, dataversion "
        "UNION ALL SELECT type, hark_envelope(envelope, 'dataversion'), 0, 1, 0, NULL, NULL "
        "FROM hark_dead_letters "
        "UNION ALL SELECT hark_envelope(envelope, 'type'), hark_envelope(envelope, 'dataversion'), "
        "0, 0, 1, NULL, NULL FROM hark_schedules) "
        "GROUP BY type, version HAVING sum(n) + sum(letters) + sum(schedules) > 0 "
        "ORDER BY type, version",

    [HK_SQL_ACK] =
        "INSERT OR REPLACE INTO hark_deliveries(consumer_id, seq, state, attempts, crashes, "
        "interruptions, due, first, partitionkey, error) SELECT id, ?3, 6, 0, 0, 0, 0, 0, NULL, "
        "NULL FROM hark_consumers WHERE id = ?1 AND generation = ?2 AND NOT EXISTS(SELECT 1 FROM "
        "hark_deliveries r WHERE r.consumer_id = ?1 AND r.seq = ?3 AND r.state = 6)",
    [HK_SQL_ACK_NEW] =
        "INSERT OR IGNORE INTO hark_deliveries(consumer_id, seq, state, attempts, crashes, "
        "interruptions, due, first, partitionkey, error) VALUES(?1, ?2, 6, 0, 0, 0, 0, 0, NULL, "
        "NULL)",
    [HK_SQL_LEFT_BEHIND] = "SELECT EXISTS(SELECT 1 FROM hark_attempts) OR "
                           "EXISTS(SELECT 1 FROM hark_dead_letters WHERE state = 2)",
    [HK_SQL_ACKED_LETTERS] =
        "DELETE FROM hark_dead_letters WHERE consumer_id = ?1 AND state = 2 AND seq IN (SELECT "
        "r.seq FROM hark_deliveries r WHERE r.consumer_id = ?1 AND r.state = 6)",

    /* closures: see tx.c */
    [HK_SQL_SAVEPOINT] = "SAVEPOINT hark_closure",
    [HK_SQL_RELEASE] = "RELEASE hark_closure",
    [HK_SQL_ROLLBACK_TO] = "ROLLBACK TO hark_closure",
    [HK_SQL_SCHEMA_NUMBER] = "PRAGMA main.schema_version",
    [HK_SQL_OWN_NAMES] =
        "SELECT count(*) FROM sqlite_master WHERE name LIKE 'hark\\_%' ESCAPE '\\' "
        "OR tbl_name LIKE 'hark\\_%' ESCAPE '\\'",
    [HK_SQL_OWN_IDS] = "SELECT count(*) + ifnull(sum(seq & 0xffffffffffff), 0) FROM "
                       "sqlite_sequence WHERE name LIKE 'hark\\_%' ESCAPE '\\'",
    [HK_SQL_REFERRING] = "SELECT m.name, f.\"table\" FROM sqlite_master m, "
                         "pragma_foreign_key_list(m.name) f WHERE m.type = 'table' "
                         "AND f.\"table\" LIKE 'hark\\_%' ESCAPE '\\' LIMIT 1",
    [HK_SQL_KEEP] = "INSERT INTO hark_kept(key, until, data) VALUES(?1, ?2, ?3) "
                    "ON CONFLICT(key) DO UPDATE SET until = ?2, data = ?3 WHERE until <= ?4",
    [HK_SQL_KEPT] = "SELECT data FROM hark_kept WHERE key = ?1 AND until > ?2",
    [HK_SQL_KEPT_OLDEST] = "SELECT min(until) FROM hark_kept",
    [HK_SQL_KEPT_SWEEP] = "DELETE FROM hark_kept WHERE key IN "
                          "(SELECT key FROM hark_kept WHERE until <= ?1 ORDER BY until LIMIT ?2)",
};

const char *hk_sql_text(hk_sql which)
{
    if (which >= HK_SQL_TYPE_DOWN)
        return BY_TYPE " DESC";
    return which >= HK_SQL_TYPE_UP ? BY_TYPE : texts[which];
}
