/* Peer: a plain loop over SQLite with hark's own schema, indexes and rows, taken from a database
 * that hark wrote, so that they are the same whatever hark's schema becomes.
 *
 *   sqlite_loop --from hark.db --dir D --group 64      inserts the rows anew, so many a commit
 *   sqlite_loop --from hark.db --read 1                reads every row in order
 *
 * Tables that have about as many rows as the log has events are inserted row by row inside the
 * measurement; smaller ones (types, meta) are copied before it. WAL, synchronous=FULL, a cache of
 * the size that hark's writer has, SQLite's own automatic checkpoints.
 */
#include "bench.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_TABLES  32
#define MAX_COLUMNS 64

typedef struct table {
    char name[128];
    sqlite3_int64 rows;
    int columns;
    sqlite3_value **values; /* rows * columns, of the tables that are measured */
    sqlite3_stmt *insert;
} table;

static table tables[MAX_TABLES];
static int n_tables;
static sqlite3_int64 most_rows;

static void check(sqlite3 *db, int rc, const char *what)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
        bench_die("sqlite: %s: %s", what, sqlite3_errmsg(db));
}

static void run(sqlite3 *db, const char *sql)
{
    check(db, sqlite3_exec(db, sql, 0, 0, 0), sql);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *fmt, const char *name)
{
    char *sql = sqlite3_mprintf(fmt, name);
    sqlite3_stmt *s = NULL;
    check(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL), sql);
    sqlite3_free(sql);
    return s;
}

static sqlite3_int64 number(sqlite3 *db, const char *fmt, const char *name)
{
    sqlite3_stmt *s = prepare(db, fmt, name);
    check(db, sqlite3_step(s), "count");
    sqlite3_int64 n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return n;
}

static void find_tables(sqlite3 *from)
{
    sqlite3_stmt *s = prepare(from,
                              "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT "
                              "LIKE 'sqlite%%' ORDER BY name",
                              NULL);
    while (sqlite3_step(s) == SQLITE_ROW) {
        if (n_tables == MAX_TABLES)
            bench_die("more than %d tables", MAX_TABLES);
        table *t = &tables[n_tables++];
        snprintf(t->name, sizeof(t->name), "%s", (const char *)sqlite3_column_text(s, 0));
        t->rows = number(from, "SELECT count(*) FROM \"%w\"", t->name);
        if (t->rows > most_rows)
            most_rows = t->rows;
    }
    sqlite3_finalize(s);
}

static bool measured(const table *t)
{
    return t->rows > 0 && t->rows * 2 >= most_rows;
}

/* ---- copying ----------------------------------------------------------------------------------
 */

static sqlite3 *open_copy(sqlite3 *from, const char *path)
{
    sqlite3 *to;
    char pragma[64];
    check(NULL, sqlite3_open(path, &to), path);
    snprintf(pragma, sizeof(pragma), "PRAGMA page_size=%lld",
             (long long)number(from, "PRAGMA page_size", NULL));
    run(to, pragma);
    snprintf(pragma, sizeof(pragma), "PRAGMA auto_vacuum=%lld",
             (long long)number(from, "PRAGMA auto_vacuum", NULL));
    run(to, pragma);
    run(to, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16384");
    sqlite3_stmt *s = prepare(from,
                              "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT "
                              "LIKE 'sqlite%%' ORDER BY type = 'table' DESC",
                              NULL);
    while (sqlite3_step(s) == SQLITE_ROW)
        run(to, (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return to;
}

static void prepare_insert(sqlite3 *to, table *t)
{
    char marks[2 * MAX_COLUMNS + 1] = "?";
    for (int i = 1; i < t->columns; i++)
        memcpy(marks + 2 * i - 1, ",?", 3);
    char *sql = sqlite3_mprintf("INSERT INTO \"%%w\" VALUES (%s)", marks);
    t->insert = prepare(to, sql, t->name);
    sqlite3_free(sql);
}

static void insert_row(sqlite3 *to, table *t, sqlite3_value **row)
{
    for (int i = 0; i < t->columns; i++)
        sqlite3_bind_value(t->insert, i + 1, row[i]);
    check(to, sqlite3_step(t->insert), t->name);
    sqlite3_reset(t->insert);
}

/* Small tables are inserted at once, the others kept in memory. */
static void load_table(sqlite3 *from, sqlite3 *to, table *t)
{
    sqlite3_stmt *s = prepare(from, "SELECT * FROM \"%w\" ORDER BY 1", t->name);
    t->columns = sqlite3_column_count(s);
    if (t->columns > MAX_COLUMNS)
        bench_die("%s: more than %d columns", t->name, MAX_COLUMNS);
    prepare_insert(to, t);
    if (measured(t))
        t->values = calloc((size_t)t->rows * (size_t)t->columns, sizeof(*t->values));
    sqlite3_value **row = t->values;
    while (sqlite3_step(s) == SQLITE_ROW) {
        sqlite3_value *own[MAX_COLUMNS];
        sqlite3_value **into = row ? row : own;
        for (int i = 0; i < t->columns; i++)
            into[i] = sqlite3_value_dup(sqlite3_column_value(s, i));
        if (row) {
            row += t->columns;
            continue;
        }
        insert_row(to, t, own);
        for (int i = 0; i < t->columns; i++)
            sqlite3_value_free(own[i]);
    }
    sqlite3_finalize(s);
}

static void insert_group(sqlite3 *to, sqlite3_int64 first, sqlite3_int64 last)
{
    run(to, "BEGIN IMMEDIATE");
    for (int k = 0; k < n_tables; k++) {
        table *t = &tables[k];
        for (sqlite3_int64 i = first; t->values && i < last && i < t->rows; i++)
            insert_row(to, t, t->values + i * t->columns);
    }
    run(to, "COMMIT");
}

static void clean_up(sqlite3 *to, const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (int k = 0; k < n_tables; k++)
        sqlite3_finalize(tables[k].insert);
    sqlite3_close(to);
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        char file[4200];
        snprintf(file, sizeof(file), "%s%s", path, suffixes[i]);
        unlink(file);
    }
}

static void write_rows(sqlite3 *from, const char *dir, long group)
{
    char path[4096];
    bench_scratch(path, sizeof(path), dir, "raw.db");
    unlink(path);
    sqlite3 *to = open_copy(from, path);
    run(to, "BEGIN");
    for (int k = 0; k < n_tables; k++)
        load_table(from, to, &tables[k]);
    run(to, "COMMIT");
    run(to, "PRAGMA wal_checkpoint(TRUNCATE)");
    bench_lat lat;
    bench_lat_init(&lat, (size_t)(most_rows / group + 1));

    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    for (sqlite3_int64 i = 0; i < most_rows; i += group) {
        int64_t start = bench_ns();
        insert_group(to, i, i + group);
        bench_lat_add(&lat, bench_ns() - start);
    }
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;
    clean_up(to, path);

    bench_out_begin("raw sqlite insert loop");
    bench_out_number("events", (double)most_rows);
    bench_out_number("group", (double)group);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)most_rows / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_lat(&lat);
    bench_out_end();
    bench_lat_free(&lat);
}

static void read_rows(sqlite3 *from)
{
    const table *log = NULL;
    for (int k = 0; k < n_tables; k++)
        if (tables[k].rows == most_rows)
            log = &tables[k];
    sqlite3_stmt *s = prepare(from, "SELECT * FROM \"%w\" ORDER BY 1", log->name);
    int columns = sqlite3_column_count(s);
    size_t bytes = 0;
    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    while (sqlite3_step(s) == SQLITE_ROW)
        for (int i = 0; i < columns; i++)
            bytes += sqlite3_column_type(s, i) == SQLITE_INTEGER
                         ? (size_t)(sqlite3_column_int64(s, i) & 1)
                         : (sqlite3_column_blob(s, i) ? (size_t)sqlite3_column_bytes(s, i) : 0);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;
    sqlite3_finalize(s);

    bench_out_begin("raw sqlite read loop");
    bench_out_number("events", (double)most_rows);
    bench_out_number("bytes", (double)bytes);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)most_rows / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_end();
}

int main(int argc, char **argv)
{
    const char *path = bench_text(argc, argv, "from", "");
    long group = bench_number(argc, argv, "group", 64);
    sqlite3 *from;
    if (group < 1)
        bench_die("--group: at least 1");
    if (sqlite3_open_v2(path, &from, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        bench_die("--from %s: %s", path, sqlite3_errmsg(from));
    run(from, "PRAGMA cache_size=-16384");
    find_tables(from);
    if (most_rows == 0)
        bench_die("--from %s: no rows", path);
    if (bench_number(argc, argv, "read", 0))
        read_rows(from);
    else
        write_rows(from, bench_text(argc, argv, "dir", "."), group);
    sqlite3_close(from);
    return 0;
}
