/* Fuzzes the slicer and the field tables with libFuzzer:
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -Iinclude -Isrc \
 *         fuzz/json_fuzz.c <sources of src/json and src/base without tests> -o json_fuzz
 *
 * What is accepted must be walkable, and what is decoded must be written and read back the same.
 */
#include "json/json.h"

#include <stdlib.h>
#include <string.h>

struct node {
    char *name;
    char code[5];
    int16_t number;
    uint64_t big;
    double real;
    bool has_real;
    char *raw;
    size_t raw_len;
    char **words;
    size_t n_words;
    uint8_t bytes[4];
    size_t n_bytes;
    struct node *kids;
    size_t n_kids;
    int color;
    int64_t at;
    bool has_at;
    void *blob;
    size_t blob_len;
    int64_t price;
    int64_t rate;
    bool has_rate;
};

static const hark_json_name colors[] = {{"red", 0}, {"blue", 2}, {NULL, 0}};

HARK_JSON_TABLE_STRICT(node_json, struct node, HARK_JSON_STR(struct node, name, .max_len = 9),
                       HARK_JSON_CHARS(struct node, code), HARK_JSON_INT(struct node, number),
                       HARK_JSON_INT(struct node, big, HARK_JSON_MIN(1)),
                       HARK_JSON_DOUBLE(struct node, real, HARK_JSON_HAS(struct node, has_real)),
                       HARK_JSON_RAW(struct node, raw, raw_len),
                       HARK_JSON_LIST(struct node, words, n_words),
                       HARK_JSON_FIXED_LIST(struct node, bytes, n_bytes),
                       HARK_JSON_ARRAY(struct node, kids, n_kids, &node_json),
                       HARK_JSON_ENUM(struct node, color, colors),
                       HARK_JSON_TIME(struct node, at, HARK_JSON_HAS(struct node, has_at)),
                       HARK_JSON_BYTES(struct node, blob, blob_len, .max_len = 9),
                       HARK_JSON_DECIMAL(struct node, price, 2, HARK_JSON_MIN(-1)),
                       HARK_JSON_DECIMAL(struct node, rate, 18, .as_text = true,
                                         HARK_JSON_HAS(struct node, has_rate)));

static void must(bool truth)
{
    if (!truth)
        abort();
}

static void look_at_decimal(hk_json_slice s, int digits)
{
    hk_buf b = {0};
    int64_t units, again;
    hk_json_slice root;
    if (hk_json_decimal(s, digits, &units) != HARK_OK)
        return;
    hk_json_add_decimal(&b, units, digits);
    must(hk_json_check(b.data, b.len, NULL, &root, NULL) == HARK_OK);
    must(hk_json_decimal(root, digits, &again) == HARK_OK && again == units);
    hk_buf_free(&b);
}

static void look_at(hk_json_slice s)
{
    hk_buf b = {0};
    int64_t i;
    uint64_t u;
    double d;
    hk_json_unescape(s, &b);
    must(b.len == hk_json_string_measure(s).bytes);
    must(hk_utf8_valid(b.data, b.len) == b.len);
    hk_buf_free(&b);
    if (hk_json_double(s, &d) == HARK_OK) {
        double back;
        hk_json_slice root;
        must(hk_json_add_double(&b, d));
        must(hk_json_check(b.data, b.len, NULL, &root, NULL) == HARK_OK);
        must(hk_json_double(root, &back) == HARK_OK && memcmp(&d, &back, sizeof(d)) == 0);
        hk_buf_free(&b);
    }
    if (hk_json_int64(s, &i) == HARK_OK && i >= 0)
        must(hk_json_uint64(s, &u) == HARK_OK && u == (uint64_t)i);
    for (int digits = 0; digits <= 18; digits += 6)
        look_at_decimal(s, digits);
}

static void walk(hk_json_slice s)
{
    hk_json_iter it;
    hk_json_slice name, value;
    look_at(s);
    for (hk_json_iter_init(&it, s); hk_json_iter_next(&it, &name, &value);) {
        must(value.ptr >= s.ptr && value.ptr + value.len <= s.ptr + s.len);
        must(hk_json_check(value.ptr, value.len, NULL, NULL, NULL) == HARK_OK);
        look_at(name);
        walk(value);
    }
}

static void round_trip(const char *text, size_t len)
{
    struct node node = {.big = 1}, again = {.big = 1};
    hark_json_errors errors;
    char *first, *second;
    if (hark_json_decode(&node_json, text, len, &node, &errors) != HARK_OK) {
        must(errors.count > 0 && node.name == NULL && node.kids == NULL && node.raw == NULL &&
             node.blob == NULL);
        return;
    }
    hark_err err = hark_json_encode(&node_json, &node, &first, NULL, NULL);
    must(err == HARK_OK);
    must(hark_json_decode(&node_json, first, strlen(first), &again, NULL) == HARK_OK);
    must(again.at == node.at && again.price == node.price && again.rate == node.rate);
    must(again.blob_len == node.blob_len &&
         (node.blob_len == 0 || memcmp(again.blob, node.blob, node.blob_len) == 0));
    must(hark_json_encode(&node_json, &again, &second, NULL, NULL) == HARK_OK);
    must(strcmp(first, second) == 0);
    hark_json_free(&node_json, &node);
    hark_json_free(&node_json, &again);
    free(first);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    hk_json_slice root = hk_json_root(text, size), name, value;
    hk_json_iter it;
    for (hk_json_iter_init(&it, root); hk_json_iter_next(&it, &name, &value);)
        hk_json_string_measure(value);
    if (hk_json_check(text, size, NULL, &root, NULL) == HARK_OK)
        walk(root);
    round_trip(text, size);
    return 0;
}
