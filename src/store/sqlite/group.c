/* Groups: what is appended and saved between begin and commit is one SQLite transaction and one
 * fsync. A commit that fails either stored nothing, or nobody can tell: then the store takes no
 * more writes, because a kernel that failed one fsync may claim success on the next although the
 * pages are gone. */
#include "store/sqlite/store_i.h"

static hark_err refuse_broken(const hark_store *s, hark_errinfo *ei)
{
    hark_err err = s->broken == HARK_ECORRUPT ? HARK_ECORRUPT : HARK_EREADONLY;
    return hk_fail(ei, err,
                   "%s takes no more writes after an earlier failure (%s); check the disk and open "
                   "the log again",
                   s->path, hark_err_name(s->broken));
}

hark_err hk_group_note(hark_store *s, hark_err err)
{
    if (err == HARK_EUNKNOWN || err == HARK_EREADONLY || err == HARK_ECORRUPT)
        s->broken = err;
    return err;
}

hark_err hk_group_begin(hark_store *s, hark_errinfo *ei)
{
    if (HK_UNLIKELY(s->broken))
        return refuse_broken(s, ei);
    hark_err err = hk_conn_do(&s->conn, HK_SQL_BEGIN_WRITE, "beginning a group", ei);
    if (err)
        return hk_group_note(s, err);
    s->kept = s->now;
    s->n_acking = 0;
    s->trimmed = false;
    s->in_group = true;
    return HARK_OK;
}

void hk_group_rollback(hark_store *s)
{
    if (!s->in_group)
        return;
    s->in_group = false;
    hk_sqlite_tx_drop(s);
    if (!sqlite3_get_autocommit(s->conn.db) &&
        hk_conn_do(&s->conn, HK_SQL_ROLLBACK, "rolling back", NULL) != HARK_OK)
        s->broken = HARK_ESTORE;
    s->now = s->kept;
    if (s->trimmed)
        hk_trim_forget(s);
    hk_versions_rolled_back(s);
    for (size_t i = 0; i < HK_NAME_KINDS; i++)
        hk_intern_rollback(&s->names[i]);
}

static void publish(hark_store *s)
{
    if (s->now.last == s->kept.last && s->now.first == s->kept.first)
        return;
    pthread_mutex_lock(&s->lock_public);
    s->first_public = s->now.first;
    s->last_public = s->now.last;
    pthread_mutex_unlock(&s->lock_public);
}

/* Did this failure of COMMIT certainly store nothing? An I/O error may have struck after the
 * commit's last frame was written; then the text must not say so either. */
static hark_err commit_outcome(hark_store *s, hark_err err, hark_errinfo *why)
{
    int code = sqlite3_extended_errcode(s->conn.db);
    if ((code & 0xff) != SQLITE_IOERR || code == SQLITE_IOERR_NOMEM)
        return err;
    return hk_fail(why, HARK_EUNKNOWN,
                   "%s: %s (SQLite %d) while committing; check the disk and open the log again; "
                   "repeating with the same id is safe",
                   s->path, sqlite3_errmsg(s->conn.db), code);
}

hark_err hk_group_commit(hark_store *s, hark_errinfo *ei)
{
    hark_errinfo why = {0};
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "commit without a group");
    hark_err err = hk_versions_settle(s, &why);
    if (!err) {
        err = hk_conn_do(&s->conn, HK_SQL_COMMIT, "committing", &why);
        err = err ? commit_outcome(s, err, &why) : HARK_OK;
    }
    if (HK_UNLIKELY(err)) {
        (void)hk_group_note(s, err);
        hk_group_rollback(s);
        return hk_fail(ei, err, "%s", why.text);
    }
    s->in_group = false;
    publish(s);
    s->kept = s->now;
    hk_versions_committed(s);
    for (size_t i = 0; i < HK_NAME_KINDS; i++)
        hk_intern_commit(&s->names[i]);
    return HARK_OK;
}
