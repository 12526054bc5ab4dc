/* kern_rows_test.c - norms, softmax, rotation, the expert merge and its grid, and the choice of a
 * table. */
#include "kernels/kern.h"

#include "kernels/ref/blocks.h"
#include "kernels/ref/ref.h"

#include "proto/base/checked.h"
#include "proto/base/rng.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SEED 20240518
#define N_MAX 3000

static void fill(struct rng *rng, float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(rng_unit(rng) * 2 - 1) * scale;
}

static void assert_near(float got, double expected, double tolerance) {
    if (!(fabs((double)got - expected) <= tolerance))
        fail_msg("got %.9g, expected %.9g within %.3g", (double)got, expected, tolerance);
}

/* Rule 1 spelled out, one element after the other. */
static float sum_by_rule_1(const float *w, const float *x, size_t n) {
    float lane[16] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % 16] = fmaf(w[i], x[i], lane[i % 16]);
    for (int h = 8; h >= 1; h /= 2)
        for (int l = 0; l < h; l++)
            lane[l] = lane[l] + lane[l + h];
    return lane[0];
}

static void sums_follow_the_sixteen_lanes(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED);
    float x[N_MAX];
    unsigned n_differ = 0;
    for (size_t n = 0; n < 400; n++) {
        fill(&rng, x, n, 1.0f);
        float plain = 0, got = ref_sum_squares(x, n);
        for (size_t i = 0; i < n; i++)
            plain += x[i] * x[i];
        assert_true(got == sum_by_rule_1(x, x, n));
        assert_near(got, (double)plain, 1e-3);
        n_differ += got != plain;
    }
    assert_true(n_differ > 200); /* the order matters, so the comparison above says something */
    float w[100];
    struct kern_mat mat = {DT_F32, KERN_NATIVE, 0, 1, w};
    for (uint32_t n = 1; n <= 100; n++) {
        float y;
        fill(&rng, x, n, 1.0f);
        fill(&rng, w, n, 1.0f);
        struct kern_act act = {.kind = ACT_F32, .n_in = n, .n_rows = 1, .f32 = x};
        mat.n_in = n;
        ref_matmul(&mat, 0, 1, &act, NULL, 1, &y, 1);
        assert_true(y == sum_by_rule_1(w, x, n));
    }
}

static void rms_norm_agrees_with_binary64(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 1);
    const size_t sizes[] = {1, 15, 64, 2048, 2999};
    static float x[N_MAX], w[N_MAX], y[N_MAX], ones[N_MAX];
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        size_t n = sizes[k];
        double sum = 0;
        fill(&rng, x, n, 30.0f);
        fill(&rng, w, n, 2.0f);
        for (size_t i = 0; i < n; i++)
            sum += (double)x[i] * (double)x[i];
        double s = 1 / sqrt(sum / (double)n + 1e-5);
        ref_rms_norm(y, x, w, n, 1e-5f);
        ref_rms_norm(ones, x, NULL, n, 1e-5f);
        for (size_t i = 0; i < n; i++) {
            assert_near(y[i], (double)x[i] * s * (double)w[i], 5e-7 * fabs((double)y[i]) + 1e-30);
            assert_near(ones[i], (double)x[i] * s, 5e-7 * fabs((double)ones[i]) + 1e-30);
        }
        ref_rms_norm(x, x, w, n, 1e-5f); /* in place */
        assert_memory_equal(x, y, n * sizeof *x);
    }
    float zero[20] = {0};
    ref_rms_norm(zero, zero, NULL, 20, 1e-6f);
    assert_true(zero[0] == 0.0f && zero[19] == 0.0f);
}

static void softmax_agrees_with_binary64(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 2);
    static float x[N_MAX], got[N_MAX];
    const size_t sizes[] = {1, 2, 17, 128, 2999};
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        size_t n = sizes[k];
        double sum = 0, max = -INFINITY;
        fill(&rng, x, n, 20.0f);
        memcpy(got, x, n * sizeof *x);
        ref_softmax(got, n);
        for (size_t i = 0; i < n; i++)
            max = (double)x[i] > max ? (double)x[i] : max;
        for (size_t i = 0; i < n; i++)
            sum += exp((double)x[i] - max);
        for (size_t i = 0; i < n; i++) {
            double p = exp((double)x[i] - max) / sum;
            assert_near(got[i], p, 4e-6 * p + 1e-37);
        }
    }
    float far[] = {1000.0f, -1000.0f, -INFINITY};
    ref_softmax(far, 3);
    assert_true(far[0] == 1.0f && far[1] == 0.0f && far[2] == 0.0f);
    float poisoned[] = {0.0f, NAN, 1.0f};
    ref_softmax(poisoned, 3);
    assert_true(isnan(poisoned[0]) && isnan(poisoned[1]) && isnan(poisoned[2]));
    float hidden[] = {-INFINITY, -INFINITY};
    ref_softmax(hidden, 2);
    assert_true(isnan(hidden[0]) && isnan(hidden[1]));
}

static void glu_and_add_work_in_place(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 3);
    float gate[100], up[100], h[100], sum[100];
    fill(&rng, gate, 100, 10.0f);
    fill(&rng, up, 100, 10.0f);
    ref_glu(KERN_GLU_SILU, h, gate, up, 100);
    for (size_t i = 0; i < 100; i++) {
        double silu = (double)gate[i] / (1 + exp(-(double)gate[i]));
        assert_near(h[i], silu * (double)up[i], 5e-7 * fabs(silu * (double)up[i]));
        sum[i] = gate[i] + up[i];
    }
    ref_add(up, gate, 100);
    assert_memory_equal(up, sum, sizeof sum);
    fill(&rng, up, 100, 10.0f);
    ref_glu(KERN_GLU_SILU, h, gate, up, 100);
    ref_glu(KERN_GLU_SILU, gate, gate, up, 100);
    assert_memory_equal(gate, h, sizeof h);
}

static void rope_rotates_pairs_and_leaves_the_rest(void **state) {
    (void)state;
    enum { HEADS = 3, STRIDE = 40, ROT = 24 };
    struct rng rng;
    rng_init(&rng, SEED + 4);
    double inv_freq[ROT / 2];
    float cos_row[ROT / 2], sin_row[ROT / 2];
    for (uint32_t i = 0; i < ROT / 2; i++)
        inv_freq[i] = kern_rope_inv_freq(10000.0, i, ROT);
    kern_rope_angles(inv_freq, ROT / 2, 12345, 1.0f, cos_row, sin_row);
    for (int kind = KERN_ROPE_NORM; kind <= KERN_ROPE_NEOX; kind++) {
        float x[HEADS * STRIDE], y[HEADS * STRIDE];
        fill(&rng, x, ARRAY_LEN(x), 3.0f);
        memcpy(y, x, sizeof y);
        ref_rope((enum kern_rope)kind, y, HEADS, STRIDE, ROT, cos_row, sin_row);
        for (size_t h = 0; h < HEADS; h++) {
            const float *a = x + h * STRIDE, *b = y + h * STRIDE;
            for (size_t i = 0; i < ROT / 2; i++) {
                size_t i0 = kind == KERN_ROPE_NORM ? 2 * i : i;
                size_t i1 = kind == KERN_ROPE_NORM ? 2 * i + 1 : i + ROT / 2;
                double c = cos(12345 * inv_freq[i]), s = sin(12345 * inv_freq[i]);
                assert_near(b[i0], (double)a[i0] * c - (double)a[i1] * s, 1e-6);
                assert_near(b[i1], (double)a[i0] * s + (double)a[i1] * c, 1e-6);
            }
            assert_memory_equal(a + ROT, b + ROT, (STRIDE - ROT) * sizeof *a);
        }
    }
}

static int64_t merge_one(float y, float weight, int grid) {
    int64_t sum = 0;
    assert_true(ref_merge_add(&sum, &y, weight, grid, 1));
    return sum;
}

static bool merge_refuses(float y, float weight, int grid) {
    int64_t sum = 0;
    return !ref_merge_add(&sum, &y, weight, grid, 1);
}

static void merge_rounds_ties_to_even(void **state) {
    (void)state;
    assert_int_equal(merge_one(0.5f, 1.0f, 0), 0);
    assert_int_equal(merge_one(1.5f, 1.0f, 0), 2);
    assert_int_equal(merge_one(2.5f, 1.0f, 0), 2);
    assert_int_equal(merge_one(-0.5f, 1.0f, 0), 0);
    assert_int_equal(merge_one(-1.5f, 1.0f, 0), -2);
    assert_int_equal(merge_one(-2.5f, 1.0f, 0), -2);
    assert_int_equal(merge_one(0x1.000002p-1f, 1.0f, 0), 1);
    assert_int_equal(merge_one(8388607.5f, 1.0f, 0), 8388608);
    assert_int_equal(merge_one(4194303.5f, 1.0f, 0), 4194304);
    assert_int_equal(merge_one(4194302.5f, 1.0f, 0), 4194302);
    assert_int_equal(merge_one(16777215.0f, -1.0f, 0), -16777215);
    /* The product with the weight is rounded to binary32 before the grid. */
    float y = 1.0f + 0x1p-23f, weight = 1.0f + 0x1p-23f;
    assert_int_equal(merge_one(y, weight, -47), (int64_t)ldexp((double)(y * weight), 47));
}

static void merge_takes_everything_below_2_to_52_steps(void **state) {
    (void)state;
    const int64_t most = (int64_t)0x1.fffffep51;
    assert_int_equal(merge_one(0x1.fffffep51f, 1.0f, 0), most);
    assert_int_equal(merge_one(-0x1.fffffep51f, 1.0f, 0), -most);
    assert_int_equal(merge_one(0x1.fffffep-1f, 1.0f, -52), most);
    assert_int_equal(merge_one(0x1p-149f, 1.0f, -118), 0);
    assert_int_equal(merge_one(0x1p-118f, 1.0f, -118), 1);
    assert_int_equal(merge_one(0x1p100f, 1.0f, 100), 1);
    assert_true(merge_refuses(0x1p52f, 1.0f, 0));
    assert_true(merge_refuses(-0x1p52f, 1.0f, 0));
    assert_true(merge_refuses(1.0f, 1.0f, -52));
    assert_true(merge_refuses(1.0f, 1.0f, -118));
    assert_true(merge_refuses(NAN, 1.0f, 0));
    assert_true(merge_refuses(1.0f, NAN, 0));
    assert_true(merge_refuses(INFINITY, 1.0f, 0));
    assert_true(merge_refuses(INFINITY, 0.0f, 0));
    assert_true(merge_refuses(FLT_MAX, 2.0f, 100));
    float row[40] = {0};
    int64_t sum[40] = {0};
    assert_true(ref_merge_add(sum, row, 1.0f, -10, 40));
    row[38] = NAN;
    assert_false(ref_merge_add(sum, row, 1.0f, -10, 40));
}

static void merge_sums_do_not_depend_on_the_order(void **state) {
    (void)state;
    enum { N = 53, EXPERTS = 8 };
    struct rng rng;
    rng_init(&rng, SEED + 5);
    float y[EXPERTS][N], weight[EXPERTS];
    int64_t all[N] = {0}, left[N] = {0}, right[N] = {0};
    for (size_t e = 0; e < EXPERTS; e++) {
        fill(&rng, y[e], N, 100.0f);
        fill(&rng, &weight[e], 1, 1.0f);
        assert_true(ref_merge_add(all, y[e], weight[e], -19, N));
    }
    for (size_t e = EXPERTS; e-- > 0;)
        assert_true(ref_merge_add(e % 3 ? left : right, y[e], weight[e], -19, N));
    float x[N], expected[N];
    fill(&rng, x, N, 100.0f);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(all[i], left[i] + right[i]);
        double sum = (double)x[i];
        for (size_t e = 0; e < EXPERTS; e++)
            sum += (double)(y[e][i] * weight[e]);
        expected[i] = (float)sum;
    }
    ref_merge_apply(x, all, -19, N);
    for (size_t i = 0; i < N; i++)
        assert_near(x[i], (double)expected[i], EXPERTS * 0x1p-20 + 1e-4);
}

static void merge_apply_rounds_the_sum_once(void **state) {
    (void)state;
    const int64_t sums[] = {0, 1, -1, (1LL << 24) + 1, (1LL << 25) + 6, -(1LL << 24) - 3,
            (1LL << 62) + 1, -(1LL << 40) + 1};
    const float rounded[] = {
            0.0f, 1.0f, -1.0f, 0x1p24f, 0x1.000004p25f, -0x1.000004p24f, 0x1p62f, -0x1p40f};
    float x[ARRAY_LEN(sums)] = {0};
    ref_merge_apply(x, sums, 0, ARRAY_LEN(sums));
    for (size_t i = 0; i < ARRAY_LEN(sums); i++)
        assert_true(x[i] == rounded[i]);
    float edges[] = {0.0f, 0.0f, 3.0f};
    const int64_t ones[] = {1, 1, -4};
    ref_merge_apply(edges, ones, -118, 1);
    ref_merge_apply(edges + 1, ones + 1, 100, 1);
    ref_merge_apply(edges + 2, ones + 2, -1, 1);
    assert_true(edges[0] == 0x1p-118f && edges[1] == 0x1p100f && edges[2] == 1.0f);
}

static void grid_is_the_exponent_of_the_rms_less_the_bits(void **state) {
    (void)state;
    assert_int_equal(kern_grid(64.0f, 64, 18), -18);
    assert_int_equal(kern_grid(64.0f * 3.99f, 64, 18), -18);
    assert_int_equal(kern_grid(64.0f * 4.0f, 64, 18), -17);
    assert_int_equal(kern_grid(64.0f * 0.999f, 64, 18), -19);
    assert_int_equal(kern_grid(1.0f, 1, 0), 0);
    assert_int_equal(kern_grid(0.0f, 100, 18), -118);
    assert_int_equal(kern_grid(0x1p-149f, 1, 18), -75 - 18);
    assert_int_equal(kern_grid(0x1p-149f, 1, 100), -118);
    assert_int_equal(kern_grid(FLT_MAX, 1, -60), 100);
    assert_int_equal(kern_grid(FLT_MAX, 1, 18), 63 - 18);
    assert_int_equal(kern_grid(INFINITY, 10, 18), 100);
    assert_int_equal(kern_grid(NAN, 10, 18), 100);
    struct rng rng;
    rng_init(&rng, SEED + 6);
    for (int i = 0; i < 10000; i++) {
        float ss = ldexpf((float)rng_unit(&rng) + 0.5f, (int)rng_below(&rng, 80) - 40);
        int e;
        frexpf(sqrtf(ss / 777.0f), &e);
        assert_int_equal(kern_grid(ss, 777, KERN_GRID_BITS), e - 1 - 18);
    }
}

static void tables_are_chosen_by_name(void **state) {
    (void)state;
    const struct kern_ops *ops = NULL;
    struct err err = ERR_INIT;
    unsigned n = 0;
    while (kern_at(n) != NULL)
        n++;
    assert_true(n >= 1);
    assert_ptr_equal(kern_at(n - 1), &kern_ops_scalar);
    assert_null(kern_at(n + 5));
    assert_int_equal(kern_select("auto", &ops, &err), 0);
    assert_ptr_equal(ops, kern_at(0));
    assert_int_equal(kern_select("scalar", &ops, &err), 0);
    assert_ptr_equal(ops, &kern_ops_scalar);
    assert_int_equal(kern_select("AVX2", &ops, &err), ERR_USAGE);
    assert_non_null(strstr(err.what, "AVX2"));
    assert_non_null(strstr(err.what, "scalar"));
    assert_ptr_equal(ops, &kern_ops_scalar);
    assert_int_equal(kern_select("", &ops, NULL), ERR_USAGE);
#if !defined(__aarch64__)
    err_reset(&err);
    assert_int_equal(kern_select("neon", &ops, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.what, "neon"));
#endif
    const char *const simd[] = {"avx2", "avx2-plain", "avx512", "avx512-plain"};
    for (size_t i = 0; i < ARRAY_LEN(simd); i++) {
        int rc = kern_select(simd[i], &ops, NULL);
        assert_true(rc == 0 || rc == ERR_UNSUPPORTED);
        if (rc == 0) assert_memory_equal(ops->name, simd[i], strcspn(simd[i], "-"));
    }
}

static void matrix_sizes_are_checked(void **state) {
    (void)state;
    assert_int_equal(kern_mat_bytes(DT_Q4_K, KERN_NATIVE, 512, 10), 2880);
    assert_int_equal(kern_mat_bytes(DT_F32, KERN_NATIVE, 3, 5), 60);
    assert_int_equal(kern_mat_bytes(DT_Q4_K, KERN_NATIVE, 100, 10), 0);
    assert_int_equal(kern_mat_bytes((enum dtype)4, KERN_NATIVE, 256, 10), 0);
    assert_int_equal(kern_mat_bytes((enum dtype)4000, KERN_NATIVE, 256, 10), 0);
    assert_int_equal(kern_mat_bytes(DT_F32, KERN_NATIVE, 1ULL << 62, 1), 0);
    assert_int_equal(kern_mat_bytes(DT_F32, KERN_NATIVE, 1ULL << 40, 1ULL << 40), 0);
    assert_int_equal(kern_mat_bytes(DT_Q4_K, KERN_R16, 1ULL << 60, 1ULL << 60), 0);
}

static void native_repacking_copies_its_rows_only(void **state) {
    (void)state;
    enum { N_OUT = 35, ROW = 34 };
    uint8_t from[N_OUT * ROW], to[N_OUT * ROW];
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (uint8_t)(i * 7 + i / 256);
    memset(to, 0xee, sizeof to);
    kern_repack(DT_Q8_0, KERN_NATIVE, 32, N_OUT, 16, 32, from, to);
    assert_memory_equal(to + 16 * ROW, from + 16 * ROW, 16 * ROW);
    assert_int_equal(to[16 * ROW - 1], 0xee);
    assert_int_equal(to[32 * ROW], 0xee);
    kern_repack(DT_Q8_0, KERN_NATIVE, 32, N_OUT, 0, 16, from, to);
    kern_repack(DT_Q8_0, KERN_NATIVE, 32, N_OUT, 32, N_OUT, from, to);
    assert_memory_equal(to, from, sizeof from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(sums_follow_the_sixteen_lanes),
            cmocka_unit_test(rms_norm_agrees_with_binary64),
            cmocka_unit_test(softmax_agrees_with_binary64),
            cmocka_unit_test(glu_and_add_work_in_place),
            cmocka_unit_test(rope_rotates_pairs_and_leaves_the_rest),
            cmocka_unit_test(merge_rounds_ties_to_even),
            cmocka_unit_test(merge_takes_everything_below_2_to_52_steps),
            cmocka_unit_test(merge_sums_do_not_depend_on_the_order),
            cmocka_unit_test(merge_apply_rounds_the_sum_once),
            cmocka_unit_test(grid_is_the_exponent_of_the_rms_less_the_bits),
            cmocka_unit_test(tables_are_chosen_by_name),
            cmocka_unit_test(matrix_sizes_are_checked),
            cmocka_unit_test(native_repacking_copies_its_rows_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
