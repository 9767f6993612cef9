/* static_files: GET and HEAD from files under a directory. The kernel keeps every path beneath it
 * (openat2 with RESOLVE_BENEATH), links included; names that begin with a dot are not served. */
#include "http/http_i.h"
#include "http/middleware/static_files_i.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct state {
    int dir;
    char *prefix; /* without a final '/' */
    char *index;
    int64_t max_age;
} state;

static void state_free(void *ud)
{
    state *s = ud;
    if (!s)
        return;
    if (s->dir >= 0)
        close(s->dir);
    free(s->prefix);
    free(s->index);
    free(s);
}

/* ---- which file ---- */

/* The part of the path below the prefix, "" for the directory itself; NULL when it is not ours or
 * not to be served: dot files, empty segments, encoded slashes. */
static const char *relative(const state *s, const hark_ctx *c)
{
    size_t n = strlen(s->prefix);
    const hk_path *p = &c->path;
    if (strncmp(p->text, s->prefix, n) != 0 || p->text[n] != '/')
        return NULL;
    for (size_t i = 0; i < p->n; i++) {
        const char *seg = p->text + p->off[i];
        size_t len = p->seg_len[i];
        if (memchr(seg, '/', len) || (len == 0 && i + 1 < p->n) || (len > 0 && seg[0] == '.'))
            return NULL;
    }
    return p->text + n + 1;
}

static int open_beneath(int dir, const char *name, int flags)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)(O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, dir, *name ? name : ".", &how, sizeof how);
}

/* Opens the file, or the index of a directory whose path ends in '/'. Sets *ret_dir when it is a
 * directory asked for without the '/'. */
static int open_file(const state *s, hark_ctx *c, const char *name, struct stat *st, bool *ret_dir)
{
    size_t len = strlen(name);
    if (len == 0 || name[len - 1] == '/')
        name = hark_ctx_printf(c, "%s%s", name, s->index);
    int fd = name ? open_beneath(s->dir, name, 0) : -1;
    if (fd < 0)
        return -1;
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
        return fd;
    *ret_dir = S_ISDIR(st->st_mode);
    close(fd);
    return -1;
}

static hark_err to_directory(hark_ctx *c)
{
    size_t len = strcspn(c->target, "?");
    char *to = hark_ctx_printf(c, "%.*s/%s", (int)len, c->target, c->target + len);
    return to ? hark_ctx_redirect(c, 301, to) : HARK_ENOMEM;
}

/* ---- what to say about it ---- */

static bool unchanged(const hark_ctx *c, const char *etag, const char *modified)
{
    const char *match = hark_ctx_header(c, "If-None-Match");
    if (match)
        return strcmp(match, "*") == 0 || strstr(match, etag) != NULL;
    const char *since = hark_ctx_header(c, "If-Modified-Since");
    return since && strcmp(since, modified) == 0;
}

static hark_err serve(const state *s, hark_ctx *c, int fd, const struct stat *st, const char *name)
{
    char etag[48], modified[HK_HTTP_DATE];
    uint64_t size = (uint64_t)st->st_size, from = 0, len = size;
    snprintf(etag, sizeof etag, "\"%llx-%llx%05lx\"", (unsigned long long)size,
             (unsigned long long)st->st_mtim.tv_sec, (unsigned long)st->st_mtim.tv_nsec / 1000);
    hk_http_date(st->st_mtim.tv_sec, modified);
    (void)hark_ctx_set_header(c, "ETag", etag);
    (void)hark_ctx_set_header(c, "Last-Modified", modified);
    (void)hark_ctx_set_header(c, "Accept-Ranges", "bytes");
    (void)hark_ctx_set_header(c, "X-Content-Type-Options", "nosniff");
    if (s->max_age > 0)
        (void)hark_ctx_set_header(
            c, "Cache-Control", hark_ctx_printf(c, "public, max-age=%lld", (long long)s->max_age));
    if (unchanged(c, etag, modified)) {
        close(fd);
        return hk_reply_set(c, 304, NULL, "", 0, NULL);
    }
    const char *range = hark_ctx_header(c, "Range"), *when = hark_ctx_header(c, "If-Range");
    int status = 200;
    if (range && (!when || strcmp(when, etag) == 0))
        status = hk_range(range, size, &from, &len);
    if (status == 206)
        (void)hark_ctx_set_header(
            c, "Content-Range",
            hark_ctx_printf(c, "bytes %llu-%llu/%llu", (unsigned long long)from,
                            (unsigned long long)(from + len - 1), (unsigned long long)size));
    if (status != 416)
        return hark_ctx_file(c, status, hk_media_of(name), fd, from, len);
    close(fd);
    (void)hark_ctx_set_header(c, "Content-Range",
                              hark_ctx_printf(c, "bytes */%llu", (unsigned long long)size));
    return hark_ctx_problem(c, 416, "Range Not Satisfiable", "the file is shorter");
}

static hark_err run(hark_ctx *c, void *ud)
{
    const state *s = ud;
    struct stat st = {0};
    bool directory = false;
    const char *name = relative(s, c);
    if (!name || (c->method_id != HK_GET && c->method_id != HK_HEAD))
        return hark_ctx_next(c);
    int fd = open_file(s, c, name, &st, &directory);
    if (fd >= 0) {
        size_t len = strlen(name);
        return serve(s, c, fd, &st, len && name[len - 1] != '/' ? name : s->index);
    }
    return directory ? to_directory(c) : hark_ctx_next(c);
}

/* ---- making one ---- */

static hark_err make(state *s, const hark_static_opts *o, hark_errinfo *ei)
{
    const char *prefix = o->prefix ? o->prefix : "/";
    size_t len = strlen(prefix);
    if (!o->root || prefix[0] != '/' || o->flags || o->max_age < 0)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_static_files: root must be given, prefix begins with '/'");
    s->prefix = strndup(prefix, prefix[len - 1] == '/' ? len - 1 : len);
    s->index = strdup(o->index ? o->index : "index.html");
    s->max_age = o->max_age;
    if (!s->prefix || !s->index)
        return hk_fail(ei, HARK_ENOMEM, "out of memory");
    s->dir = open(o->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0)
        return hk_fail(ei, HARK_ENOTFOUND, "hark_static_files: root %.120s: %s", o->root,
                       strerror(errno));
    int probe = open_beneath(s->dir, "", O_DIRECTORY);
    if (probe < 0)
        return hk_fail(ei, HARK_ENOTSUP, "hark_static_files: openat2: %s", strerror(errno));
    close(probe);
    return HARK_OK;
}

hark_middleware hark_static_files(const hark_static_opts *opts)
{
    hark_static_opts o;
    hark_middleware mw = {.fn = run, .free_ud = state_free};
    hark_errinfo ei = {0};
    mw.err = hk_opts_take(opts, &o, sizeof o, "hark_static_opts", &ei);
    state *s = mw.err ? NULL : calloc(1, sizeof *s);
    if (s) {
        s->dir = -1;
        mw.ud = s;
        mw.err = make(s, &o, &ei);
    } else if (!mw.err) {
        mw.err = HARK_ENOMEM;
    }
    snprintf(mw.text, sizeof mw.text, "%.199s", ei.text);
    return mw;
}
