/* model_rope_test.c - frequencies of rotary pairs, and the key/value cache's layout.
 * Check values: the table of YaRN ranges in the architecture fact sheets. */
#include "coordinator/model/model_arch.h"

#include "proto/base/checked.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void make(struct model_rope *rope, const struct model_rope_params *params,
        const float *factors) {
    struct err err = ERR_INIT;
    if (model_rope_init(rope, params, factors, &err) < 0) fail_msg("%s", err.what);
}

static void assert_ratio(double a, double b, double ratio) {
    if (!(fabs(a / b - ratio) < 1e-12 * ratio)) fail_msg("%g / %g is not %g", a, b, ratio);
}

static void plain_frequencies_are_powers_of_the_base(void **state) {
    (void)state;
    const struct model_rope_params p = {.n_rot = 64, .base = 10000, .factor = 1, .attn_factor = 1};
    struct model_rope rope;
    make(&rope, &p, NULL);
    for (uint32_t i = 0; i < 32; i++)
        assert_ratio(rope.inv_freq[i], pow(10000, -(double)i / 32), 1);
    assert_true(rope.mag == 1.0f);
    model_rope_fini(&rope);
}

static void linear_scaling_divides_all_frequencies(void **state) {
    (void)state;
    const struct model_rope_params p = {.n_rot = 16, .base = 500, .factor = 4, .attn_factor = 1};
    struct model_rope rope;
    make(&rope, &p, NULL);
    for (uint32_t i = 0; i < 8; i++)
        assert_ratio(pow(500, -(double)i / 8), rope.inv_freq[i], 4);
    model_rope_fini(&rope);
}

static void frequency_divisors_apply_per_pair(void **state) {
    (void)state;
    const struct model_rope_params p = {.n_rot = 8, .base = 10000, .factor = 1, .attn_factor = 1};
    const float factors[] = {1, 1.5f, 8, 32};
    struct model_rope rope;
    make(&rope, &p, factors);
    for (uint32_t i = 0; i < 4; i++)
        assert_ratio(pow(10000, -(double)i / 4), rope.inv_freq[i], (double)factors[i]);
    model_rope_fini(&rope);

    const float bad[] = {1, NAN, 1, 1};
    struct err err = ERR_INIT;
    assert_int_equal(model_rope_init(&rope, &p, bad, &err), ERR_BAD_INPUT);
}

struct yarn_case {
    double base, fast, slow, factor, mag;
    uint32_t lo, hi;
};

/* Pairs up to lo keep their frequency, pairs from hi on are divided, those between lie between. */
static void yarn_ramps_between_the_known_pairs(void **state) {
    (void)state;
    static const struct yarn_case cases[] = {
            {1e4, 32, 1, 40, 1.368888, 10, 23}, /* DeepSeek-V3 */
            {5e4, 1, 1, 32, 1.346574, 19, 20},  /* Kimi-K2 */
            {5e4, 1, 1, 64, 1.415888, 19, 20},
            {5e4, 32, 1, 32, 1.346574, 8, 20},  /* the same without beta keys */
            {150000, 32, 1, 32, 1.346574, 8, 18}, /* gpt-oss */
    };
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        const struct yarn_case *y = &cases[c];
        const struct model_rope_params p = {.n_rot = 64, .base = y->base, .factor = y->factor,
                .attn_factor = 1, .ext_factor = 1, .beta_fast = y->fast, .beta_slow = y->slow,
                .n_ctx_orig = 4096};
        struct model_rope rope;
        make(&rope, &p, NULL);
        assert_true(fabs((double)rope.mag - y->mag) < 1e-6);
        for (uint32_t i = 0; i < 32; i++) {
            double ratio = pow(y->base, -(double)i / 32) / rope.inv_freq[i];
            if (i <= y->lo) assert_ratio(ratio, 1, 1);
            if (i >= y->hi) assert_ratio(ratio, 1, y->factor);
            if (i > y->lo && i < y->hi && !(ratio > 1.001 && ratio < y->factor * 0.999))
                fail_msg("case %zu: pair %u is divided by %g", c, i, ratio);
        }
        /* Half-way up the ramp both parts have their linear share. */
        uint32_t i = (y->lo + y->hi) / 2;
        double share = ((double)i - y->lo) / (y->hi - y->lo);
        assert_ratio(rope.inv_freq[i], pow(y->base, -(double)i / 32),
                share / y->factor + (1 - share));
        model_rope_fini(&rope);
    }
}

static void cache_planes_follow_each_other_without_overlap(void **state) {
    (void)state;
    const struct kv_shape shape = {.n_layer = 2, .n_head_kv = 3, .n_dim_k = 24, .n_dim_v = 40,
            .n_ctx = 5, .type = DT_F16};
    struct kv *kv = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(kv_new(&shape, &kv, &err), 0);
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t layer = 0; layer < 2; layer++)
            for (uint32_t head = 0; head < 3; head++) {
                uint8_t *k = kv_keys(kv, layer, head), *v = kv_values(kv, layer, head);
                uint8_t mark = (uint8_t)(1 + layer * 3 + head);
                assert_true((uintptr_t)k % 64 == 0 && (uintptr_t)v % 64 == 0);
                if (pass == 0) {
                    memset(k, mark, 5 * 48);
                    memset(v, mark + 100, 5 * 80);
                }
                for (int i = 0; i < 5 * 48; i++)
                    assert_int_equal(k[i], mark);
                for (int i = 0; i < 5 * 80; i++)
                    assert_int_equal(v[i], mark + 100);
            }
    assert_int_equal(kv_bytes(&shape), 6 * (256 + 448));
    kv_free(kv);
}

static void impossible_caches_are_refused(void **state) {
    (void)state;
    struct kv_shape shape = {.n_layer = 2, .n_head_kv = 1, .n_dim_k = 24, .n_dim_v = 32, .n_ctx = 8,
            .type = DT_Q8_0};
    struct kv *kv = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(kv_new(&shape, &kv, &err), ERR_UNSUPPORTED);
    err_reset(&err);
    shape.type = DT_Q4_K;
    assert_int_equal(kv_new(&shape, &kv, &err), ERR_UNSUPPORTED);
    err_reset(&err);
    shape = (struct kv_shape){.n_layer = UINT32_MAX, .n_head_kv = UINT32_MAX, .n_dim_k = 1u << 20,
            .n_dim_v = 1u << 20, .n_ctx = UINT32_MAX, .type = DT_F32};
    assert_true(kv_bytes(&shape) == UINT64_MAX);
    assert_int_equal(kv_new(&shape, &kv, &err), ERR_NO_MEMORY);
    assert_null(kv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(plain_frequencies_are_powers_of_the_base),
            cmocka_unit_test(linear_scaling_divides_all_frequencies),
            cmocka_unit_test(frequency_divisors_apply_per_pair),
            cmocka_unit_test(yarn_ramps_between_the_known_pairs),
            cmocka_unit_test(cache_planes_follow_each_other_without_overlap),
            cmocka_unit_test(impossible_caches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
