/* kern_ref_test.c - the scalar kernels against plain evaluations in binary64, and the rules of
 * docs/numerics.md that have sharp edges. */
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

#define SEED 20240517

/* Where a block keeps its binary16 scale and minimum; -1: none (MXFP4 has a power of two). */
static const struct {
    enum dtype type;
    int d_at, m_at;
} formats[] = {
        {DT_F32, -1, -1},
        {DT_F16, -1, -1},
        {DT_BF16, -1, -1},
        {DT_Q4_0, 0, -1},
        {DT_Q4_1, 0, 2},
        {DT_Q5_0, 0, -1},
        {DT_Q5_1, 0, 2},
        {DT_Q8_0, 0, -1},
        {DT_IQ4_NL, 0, -1},
        {DT_MXFP4, -1, -1},
        {DT_Q2_K, 80, 82},
        {DT_Q3_K, 108, -1},
        {DT_Q4_K, 0, 2},
        {DT_Q5_K, 0, 2},
        {DT_Q6_K, 208, -1},
        {DT_IQ4_XS, 0, -1},
};

static float random_float(struct rng *rng) {
    return (float)(rng_unit(rng) * 2 - 1);
}

static void fill(struct rng *rng, float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(rng);
}

static void put_f16(uint8_t *at, float x) {
    uint16_t half = f16_from_f32(x);
    memcpy(at, &half, sizeof half);
}

/* n elements of random blocks; unit: all scales and minima 1, so that values are whole numbers.
 * Caller frees. */
static uint8_t *random_blocks(struct rng *rng, size_t format, uint64_t n, bool unit) {
    enum dtype type = formats[format].type;
    uint64_t n_bytes = dtype_row_bytes(type, n);
    uint8_t *bytes = malloc(n_bytes);
    assert_non_null(bytes);
    for (uint64_t i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)rng_next(rng);
    uint32_t step = dtype_find(type)->block_bytes;
    for (uint64_t at = 0; at < n_bytes; at += step) {
        uint8_t *b = bytes + at;
        float x = unit ? (float)(int)rng_below(rng, 9) - 4 : random_float(rng);
        if (type == DT_F32) {
            memcpy(b, &x, sizeof x);
        } else if (type == DT_BF16) {
            uint16_t half = bf16_from_f32(x);
            memcpy(b, &half, sizeof half);
        } else if (type == DT_F16) {
            put_f16(b, x);
        } else if (type == DT_MXFP4) {
            b[0] = (uint8_t)(unit ? 128 : 118 + rng_below(rng, 12));
        } else {
            put_f16(b + formats[format].d_at, unit ? 1.0f : 0.01f * x);
            if (formats[format].m_at >= 0)
                put_f16(b + formats[format].m_at, unit ? 1.0f : 0.01f * random_float(rng));
        }
    }
    return bytes;
}

/* Activation rows with their own memory. */
struct rows {
    struct kern_act act;
    float *f32;
    int8_t *q;
    float *d;
    int16_t *sum16;
};

static void rows_alloc(struct rows *rows, enum act_kind kind, uint32_t n_in, uint32_t n_rows) {
    size_t n = (size_t)n_in * n_rows;
    rows->f32 = malloc(n * sizeof(float));
    rows->q = malloc(n);
    rows->d = malloc((n / 32 + 1) * sizeof(float));
    rows->sum16 = malloc((n / 16 + 1) * sizeof(int16_t));
    assert_true(rows->f32 && rows->q && rows->d && rows->sum16);
    rows->act = (struct kern_act){.kind = kind,
            .n_in = n_in,
            .n_rows = n_rows,
            .f32 = rows->f32,
            .q = rows->q,
            .d = rows->d,
            .sum16 = rows->sum16};
}

static void rows_quantise(struct rows *rows) {
    if (rows->act.kind == ACT_F32) return;
    ref_quantise(rows->act.kind, rows->f32, rows->act.n_in, rows->act.n_rows, rows->act.n_in,
            rows->q, rows->d, rows->sum16);
}

static void rows_free(struct rows *rows) {
    free(rows->f32);
    free(rows->q);
    free(rows->d);
    free(rows->sum16);
}

/* Element i of a row as the kernel sees it. */
static double row_value(const struct kern_act *act, uint32_t row, uint32_t i) {
    size_t at = (size_t)row * act->n_in + i;
    if (act->kind == ACT_F32) return (double)act->f32[at];
    return (double)act->q[at] * (double)act->d[at / (act->kind == ACT_Q8_32 ? 32 : 256)];
}

/* Weights and rows of one type, multiplied. */
struct product {
    struct kern_mat mat;
    struct rows rows;
    uint8_t *bytes;
    float *y; /* [n_rows][n_out] */
};

static void product_make(struct product *p, struct rng *rng, size_t format, uint32_t n_in,
        uint32_t n_out, uint32_t n_rows) {
    enum dtype type = formats[format].type;
    p->bytes = random_blocks(rng, format, (uint64_t)n_in * n_out, false);
    p->mat = (struct kern_mat){type, KERN_NATIVE, n_in, n_out, p->bytes};
    rows_alloc(&p->rows, dtype_find(type)->act, n_in, n_rows);
    fill(rng, p->rows.f32, (size_t)n_in * n_rows);
    rows_quantise(&p->rows);
    p->y = malloc((size_t)n_rows * n_out * sizeof(float));
    assert_non_null(p->y);
    ref_matmul(&p->mat, 0, n_out, &p->rows.act, NULL, n_rows, p->y, n_out);
}

static void product_free(struct product *p) {
    rows_free(&p->rows);
    free(p->bytes);
    free(p->y);
}

static void matmul_of_every_type_agrees_with_binary64(void **state) {
    (void)state;
    enum { N_OUT = 19, N_ROWS = 3 };
    struct rng rng;
    rng_init(&rng, SEED);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        uint32_t block = dtype_find(formats[f].type)->block_elems;
        uint32_t n_in = block == 1 ? 1003 : block * (block == 32 ? 21 : 5);
        struct product p;
        product_make(&p, &rng, f, n_in, N_OUT, N_ROWS);
        float *w = malloc(n_in * sizeof *w);
        assert_non_null(w);
        double worst = 0;
        for (uint32_t o = 0; o < N_OUT; o++) {
            kern_dequantise(
                    formats[f].type, p.bytes + o * dtype_row_bytes(formats[f].type, n_in), n_in, w);
            for (uint32_t r = 0; r < N_ROWS; r++) {
                double sum = 0, magnitude = 0;
                for (uint32_t i = 0; i < n_in; i++) {
                    double term = (double)w[i] * row_value(&p.rows.act, r, i);
                    sum += term;
                    magnitude += fabs(term);
                }
                double error = fabs((double)p.y[r * N_OUT + o] - sum) / magnitude;
                worst = error > worst ? error : worst;
            }
        }
        print_message("%-7s %.1e of the sum of magnitudes\n", dtype_name(formats[f].type), worst);
        assert_true(worst < 1e-7);
        free(w);
        product_free(&p);
    }
}

/* With all scales 1 and small activations every step is exact: no error may hide in a tolerance. */
static void matmul_of_whole_numbers_is_exact(void **state) {
    (void)state;
    enum { N_OUT = 5 };
    struct rng rng;
    rng_init(&rng, SEED + 1);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        enum dtype type = formats[f].type;
        uint32_t n_in = 512;
        uint8_t *bytes = random_blocks(&rng, f, (uint64_t)n_in * N_OUT, true);
        struct kern_mat mat = {type, KERN_NATIVE, n_in, N_OUT, bytes};
        struct rows rows;
        rows_alloc(&rows, dtype_find(type)->act, n_in, 1);
        memset(rows.sum16, 0, n_in / 16 * sizeof *rows.sum16);
        for (uint32_t i = 0; i < n_in; i++) {
            rows.q[i] = (int8_t)((int)rng_below(&rng, 7) - 3);
            rows.f32[i] = (float)rows.q[i];
            rows.d[i / 32] = 1.0f;
            rows.sum16[i / 16] = (int16_t)(rows.sum16[i / 16] + rows.q[i]);
        }
        float y[N_OUT], w[512];
        ref_matmul(&mat, 0, N_OUT, &rows.act, NULL, 1, y, N_OUT);
        for (uint32_t o = 0; o < N_OUT; o++) {
            kern_dequantise(type, bytes + o * dtype_row_bytes(type, n_in), n_in, w);
            double sum = 0;
            for (uint32_t i = 0; i < n_in; i++)
                sum += (double)w[i] * rows.q[i];
            assert_true((double)y[o] == sum);
        }
        free(bytes);
        rows_free(&rows);
    }
}

static void rows_never_see_each_other(void **state) {
    (void)state;
    enum { N_OUT = 35, N_ROWS = 67 };
    struct rng rng;
    rng_init(&rng, SEED + 2);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        struct product p;
        product_make(&p, &rng, f, 256, N_OUT, N_ROWS);
        uint32_t order[N_ROWS];
        for (uint32_t r = 0; r < N_ROWS; r++)
            order[r] = (uint32_t)rng_below(&rng, N_ROWS);
        float *y = malloc(N_ROWS * N_OUT * sizeof *y);
        assert_non_null(y);
        /* In pieces of the output, any rows in any order, some twice. */
        ref_matmul(&p.mat, 0, 16, &p.rows.act, order, N_ROWS, y, N_OUT);
        ref_matmul(&p.mat, 16, N_OUT, &p.rows.act, order, N_ROWS, y, N_OUT);
        for (uint32_t r = 0; r < N_ROWS; r++)
            assert_memory_equal(y + r * N_OUT, p.y + order[r] * N_OUT, N_OUT * sizeof *y);
        /* One at a time. */
        for (uint32_t r = 0; r < N_ROWS; r++) {
            ref_matmul(&p.mat, 0, N_OUT, &p.rows.act, &r, 1, y, N_OUT);
            assert_memory_equal(y, p.y + r * N_OUT, N_OUT * sizeof *y);
        }
        free(y);
        product_free(&p);
    }
}

static void matmul_writes_only_its_output_range(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 3);
    struct product p;
    product_make(&p, &rng, 12, 256, 40, 2);
    float y[2 * 48];
    for (size_t i = 0; i < ARRAY_LEN(y); i++)
        y[i] = -7.0f;
    ref_matmul(&p.mat, 16, 32, &p.rows.act, NULL, 2, y, 48);
    for (uint32_t r = 0; r < 2; r++)
        for (uint32_t o = 0; o < 48; o++)
            assert_true(y[r * 48 + o] == (o >= 16 && o < 32 ? p.y[r * 40 + o] : -7.0f));
    product_free(&p);
}

/* Quantises one block of B. Returns the scale. */
static float quantise_one(uint32_t block, const float *x, int8_t *q, int16_t *sum16) {
    float d;
    ref_quantise(block == 32 ? ACT_Q8_32 : ACT_Q8_256, x, block, 1, block, q, &d, sum16);
    return d;
}

static void quants_are_near_and_scales_are_bfloat16(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 4);
    for (int round = 0; round < 20000; round++) {
        uint32_t block = round % 2 ? 32 : 256;
        float x[256], scale = ldexpf(1.0f, (int)rng_below(&rng, 215) - 98);
        int8_t q[256];
        int16_t sum16[16];
        float amax = 0;
        for (uint32_t i = 0; i < block; i++) {
            x[i] = random_float(&rng) * scale;
            amax = fmaxf(amax, fabsf(x[i]));
        }
        float d = quantise_one(block, x, q, sum16);
        assert_true((f32_bits(d) & 0xffff) == 0);
        assert_true(d >= amax / 127 && d <= amax / 127 * (1 + 0x1p-7f));
        int largest = 0;
        for (uint32_t i = 0; i < block; i++) {
            assert_true(q[i] >= -127 && q[i] <= 127);
            assert_true(fabs((double)q[i] * (double)d - (double)x[i]) <= 0.50001 * (double)d);
            largest = abs(q[i]) > largest ? abs(q[i]) : largest;
        }
        assert_true(largest >= 126);
        for (uint32_t k = 0; k < block / 16; k++) {
            int sum = 0;
            for (uint32_t i = 0; i < 16; i++)
                sum += q[16 * k + i];
            assert_int_equal(sum16[k], sum);
        }
    }
}

static void quants_round_ties_to_even(void **state) {
    (void)state;
    float x[32] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 63.5f, 64.5f, -126.5f};
    const int8_t expected[] = {127, 0, 2, 2, 0, -2, -2, 64, 64, -126};
    int8_t q[32];
    int16_t sum16[2];
    assert_true(quantise_one(32, x, q, sum16) == 1.0f);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_int_equal(q[i], expected[i]);
}

static void scales_round_up_to_bfloat16(void **state) {
    (void)state;
    int8_t q[32];
    int16_t sum16[2];
    float x[32] = {0};
    x[5] = -127.0f * 1.0078125f; /* 1 + 2^-7 is a bfloat16 */
    assert_true(quantise_one(32, x, q, sum16) == 1.0078125f);
    assert_int_equal(q[5], -127);
    x[5] = -127.0f * 1.0078130f;
    assert_true(quantise_one(32, x, q, sum16) == 1.015625f);
    assert_int_equal(q[5], -126);
}

static void blocks_without_a_scale_are_zero_or_poisoned(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    int8_t q[32];
    int16_t sum16[2];
    for (size_t b = 0; b < ARRAY_LEN(bad); b++) {
        float x[32] = {1.0f, 2.0f};
        x[31] = bad[b];
        assert_true(isnan(quantise_one(32, x, q, sum16)));
        for (size_t i = 0; i < 32; i++)
            assert_int_equal(q[i], 0);
        assert_int_equal(sum16[0], 0);
    }
    const float tiny[] = {0.0f, -0.0f, 0x1p-149f, 0x1p-126f, 0x1.fffffep-101f};
    for (size_t b = 0; b < ARRAY_LEN(tiny); b++) {
        float x[32] = {0};
        x[7] = -tiny[b];
        assert_true(quantise_one(32, x, q, sum16) == 0.0f);
        assert_int_equal(q[7], 0);
    }
    float x[32] = {0};
    x[3] = 0x1p-100f;
    assert_true(quantise_one(32, x, q, sum16) > 0.0f);
    assert_int_equal(q[3], 126); /* 2^-100 / 127 is rounded up to 1.015625 * 2^-107 */
    x[3] = -FLT_MAX;
    float d = quantise_one(32, x, q, sum16);
    assert_true(isfinite(d) && q[3] <= -126);
}

static void a_poisoned_block_poisons_every_output_that_meets_it(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 5);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        struct product p;
        product_make(&p, &rng, f, 512, 3, 2);
        p.rows.f32[512 + 300] = NAN;
        rows_quantise(&p.rows);
        float y[6];
        ref_matmul(&p.mat, 0, 3, &p.rows.act, NULL, 2, y, 3);
        for (int o = 0; o < 3; o++)
            assert_true(y[o] == p.y[o] && isnan(y[3 + o]));
        product_free(&p);
    }
}

static void quantised_rows_may_be_far_apart(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 6);
    float x[3 * 100], d_all[3], d;
    int8_t q_all[3 * 32], q[32];
    int16_t sum_all[3 * 2], sum16[2];
    fill(&rng, x, ARRAY_LEN(x));
    ref_quantise(ACT_Q8_32, x, 100, 3, 32, q_all, d_all, sum_all);
    for (size_t r = 0; r < 3; r++) {
        ref_quantise(ACT_Q8_32, x + 100 * r, 0, 1, 32, q, &d, sum16);
        assert_memory_equal(q, q_all + 32 * r, sizeof q);
        assert_memory_equal(sum16, sum_all + 2 * r, sizeof sum16);
        assert_true(d == d_all[r]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(matmul_of_every_type_agrees_with_binary64),
            cmocka_unit_test(matmul_of_whole_numbers_is_exact),
            cmocka_unit_test(rows_never_see_each_other),
            cmocka_unit_test(matmul_writes_only_its_output_range),
            cmocka_unit_test(quants_are_near_and_scales_are_bfloat16),
            cmocka_unit_test(quants_round_ties_to_even),
            cmocka_unit_test(scales_round_up_to_bfloat16),
            cmocka_unit_test(blocks_without_a_scale_are_zero_or_poisoned),
            cmocka_unit_test(a_poisoned_block_poisons_every_output_that_meets_it),
            cmocka_unit_test(quantised_rows_may_be_far_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
