/* wire_pack_test.c - packed sums: lossless at every width, and no harm from wrong bytes. */
#include "proto/wire/wire.h"

#include "proto/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Packs into memory of the size that was needed and adds onto start values: what comes back has to
 * be start + sums. Returns the packed size. */
static size_t round_trip(const int64_t *sums, size_t n, int64_t start) {
    uint8_t *room = malloc(wire_pack_bound(n) + 1);
    int64_t *back = malloc((n + 1) * sizeof *back);
    assert_true(room && back);
    size_t n_packed = wire_pack_sums(sums, n, room);
    assert_true(n_packed <= wire_pack_bound(n));
    uint8_t *packed = malloc(n_packed);
    assert_true(packed || n_packed == 0);
    if (n_packed) memcpy(packed, room, n_packed);

    struct err err = ERR_INIT;
    for (size_t i = 0; i < n; i++)
        back[i] = start;
    int64_t n_read = wire_unpack_add(packed, n_packed, back, n, &err);
    if (n_read < 0) fail_msg("%s", err.what);
    assert_int_equal(n_read, n_packed);
    for (size_t i = 0; i < n; i++)
        if (back[i] != start + sums[i])
            fail_msg("sum %zu of %zu: expected %lld, got %lld", i, n, (long long)(start + sums[i]),
                    (long long)back[i]);
    free(packed);
    free(back);
    free(room);
    return n_packed;
}

static void every_width_comes_back_and_takes_its_size(void **state) {
    (void)state;
    for (unsigned w = 0; w <= 64; w++) {
        int64_t high = w == 0 ? 0 : (int64_t)((UINT64_C(1) << (w - 1)) - 1), low = -high - (w > 0);
        int64_t sums[32];
        for (int pattern = 0; pattern < 4; pattern++) {
            for (int i = 0; i < 32; i++)
                sums[i] = pattern == 0   ? low
                          : pattern == 1 ? (i % 2 ? low : high)
                          : pattern == 2 ? (i == 31 ? low : 0)
                                         : (i == 0 ? high : 0);
            size_t n_packed = round_trip(sums, 32, 0);
            if (pattern < 3 || w == 0) assert_int_equal(n_packed, 1 + 4 * w);
            if (pattern == 3 && w > 1) assert_int_equal(n_packed, 1 + 4 * w);
        }
    }
}

static void random_sums_of_any_length_and_width_come_back(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 99);
    for (int round = 0; round < 3000; round++) {
        size_t n = (size_t)rng_below(&rng, 200);
        int64_t sums[200];
        for (size_t i = 0; i < n; i++) {
            static unsigned width;
            if (i % 32 == 0) width = (unsigned)rng_below(&rng, 65);
            sums[i] = width == 0 ? 0 : (int64_t)rng_next(&rng) >> (64 - width);
        }
        round_trip(sums, n, 0);
    }
}

static void sums_are_added_to_what_is_there(void **state) {
    (void)state;
    int64_t sums[70];
    for (int i = 0; i < 70; i++)
        sums[i] = (i - 35) * INT64_C(1234567890123);
    round_trip(sums, 70, 1000);
    round_trip(sums, 70, -1000);
}

static void the_bytes_are_as_described(void **state) {
    (void)state;
    int64_t sums[34] = {1, -1, 0, 3};
    sums[33] = -1;
    uint8_t packed[600];
    size_t n = wire_pack_sums(sums, 34, packed);
    /* Width 3: 001, 111, 000, 011 from the low bit on = 0x639. The second block has only its
     * second value, at width 1. */
    static const uint8_t expected[18] = {
            3, 0x39, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0};
    assert_int_equal(n, sizeof expected);
    assert_memory_equal(packed, expected, sizeof expected);
    assert_int_equal(wire_pack_bound(34), 2 * 257);
    assert_int_equal(wire_pack_bound(0), 0);
}

static void bytes_that_end_early_are_refused(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 5);
    int64_t sums[100];
    for (int i = 0; i < 100; i++)
        sums[i] = (int64_t)rng_next(&rng) >> (i / 32 * 15);
    uint8_t room[4 * 257];
    size_t n_packed = wire_pack_sums(sums, 100, room);
    for (size_t n = 0; n < n_packed; n++) {
        int64_t back[100] = {0};
        uint8_t *cut = malloc(n);
        assert_true(cut || n == 0);
        if (n) memcpy(cut, room, n);
        struct err err = ERR_INIT;
        assert_int_equal(wire_unpack_add(cut, n, back, 100, &err), ERR_PROTOCOL);
        assert_int_not_equal(err.what[0], 0);
        free(cut);
    }
}

static void widths_over_64_are_refused(void **state) {
    (void)state;
    uint8_t bytes[2000] = {0};
    for (unsigned w = 65; w < 256; w++) {
        int64_t back[32] = {0};
        bytes[0] = (uint8_t)w;
        assert_int_equal(wire_unpack_add(bytes, sizeof bytes, back, 32, NULL), ERR_PROTOCOL);
    }
}

static void a_sum_that_overflows_is_refused(void **state) {
    (void)state;
    static const struct {
        int64_t there, added;
        bool fits;
    } cases[] = {
            {INT64_MAX, 1, false},
            {INT64_MAX, 0, true},
            {INT64_MAX - 1, 1, true},
            {INT64_MIN, -1, false},
            {INT64_MIN, 1, true},
            {INT64_MIN, INT64_MIN, false},
            {INT64_MAX, INT64_MAX, false},
            {INT64_MAX, INT64_MIN, true},
            {0, INT64_MIN, true},
            {-1, INT64_MIN, false},
            {INT64_MAX - (INT64_C(1) << 40), INT64_C(1) << 41, false},
            {INT64_MIN + (INT64_C(1) << 40), -(INT64_C(1) << 40), true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t at = 0; at < 40; at += 3) {
            int64_t sums[40] = {0}, back[40] = {0};
            uint8_t packed[2 * 257];
            sums[at] = cases[i].added;
            back[at] = cases[i].there;
            size_t n = wire_pack_sums(sums, 40, packed);
            int64_t rc = wire_unpack_add(packed, n, back, 40, NULL);
            if ((rc >= 0) != cases[i].fits) fail_msg("case %zu at %zu", i, at);
            if (rc >= 0) assert_int_equal(back[at], cases[i].there + cases[i].added);
        }
}

static void any_bytes_at_all_do_no_harm(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, 77);
    for (int round = 0; round < 5000; round++) {
        size_t n = (size_t)rng_below(&rng, 600);
        uint8_t *bytes = malloc(n);
        assert_true(bytes || n == 0);
        for (size_t i = 0; i < n; i++)
            bytes[i] = rng_below(&rng, 20) ? (uint8_t)rng_below(&rng, 66) : (uint8_t)rng_next(&rng);
        int64_t back[256] = {0};
        int64_t rc = wire_unpack_add(bytes, n, back, (size_t)rng_below(&rng, 257), NULL);
        assert_true(rc == ERR_PROTOCOL || (rc >= 0 && rc <= (int64_t)n));
        free(bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_width_comes_back_and_takes_its_size),
            cmocka_unit_test(random_sums_of_any_length_and_width_come_back),
            cmocka_unit_test(sums_are_added_to_what_is_there),
            cmocka_unit_test(the_bytes_are_as_described),
            cmocka_unit_test(bytes_that_end_early_are_refused),
            cmocka_unit_test(widths_over_64_are_refused),
            cmocka_unit_test(a_sum_that_overflows_is_refused),
            cmocka_unit_test(any_bytes_at_all_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
