/* hark/error.h: error codes, their classes and the detail record.
 *
 * Every hark call that can fail returns hark_err; HARK_OK is 0. Values are fixed for ever.
 * One table makes the enum, the names, the texts, the classes and the HTTP status of each.
 */
#ifndef HARK_ERROR_H
#define HARK_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HARK_API               __attribute__((visibility("default")))
#define HARK_MUST              __attribute__((warn_unused_result))
#define HARK_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Options and specs are structs whose first member is their size; zero means default. Write them
 * as HARK_OPTS(hark_bus_opts, .source = "/shop"). A larger struct than the library knows is
 * accepted only if the unknown tail is zero; unknown flag bits are refused. */
#define HARK_OPTS(T, ...) (&(const T){.size = sizeof(T), __VA_ARGS__})

/* What a caller may conclude from an error (DESIGN promise 10). */
typedef enum hark_class {
    HARK_CLASS_OK = 0,        /* no error */
    HARK_CLASS_REFUSED = 1,   /* nothing stored; repeating the same call is useless */
    HARK_CLASS_TRANSIENT = 2, /* nothing stored; repeat later */
    HARK_CLASS_UNKNOWN = 3,   /* may be stored; repeat with the same source and id */
    HARK_CLASS_FATAL = 4      /* the bus is read-only from now on */
} hark_class;

/* X(name, value, class, HTTP status, text) */
#define HARK_ERR_MAP(X)                                                                            \
    X(OK, 0, OK, 200, "success")                                                                   \
    X(EINVAL, 1, REFUSED, 400, "invalid argument")                                                 \
    X(ENOMEM, 2, TRANSIENT, 503, "out of memory")                                                  \
    X(EAGAIN, 3, TRANSIENT, 503, "a bounded queue is full; try again")                             \
    X(ETIMEDOUT, 4, UNKNOWN, 504, "the deadline passed")                                           \
    X(ECLOSED, 5, REFUSED, 503, "closed or closing")                                               \
    X(EEXIST, 6, REFUSED, 409, "already exists")                                                   \
    X(ENOTFOUND, 7, REFUSED, 404, "not found")                                                     \
    X(ECONFLICT, 8, REFUSED, 409, "the same identity exists with other content")                   \
    X(EDURABILITY, 9, REFUSED, 422, "the store cannot meet the durability asked for")              \
    X(ENOTSUP, 10, REFUSED, 501, "not supported by this store")                                    \
    X(EWRONGTHREAD, 11, REFUSED, 500, "a blocking call on a thread that must not block")           \
    X(ESYNTAX, 12, REFUSED, 400, "malformed input")                                                \
    X(ESCHEMA, 13, REFUSED, 422, "well-formed input that breaks a rule")                           \
    X(ETOOBIG, 14, REFUSED, 413, "too large")                                                      \
    X(EMEDIA, 15, REFUSED, 415, "unsupported media type")                                          \
    X(ESTORE, 16, TRANSIENT, 503, "the store failed; nothing was stored")                          \
    X(EUNKNOWN, 17, UNKNOWN, 503, "the store failed; the outcome is unknown")                      \
    X(EFULL, 18, TRANSIENT, 507, "no space left in the store")                                     \
    X(EREADONLY, 19, FATAL, 503, "the log is read-only")                                           \
    X(ECORRUPT, 20, FATAL, 500, "the log is damaged")                                              \
    X(ELOCKED, 21, REFUSED, 503, "held by another process")                                        \
    X(EFORMAT, 22, REFUSED, 500, "not a hark log, or one of another version")                      \
    X(ESYS, 23, TRANSIENT, 500, "a system call failed")                                            \
    X(EGAP, 24, REFUSED, 410, "the position is no longer in the log")                              \
    X(ESTALE, 25, REFUSED, 409, "settled too late, or already settled")                            \
    X(EDENIED, 26, REFUSED, 403, "not allowed")                                                    \
    X(ECANCELED, 27, REFUSED, 499, "cancelled")                                                    \
    X(EINTERNAL, 28, REFUSED, 500, "internal error")                                               \
    X(EUNAUTHORIZED, 29, REFUSED, 401, "no valid credentials")                                     \
    X(EMETHOD, 30, REFUSED, 405, "method not allowed")                                             \
    X(EVERSION, 31, REFUSED, 409, "the subject is at another version than expected")               \
    X(EUPCAST, 32, REFUSED, 500, "no path from a stored version of the event to the one wanted")   \
    X(EDEADLINE, 33, TRANSIENT, 503, "the transaction took longer than its deadline")              \
    X(ESQL, 34, REFUSED, 500, "the SQL failed")                                                    \
    X(ECONSTRAINT, 35, REFUSED, 409, "a constraint of the program's own tables")                   \
    X(EDEAD, 36, REFUSED, 424, "the event was dead-lettered")

typedef enum hark_err {
#define HARK_ERR_ENUM(name, value, cls, http, text) HARK_##name = (value),
    HARK_ERR_MAP(HARK_ERR_ENUM)
#undef HARK_ERR_ENUM
} hark_err;

/* Detail of a failure, owned by the caller; filled only when a call fails. `text` says what,
 * where and how to mend it, on one line. */
typedef struct hark_errinfo {
    hark_err err;
    char text[508];
} hark_errinfo;

/* Fills *ei for a function of your own that takes one, and returns `err`: the text is cut where it is
 * full and made one line. NULL is fine.
 * Ownership: fills *ei.
 * Threads: any.
 * Blocks: no.
 * Errors: the one given. */
HARK_API hark_err hark_errinfo_set(hark_errinfo *ei, hark_err err, const char *fmt, ...)
    HARK_PRINTF(3, 4);

/* Name of a code, e.g. "HARK_EINVAL"; "HARK_?" for a value that is none.
 * Ownership: static string.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API const char *hark_err_name(hark_err err);

/* One line of text for a code.
 * Ownership: static string.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API const char *hark_err_text(hark_err err);

/* Class of a code: what the caller may conclude about what is stored.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none; an unknown value counts as HARK_CLASS_UNKNOWN. */
HARK_API hark_class hark_err_class(hark_err err);

/* HTTP status that a code maps to.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none; an unknown value gives 500. */
HARK_API int hark_err_http(hark_err err);

#ifdef __cplusplus
}
#endif
#endif
