/* The parts of decoding: walking objects and lists (decode.c) and taking single values (take.c,
 * take_exact.c). */
#ifndef HK_JSON_DECODE_I_H
#define HK_JSON_DECODE_I_H

#include "json/table_i.h"

typedef struct hk_json_decoder {
    const char *text;
    size_t len;
    hark_json_errors *errors; /* may be NULL */
    hark_err err;             /* the worst so far */
    size_t memory;            /* bytes that may still be allocated */
} hk_json_decoder;

/* Zeroed memory within the bounds of the decode; NULL, and the fault is noted, when there is none.
 */
void *hk_json_decoder_alloc(hk_json_decoder *d, const hk_json_path *at, size_t count, size_t size);

/* Notes "<what is there>, expected <what the field takes>" for the value at `at`. */
void hk_json_decoder_refuse(hk_json_decoder *d, const hk_json_path *at, hk_json_slice value,
                            const hark_json_field *field, const char *rule, const char *fmt, ...)
    HARK_PRINTF(6, 7);
/* The same with words for the value itself: "is 5.5", "is an object". */
void hk_json_decoder_refuse_value(hk_json_decoder *d, const hk_json_path *at, hk_json_slice value,
                                  const hark_json_field *field, const char *rule);

/* Take a string, or a number, of which they find that it fits (take_exact.c). */
void hk_json_take_time(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *field,
                       hk_json_slice value, char *member);
void hk_json_take_decimal(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *field,
                          hk_json_slice value, char *member);
void hk_json_take_bytes(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *field,
                        hk_json_slice value, char *base);

/* Takes a value that is neither object nor list into its member of the struct at `base`. */
void hk_json_take(hk_json_decoder *d, const hk_json_path *at, const hark_json_field *field,
                  hk_json_slice value, char *base);

#endif
