/* What becomes of the program's statements before the server sees them. */
#include "store/postgres/program_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static hark_errinfo ei;

static hark_err said(const char *sql, bool beside, hk_pg_statement *ret)
{
    ei = (hark_errinfo){0};
    return hk_pg_translate(sql, "hark_shop", beside, ret, &ei);
}

static void becomes(const char *sql, const char *expected, size_t params)
{
    hk_pg_statement st;
    if (said(sql, false, &st))
        fail_msg("%s: %s", sql, ei.text);
    if (strcmp(st.sql, expected) != 0 || st.params != params)
        fail_msg("%s: expected %s with %zu, got %s with %zu", sql, expected, params, st.sql,
                 st.params);
    free(st.sql);
}

static void same(const char *sql)
{
    becomes(sql, sql, 0);
}

static void refused(hark_err expected, const char *sql, bool beside, const char *part)
{
    hk_pg_statement st = {0};
    hark_err err = said(sql, beside, &st);
    if (err != expected || st.sql || !strstr(ei.text, part))
        fail_msg("%s: expected %s with '%s', got %s: %s", sql, hark_err_name(expected), part,
                 hark_err_name(err), ei.text);
    assert_int_equal(ei.err, expected);
}

static void denied(const char *sql, const char *part)
{
    refused(HARK_EDENIED, sql, false, part);
    refused(HARK_EDENIED, sql, true, "in a query");
}

static void changes(const char *sql, bool expected)
{
    hk_pg_statement st;
    if (said(sql, false, &st))
        fail_msg("%s: %s", sql, ei.text);
    if (st.reads == expected)
        fail_msg("%s: it %s", sql, expected ? "changes something" : "only reads");
    free(st.sql);
}

static void test_placeholders_are_numbered_as_in_sqlite(void **state)
{
    (void)state;
    becomes("INSERT INTO t VALUES(?, ?)", "INSERT INTO t VALUES($1, $2)", 2);
    becomes("UPDATE t SET a = ?2 WHERE b = ?1", "UPDATE t SET a = $2 WHERE b = $1", 2);
    becomes("SELECT ?3, ?, ?1, ?", "SELECT $3, $4, $1, $5", 5);
    becomes("SELECT $2, $1, ?", "SELECT $2, $1, $3", 3);
    becomes("SELECT 1 LIMIT?", "SELECT 1 LIMIT $1", 1);
    becomes("SELECT ?AND ?", "SELECT $1 AND $2", 2);
    becomes("SELECT n::text||? FROM a$1", "SELECT n::text||$1 FROM a$1", 1);
    refused(HARK_EINVAL, "SELECT ?0", false, "?0");
    refused(HARK_EINVAL, "SELECT ?65536", false, "?65536");
    refused(HARK_EINVAL, "SELECT ?99999999999999999999", false, "?999");
}

static void test_question_marks_within_quotes_and_comments_stay(void **state)
{
    (void)state;
    same("SELECT 'what?', '''?', '\\?'");
    same("SELECT \"a?\"\"?\" FROM t");
    same("SELECT E'it\\'s?', e'\\\\?'");
    same("SELECT E'a'\n  'b\\'?' 'c'");
    same("SELECT $$ why? $$, $a$ $$ ? $b$ $a$");
    becomes("SELECT 1 -- why?\n, 2 -- ?", "SELECT 1 -- why?\n, 2", 0);
    same("SELECT 1 /* ? /* ? */ ? */, 2");
    same("SELECT U&'d\\0061t?', B'1', N'?', 1.5e-7, 1e");
    becomes("SELECT '\\' || ?", "SELECT '\\' || $1", 1);
    becomes("SELECT E'x' || '\\' || ?", "SELECT E'x' || '\\' || $1", 1);
    becomes("SELECT 1/?", "SELECT 1/$1", 1);
    becomes("SELECT 2-?--?", "SELECT 2-$1", 1);
}

static void test_a_doubled_question_mark_is_the_operator(void **state)
{
    (void)state;
    becomes("SELECT data ?? ?", "SELECT data ? $1", 1);
    becomes("SELECT data ??| ?, b @?? '$'", "SELECT data ?| $1, b @? '$'", 1);
    becomes("SELECT data ??&?", "SELECT data ?&$1", 1);
}

static void test_what_is_not_ended_is_left_to_the_server(void **state)
{
    (void)state;
    same("SELECT 'what?");
    same("SELECT \"what?");
    same("SELECT $a$ what? $b$");
    same("SELECT E'what?\\");
    becomes("SELECT ? /* what? /* */", "SELECT $1", 1);
}

static void test_there_is_one_statement(void **state)
{
    (void)state;
    becomes("SELECT 1;", "SELECT 1", 0);
    becomes(" ; SELECT 1 ; ; -- more\n /* and more; */ ", "  SELECT 1 ", 0);
    becomes("SELECT 1; -- what?", "SELECT 1", 0);
    same("CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b)");
    same("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 "
         "END; END");
    same("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2; $$");
    refused(HARK_EINVAL, "", false, "no statement");
    refused(HARK_EINVAL, " -- nothing", false, "no statement");
    refused(HARK_EINVAL, ";;", false, "no statement");
    refused(HARK_EINVAL, "SELECT 1; SELECT 2", false, "second begins with: SELECT 2");
    refused(HARK_EINVAL, "SELECT 1; nonsense", false, "nonsense");
    refused(HARK_EINVAL, "SELECT 1; COMMIT", true, "COMMIT");
    refused(HARK_EINVAL,
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; DELETE FROM t", false,
            "DELETE FROM t");
}

static void test_what_would_end_or_outlive_the_transaction_is_denied(void **state)
{
    (void)state;
    static const char *const verbs[] = {"BEGIN",
                                        "START TRANSACTION",
                                        "COMMIT",
                                        "END",
                                        "ROLLBACK",
                                        "ABORT",
                                        "SAVEPOINT x",
                                        "RELEASE x",
                                        "ROLLBACK TO x",
                                        "PREPARE p AS SELECT 1",
                                        "EXECUTE p",
                                        "DEALLOCATE ALL",
                                        "LISTEN x",
                                        "NOTIFY x",
                                        "UNLISTEN *",
                                        "SET search_path = a",
                                        "SET LOCAL lock_timeout = 0",
                                        "RESET ALL",
                                        "DISCARD ALL",
                                        "DECLARE c CURSOR FOR SELECT 1",
                                        "FETCH c",
                                        "CLOSE ALL",
                                        "DO $$ BEGIN END $$",
                                        "CALL p()",
                                        "COPY t TO STDOUT",
                                        "LOCK t",
                                        "VACUUM",
                                        "CLUSTER",
                                        "CHECKPOINT",
                                        "LOAD 'x'",
                                        "commit",
                                        "/* now */ Commit;",
                                        "-- now\ncommit"};
    for (size_t i = 0; i < HK_COUNTOF(verbs); i++)
        denied(verbs[i], "is denied");
    refused(HARK_EDENIED, "commit", false,
            "COMMIT is denied inside a transaction closure: return HARK_OK to commit");
    refused(HARK_EDENIED, "rollback", false, "return an error");
    refused(HARK_EDENIED, "rollback", true, "a transaction of its own");
    denied("CREATE DATABASE x", "CREATE DATABASE");
    denied("DROP TABLESPACE x", "DROP TABLESPACE");
    denied("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM");
    denied("DROP OWNED BY CURRENT_USER", "DROP OWNED");
    denied("CREATE INDEX CONCURRENTLY i ON t(n)", "CONCURRENTLY");
    denied("REINDEX TABLE CONCURRENTLY t", "CONCURRENTLY");
    denied("EXPLAIN ANALYZE EXECUTE p", "EXECUTE");
    denied("EXPLAIN (ANALYZE, BUFFERS) EXECUTE p", "EXECUTE");
    denied("CREATE TABLE t AS EXECUTE p", "EXECUTE");
    denied("SELECT set_config('fsync', 'off', false)", "set_config");
    denied("SELECT pg_catalog . set_config ('a', 'b', true)", "set_config");
    denied("SELECT pg_advisory_unlock_all()", "pg_advisory_xact_lock");
}

static void test_temporary_tables_are_denied(void **state)
{
    (void)state;
    denied("CREATE TEMP TABLE t(n int)", "temporary tables");
    denied("CREATE LOCAL TEMPORARY TABLE t(n int)", "temporary tables");
    denied("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", "temporary tables");
    denied("CREATE TABLE pg_temp.t(n int)", "temporary tables");
    denied("SELECT 1 INTO TEMP t", "temporary tables");
    same("SELECT temp, temporary FROM weather");
    same("INSERT INTO temp VALUES(1)");
    same("CREATE TABLE weather(temp int)");
}

static void test_the_logs_own_tables_are_denied(void **state)
{
    (void)state;
    static const char *const ours[] = {
        "SELECT * FROM hark_shop.events",
        "SELECT * FROM HARK_shop . events",
        "SELECT * FROM \"hark_shop\".events",
        "SELECT * FROM hark.events",
        "SELECT * FROM hark_other.events",
        "DELETE FROM hark_events",
        "UPDATE hark_events SET n = 1",
        "INSERT INTO hark_shop.log VALUES(1)",
        "SELECT n FROM t, hark_shop.events",
        "SELECT hark_shop.f()",
        "SELECT hark_f()",
        "DROP TABLE IF EXISTS hark_events",
        "ALTER TABLE t RENAME TO hark_events",
        "ALTER TABLE t SET SCHEMA hark_shop",
        "DROP SCHEMA hark",
        "DROP SCHEMA IF EXISTS a, hark_shop CASCADE",
        "CREATE SCHEMA hark",
        "GRANT ALL ON SCHEMA hark TO x",
        "CREATE TABLE hark_mine(n int)",
        "CREATE VIEW hark_mine AS SELECT 1",
        "CREATE INDEX i ON hark_events(n)",
        "CREATE TRIGGER t AFTER INSERT ON hark_events EXECUTE FUNCTION f()",
        "CREATE TABLE t(n int REFERENCES hark_shop.events)",
        "TRUNCATE hark_events",
        "ANALYZE hark_events",
        "REINDEX TABLE hark_events",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DELETE FROM hark_shop.events $$",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC DELETE FROM hark_shop.events; END",
        "CREATE FUNCTION f() RETURNS int SET search_path = hark_shop LANGUAGE sql AS 'SELECT 1'"};
    for (size_t i = 0; i < HK_COUNTOF(ours); i++)
        denied(ours[i], "are the log's");
    same("SELECT hark, harken, hark_event FROM t WHERE t.hark_id = 'hark_shop.events'");
    becomes("SELECT 1 -- hark_shop.events", "SELECT 1", 0);
    same("INSERT INTO t(n, hark_id) VALUES(1, 2)");
    same("SELECT a FROM t JOIN u ON hark_id = id");
    same("CREATE TABLE hark(n int)");
    same("CREATE TABLE events(n int)");
    same("COMMENT ON TABLE t IS 'like hark_events'");
}

static void test_what_may_change_something_is_told_from_what_only_reads(void **state)
{
    (void)state;
    static const char *const reads[] = {
        "SELECT 1",
        "(SELECT 1)",
        "VALUES(1)",
        "TABLE t",
        "SHOW server_version",
        "SELECT count(*), max(n) FROM t WHERE n IN (1, 2) AND (a OR b)",
        "WITH r(n) AS (SELECT 1) SELECT n FROM r",
        "EXPLAIN SELECT 1",
        "SELECT CAST(n AS numeric(5)), coalesce(a, (SELECT 1)) FROM t ORDER BY lower(b)"};
    static const char *const writes[] = {"INSERT INTO t VALUES(1)",
                                         "UPDATE t SET n = 1",
                                         "DELETE FROM t",
                                         "TRUNCATE t",
                                         "CREATE TABLE t(n int)",
                                         "SELECT 1 INTO t",
                                         "SELECT nextval('s')",
                                         "SELECT mine()",
                                         "SELECT * FROM t FOR UPDATE",
                                         "SELECT \"count\"(1)",
                                         "NONSENSE",
                                         "WITH x AS (DELETE FROM t RETURNING n) SELECT n FROM x",
                                         "EXPLAIN ANALYZE DELETE FROM t"};
    for (size_t i = 0; i < HK_COUNTOF(reads); i++)
        changes(reads[i], false);
    for (size_t i = 0; i < HK_COUNTOF(writes); i++)
        changes(writes[i], true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placeholders_are_numbered_as_in_sqlite),
        cmocka_unit_test(test_question_marks_within_quotes_and_comments_stay),
        cmocka_unit_test(test_a_doubled_question_mark_is_the_operator),
        cmocka_unit_test(test_what_is_not_ended_is_left_to_the_server),
        cmocka_unit_test(test_there_is_one_statement),
        cmocka_unit_test(test_what_would_end_or_outlive_the_transaction_is_denied),
        cmocka_unit_test(test_temporary_tables_are_denied),
        cmocka_unit_test(test_the_logs_own_tables_are_denied),
        cmocka_unit_test(test_what_may_change_something_is_told_from_what_only_reads),
    };
    return cmocka_run_group_tests_name("translate", tests, NULL, NULL);
}
