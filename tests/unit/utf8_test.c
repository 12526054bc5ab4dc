/* utf8_test.c - what is UTF-8 and what one U+FFFD stands for. */
#include "coordinator/text/utf8.h"

#include "proto/base/checked.h"
#include "proto/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define R "\xef\xbf\xbd"

static void every_code_point_survives(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp < 0x110100; cp++) {
        char bytes[4];
        size_t n = utf8_encode(cp, bytes);
        bool is_character = cp <= 0x10ffff && (cp < 0xd800 || cp > 0xdfff);
        assert_int_equal(n > 0, is_character);
        if (!is_character) continue;
        uint32_t back = 0;
        assert_int_equal(utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, cp);
        for (size_t cut = 1; cut < n; cut++) {
            assert_int_equal(utf8_decode(bytes, cut, NULL), 0);
            assert_int_equal(utf8_unfinished(bytes, cut), cut);
            assert_int_equal(utf8_bad_bytes(bytes, cut), cut);
        }
        assert_int_equal(utf8_unfinished(bytes, n), 0);
    }
}

static void what_is_no_utf8_becomes_replacement_characters(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *want;
    } cases[] = {
        {"plain", "plain"},
        {"a\x80z", "a" R "z"},
        {"\xc0\xaf", R R},                     /* overlong */
        {"\xe0\x80\xaf", R R R},               /* overlong */
        {"\xed\xa0\x80", R R R},               /* a surrogate */
        {"\xf4\x90\x80\x80", R R R R},         /* above U+10FFFF */
        {"\xff\xfe", R R},
        {"\xe6\x97", R},                       /* cut off: one character lost, one shown */
        {"\xe6\x97" "a", R "a"},
        {"\xf0\x9f\x98\xf0\x9f\x98\x80", R "\xf0\x9f\x98\x80"},
        {"\xe6\xe6\x97\xa5", R "\xe6\x97\xa5"},
        {"\xc3", R},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = {0};
        assert_int_equal(utf8_append(&out, cases[i].bytes, strlen(cases[i].bytes), NULL), 0);
        assert_string_equal(out.bytes, cases[i].want);
        assert_true(utf8_valid(out.bytes, out.n_bytes));
        buf_fini(&out);
    }
}

static void any_bytes_become_valid_text(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 3);
    static const unsigned char likely[] = {0xe6, 0x97, 0xa5, 0xf0, 0x9f, 0x98, 0x80, 0xc3, 'a', 0xed};
    for (int round = 0; round < 20000; round++) {
        char bytes[16];
        size_t n = rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)(round % 2 ? likely[rng_below(&rng, sizeof likely)]
                                        : rng_below(&rng, 256));
        struct buf out = {0};
        assert_int_equal(utf8_append(&out, bytes, n, NULL), 0);
        assert_true(utf8_valid(out.bytes ? out.bytes : "", out.n_bytes));
        bool was_valid = utf8_valid(bytes, n);
        if (was_valid) {
            assert_int_equal(out.n_bytes, n);
            assert_int_equal(utf8_unfinished(bytes, n), 0);
        }
        assert_true(utf8_unfinished(bytes, n) <= 3);
        buf_fini(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_survives),
        cmocka_unit_test(what_is_no_utf8_becomes_replacement_characters),
        cmocka_unit_test(any_bytes_become_valid_text),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
