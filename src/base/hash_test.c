/* Tests of the hashes: SipHash-2-4-128 against its reference vectors. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

/* Outputs for the messages 00, 00 01, 00 01 02, ... of growing length under the key 00 01 .. 0f, as
 * published with the reference implementation (vectors_sip128). */
static const struct {
    size_t len;
    const char *hex;
} vectors[] = {{0, "a3817f04ba25a8e66df67214c7550293"},  {1, "da87c1d86b99af44347659119b22fc45"},
               {2, "8177228da4a45dc7fca38bdef60affe4"},  {3, "9c70b60c5267a94e5f33b6b02985ed51"},
               {4, "f88164c12d9c8faf7d0f6e7c7bcd5579"},  {5, "1368875980776f8854527a07690e9627"},
               {6, "14eeca338b208613485ea0308fd7a15e"},  {7, "a1f1ebbed8dbc153c0b84aa61ff08239"},
               {8, "3b62a9ba6258f5610f83e264f31497b4"},  {9, "264499060ad9baabc47f8b02bb6d71ed"},
               {10, "00110dc378146956c95447d3f3d0fbba"}, {11, "0151c568386b6677a2b4dc6f81e5dc18"},
               {12, "d626b266905ef35882634df68532c125"}, {13, "9869e247e9c08b10d029934fc4b952f7"},
               {14, "31fcefac66d7de9c7ec7485fe4494902"}, {15, "5493e99933b0a8117e08ec0f97cfc3d9"},
               {16, "6ee2a4ca67b054bbfd3315bf85230577"}, {17, "473d06e8738db89854c066c47ae47740"},
               {18, "a426e5e423bf4885294da481feaef723"}, {23, "c9d184ddd5a9f5e0cf8ce29a9abf691c"},
               {24, "2db479ae78bd50d8882a8a178a6132ad"}, {31, "2939b0183223fafc1723de4f52c43d35"},
               {32, "7c3956ca5eeafc3e363e9d556546eb68"}, {63, "5150d1772f50834a503e069a973fbd7c"}};

static void init(hk_sip *s, uint8_t message[64])
{
    uint8_t key[16];
    for (size_t i = 0; i < 16; i++)
        key[i] = (uint8_t)i;
    for (size_t i = 0; i < 64; i++)
        message[i] = (uint8_t)i;
    hk_sip_init(s, key);
}

static void check_end(hk_sip *s, size_t v)
{
    uint8_t out[16];
    char text[33];
    hk_sip_end(s, out);
    for (size_t i = 0; i < 16; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", out[i]);
    assert_string_equal(text, vectors[v].hex);
}

static void test_siphash_gives_the_reference_vectors(void **state UNUSED)
{
    for (size_t v = 0; v < HK_COUNTOF(vectors); v++) {
        hk_sip s;
        uint8_t message[64];
        init(&s, message);
        hk_sip_add(&s, message, vectors[v].len);
        check_end(&s, v);
    }
}

static void test_siphash_does_not_care_how_the_message_is_cut(void **state UNUSED)
{
    for (size_t v = 0; v < HK_COUNTOF(vectors); v++)
        for (size_t a = 0; a <= vectors[v].len; a++)
            for (size_t b = a; b <= vectors[v].len; b++) {
                hk_sip s;
                uint8_t message[64];
                init(&s, message);
                hk_sip_add(&s, message, a);
                hk_sip_add(&s, message + a, b - a);
                hk_sip_add(&s, message + b, vectors[v].len - b);
                check_end(&s, v);
            }
}

static void test_siphash_takes_a_message_byte_by_byte(void **state UNUSED)
{
    for (size_t v = 0; v < HK_COUNTOF(vectors); v++) {
        hk_sip s;
        uint8_t message[64];
        init(&s, message);
        for (size_t i = 0; i < vectors[v].len; i++)
            hk_sip_add(&s, message + i, 1);
        check_end(&s, v);
    }
}

static void test_another_key_gives_another_siphash(void **state UNUSED)
{
    uint8_t key[16] = {0}, a[16], b[16];
    hk_sip s;
    hk_sip_init(&s, key);
    hk_sip_add(&s, "same", 4);
    hk_sip_end(&s, a);
    for (size_t i = 0; i < 16; i++) {
        key[i] ^= 1;
        hk_sip_init(&s, key);
        hk_sip_add(&s, "same", 4);
        hk_sip_end(&s, b);
        assert_memory_not_equal(a, b, 16);
        key[i] ^= 1;
    }
}

static void test_the_fast_hash_tells_length_and_every_byte_apart(void **state UNUSED)
{
    enum { LEN = 40 };
    uint64_t of_zeros[LEN + 1];
    for (size_t len = 0; len <= LEN; len++) {
        unsigned char *p =
            calloc(1, len + !len); /* of exactly that size: nothing past it is read */
        assert_non_null(p);
        of_zeros[len] = hk_hash(p, len);
        assert_int_equal(hk_hash(p, len), of_zeros[len]);
        for (size_t i = 0; i < len; i++)
            assert_int_not_equal(of_zeros[i], of_zeros[len]);
        for (size_t i = 0; i < len; i++) {
            p[i] = 1;
            assert_int_not_equal(hk_hash(p, len), of_zeros[len]);
            p[i] = 0;
        }
        free(p);
    }
}

static void test_random_bytes_fill_the_whole_buffer(void **state UNUSED)
{
    unsigned char any[1000] = {0}, again[1000] = {0};
    for (int i = 0; i < 20; i++) {
        unsigned char more[1000];
        hk_random(more, sizeof more);
        for (size_t k = 0; k < sizeof any; k++)
            any[k] |= more[k];
    }
    for (size_t k = 0; k < sizeof any; k++)
        assert_int_not_equal(any[k], 0);
    hk_random(any, sizeof any);
    hk_random(again, sizeof again);
    assert_memory_not_equal(any, again, sizeof any);
    hk_random(any, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_siphash_gives_the_reference_vectors),
        cmocka_unit_test(test_siphash_does_not_care_how_the_message_is_cut),
        cmocka_unit_test(test_siphash_takes_a_message_byte_by_byte),
        cmocka_unit_test(test_another_key_gives_another_siphash),
        cmocka_unit_test(test_the_fast_hash_tells_length_and_every_byte_apart),
        cmocka_unit_test(test_random_bytes_fill_the_whole_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
