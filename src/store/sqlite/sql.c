/* Every statement the store runs after its file is open, in one table. The schema is in schema.c.
 */
#include "store/sqlite/conn_i.h"

#include <stddef.h>

#define BY_TYPE                                                                                    \
    "SELECT " HK_ROW_COLUMNS " FROM events INDEXED BY events_by_type "                             \
    "WHERE type_id = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq"
#define BY_SUBJECT                                                                                 \
    "SELECT " HK_ROW_COLUMNS " FROM events INDEXED BY events_by_subject "                          \
    "WHERE subject = ?1 AND subject_version BETWEEN ?2 AND ?3 ORDER BY subject_version"

static const char *const texts[HK_SQL_TYPE_UP] = {
    [HK_SQL_BEGIN_READ] = "BEGIN",
    [HK_SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [HK_SQL_COMMIT] = "COMMIT",
    [HK_SQL_ROLLBACK] = "ROLLBACK",

    [HK_SQL_INSERT_EVENT] =
        "INSERT INTO events(seq, recorded, source_id, id, type_id, mediatype_id, time, "
        "dataversion, check_sum, digest, subject, subject_version, partitionkey, correlationid, "
        "causationid, attrs, data) "
        "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17) "
        "ON CONFLICT(id, source_id) DO NOTHING",
    [HK_SQL_FIND_EVENT] = "SELECT seq, digest FROM events WHERE id = ?1 AND source_id = ?2",
    [HK_SQL_UNDO_UNIT] = "DELETE FROM events WHERE seq >= ?1",
    [HK_SQL_SUBJECT_VERSION] =
        "SELECT max(subject_version) FROM events INDEXED BY events_by_subject WHERE subject = ?1",

    [HK_SQL_FIRST_SEQ] = "SELECT min(seq) FROM events",
    [HK_SQL_LAST_SEQ] = "SELECT max(seq) FROM events",
    [HK_SQL_LAST_GONE] = "SELECT value FROM meta WHERE key = 'last_sequence'",
    [HK_SQL_RECORDED_FROM] =
        "SELECT seq, recorded FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1",
    [HK_SQL_SUBJECT_BOUNDS] = "SELECT (SELECT min(subject_version) FROM events WHERE subject = ?1),"
                              " (SELECT max(subject_version) FROM events WHERE subject = ?1)",
    [HK_SQL_SUBJECT_FROM] =
        "SELECT subject_version, seq FROM events INDEXED BY events_by_subject "
        "WHERE subject = ?1 AND subject_version >= ?2 ORDER BY subject_version LIMIT 1",

    [HK_SQL_TYPE_ID] = "SELECT id FROM types WHERE name = ?1",
    [HK_SQL_SOURCE_ID] = "SELECT id FROM sources WHERE name = ?1",
    [HK_SQL_MEDIA_ID] = "SELECT id FROM mediatypes WHERE name = ?1",
    [HK_SQL_ADD_TYPE] = "INSERT INTO types(name) VALUES(?1)",
    [HK_SQL_ADD_SOURCE] = "INSERT INTO sources(name) VALUES(?1)",
    [HK_SQL_ADD_MEDIA] = "INSERT INTO mediatypes(name) VALUES(?1)",
    [HK_SQL_TYPE_NAME] = "SELECT name FROM types WHERE id = ?1",
    [HK_SQL_SOURCE_NAME] = "SELECT name FROM sources WHERE id = ?1",
    [HK_SQL_MEDIA_NAME] = "SELECT name FROM mediatypes WHERE id = ?1",
    [HK_SQL_TYPES_ABOVE] = "SELECT id, name FROM types WHERE id > ?1 ORDER BY id",

    [HK_SQL_SCAN_UP] =
        "SELECT " HK_ROW_COLUMNS " FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
    [HK_SQL_SCAN_DOWN] =
        "SELECT " HK_ROW_COLUMNS " FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq DESC",
    [HK_SQL_NARROW_UP] =
        "SELECT " HK_NARROW_COLUMNS " FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
    [HK_SQL_NARROW_DOWN] =
        "SELECT " HK_NARROW_COLUMNS " FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq DESC",
    [HK_SQL_SUBJECT_UP] = BY_SUBJECT,
    [HK_SQL_SUBJECT_DOWN] = BY_SUBJECT " DESC",

    [HK_SQL_CONSUMER_FIND] = "SELECT id, pattern, policy, created, generation, floor, highest, "
                             "settled FROM consumers WHERE name = ?1",
    [HK_SQL_CONSUMER_ADD] =
        "INSERT INTO consumers(name, pattern, policy, start, start_sequence, start_time, created, "
        "generation, floor, highest, paused, settled) VALUES(?1,?2,?3,?4,?5,?6,?7,1,?8,?8,0,NULL)",
    [HK_SQL_CONSUMER_UPDATE] = "UPDATE consumers SET pattern = ?2, policy = ?3 WHERE id = ?1",
    [HK_SQL_CONSUMER_SAVE] = "UPDATE consumers SET floor = ?3, highest = ?4, settled = ?5 "
                             "WHERE id = ?1 AND generation = ?2",
    [HK_SQL_DELIVERIES] =
        "SELECT seq, state, attempts, crashes, interruptions, due, first, partitionkey, error "
        "FROM deliveries WHERE consumer_id = ?1 ORDER BY seq",
    [HK_SQL_DELIVERY_PUT] =
        "INSERT OR REPLACE INTO deliveries(consumer_id, seq, state, attempts, crashes, "
        "interruptions, due, first, partitionkey, error) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
    [HK_SQL_DELIVERY_DROP] = "DELETE FROM deliveries WHERE consumer_id = ?1 AND seq = ?2",
    [HK_SQL_ATTEMPT_ADD] = "INSERT INTO attempts(consumer_id, generation, seq, number, started, "
                           "ended, outcome, error) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
    [HK_SQL_DEAD_ADD] =
        "INSERT INTO dead_letters(consumer_id, generation, seq, reason, error, attempts, first, "
        "dead, state, recorded, type, envelope, data) "
        "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,1,?9,?10,?11,?12)",
};

const char *hk_sql_text(hk_sql which)
{
    if (which >= HK_SQL_TYPE_DOWN)
        return BY_TYPE " DESC";
    return which >= HK_SQL_TYPE_UP ? BY_TYPE : texts[which];
}
