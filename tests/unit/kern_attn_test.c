/* kern_attn_test.c - attention over a cache against a plain softmax in binary64, and cache rows. */
#include "kernels/kern.h"

#include "kernels/ref/blocks.h"
#include "kernels/ref/ref.h"

#include "proto/base/checked.h"
#include "proto/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SEED 20240519
#define N_Q 3
#define Q_STRIDE 200
#define OUT_STRIDE 150

/* A cache of one head with queries and room for the result. */
struct cache {
    struct kern_attn attn;
    float *k, *v; /* widened: what the stored bytes say, [n_pos][n_dim] */
    uint8_t *k_bytes, *v_bytes;
    float q[N_Q * Q_STRIDE], out[N_Q * OUT_STRIDE], sinks[N_Q];
};

static void fill(struct rng *rng, float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(rng_unit(rng) * 2 - 1) * scale;
}

/* One stored row back as floats; written here again, apart from the kernel's own reading. */
static void read_row(enum dtype type, const uint8_t *row, uint32_t n, float *x) {
    for (uint32_t i = 0; i < n; i++) {
        if (type == DT_F32)
            memcpy(&x[i], row + 4 * (size_t)i, 4);
        else if (type == DT_F16)
            x[i] = f16_to_f32((uint16_t)(row[2 * i] | row[2 * i + 1] << 8));
        else {
            float d;
            memcpy(&d, row + n + i / 32 * 4, 4);
            x[i] = (float)(int8_t)row[i] * d;
        }
    }
}

static void store_rows(struct rng *rng, enum dtype type, uint32_t n_pos, uint32_t n, float scale,
        uint8_t **out_bytes, float **out_wide) {
    size_t row_bytes = kern_kv_row_bytes(type, n);
    uint8_t *bytes = malloc(n_pos * row_bytes);
    float *wide = malloc((size_t)n_pos * n * sizeof *wide);
    assert_true(bytes && wide);
    for (uint32_t j = 0; j < n_pos; j++) {
        float *row = wide + (size_t)j * n;
        fill(rng, row, n, scale);
        ref_kv_store(type, bytes + j * row_bytes, row, n);
        read_row(type, bytes + j * row_bytes, n, row);
    }
    *out_bytes = bytes;
    *out_wide = wide;
}

static void cache_make(struct cache *c, struct rng *rng, enum dtype type, uint32_t n_pos,
        uint32_t n_dim_k, uint32_t n_dim_v) {
    store_rows(rng, type, n_pos, n_dim_k, 2.0f, &c->k_bytes, &c->k);
    store_rows(rng, type, n_pos, n_dim_v, 1.0f, &c->v_bytes, &c->v);
    fill(rng, c->q, ARRAY_LEN(c->q), 2.0f);
    fill(rng, c->sinks, N_Q, 4.0f);
    size_t n_scratch = kern_attn_scratch_floats(n_dim_k, n_dim_v, N_Q);
    c->attn = (struct kern_attn){.kv_type = type,
            .n_dim_k = n_dim_k,
            .n_dim_v = n_dim_v,
            .n_q = N_Q,
            .first = 0,
            .end = n_pos,
            .scale = 1.0f / sqrtf((float)n_dim_k),
            .k = c->k_bytes,
            .v = c->v_bytes,
            .q = c->q,
            .q_stride = Q_STRIDE,
            .out = c->out,
            .out_stride = OUT_STRIDE,
            .scratch = aligned_alloc(64, align_up(n_scratch * sizeof(float), 64))};
    assert_non_null(c->attn.scratch);
}

static void cache_free(struct cache *c) {
    free(c->k);
    free(c->v);
    free(c->k_bytes);
    free(c->v_bytes);
    free(c->attn.scratch);
}

static double score(const struct cache *c, uint32_t query, uint32_t j) {
    double sum = 0;
    for (uint32_t i = 0; i < c->attn.n_dim_k; i++)
        sum += (double)c->q[query * Q_STRIDE + i] * (double)c->k[(size_t)j * c->attn.n_dim_k + i];
    return sum * (double)c->attn.scale;
}

/* Runs the kernel and compares all queries with a plain softmax over [first, end). */
static void check_attend(struct cache *c) {
    uint32_t n_v = c->attn.n_dim_v;
    ref_attend(&c->attn);
    for (uint32_t query = 0; query < N_Q; query++) {
        double max = c->attn.sinks ? (double)c->attn.sinks[query] : -INFINITY;
        double *o = calloc(n_v, sizeof *o), sum = 0;
        assert_non_null(o);
        for (uint32_t j = c->attn.first; j < c->attn.end; j++)
            max = fmax(max, score(c, query, j));
        for (uint32_t j = c->attn.first; j < c->attn.end; j++) {
            double p = exp(score(c, query, j) - max);
            sum += p;
            for (uint32_t i = 0; i < n_v; i++)
                o[i] += p * (double)c->v[(size_t)j * n_v + i];
        }
        if (c->attn.sinks) sum += exp((double)c->attn.sinks[query] - max);
        for (uint32_t i = 0; i < n_v; i++) {
            double got = (double)c->out[query * OUT_STRIDE + i];
            if (!(fabs(got - o[i] / sum) <= 3e-6))
                fail_msg("%s, positions %u to %u, query %u, element %u: got %.9g, expected %.9g",
                        dtype_name(c->attn.kv_type), c->attn.first, c->attn.end, query, i, got,
                        o[i] / sum);
        }
        free(o);
    }
}

static const enum dtype cache_types[] = {DT_F32, DT_F16, DT_Q8_0};

static void attention_agrees_with_a_plain_softmax(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED);
    const uint32_t ends[] = {1, 2, 15, 63, 64, 65, 128, 300, 1000};
    for (size_t t = 0; t < ARRAY_LEN(cache_types); t++) {
        struct cache c;
        cache_make(&c, &rng, cache_types[t], 1000, 96, 64);
        for (size_t e = 0; e < ARRAY_LEN(ends); e++) {
            c.attn.end = ends[e];
            c.attn.sinks = NULL;
            check_attend(&c);
            c.attn.sinks = c.sinks;
            check_attend(&c);
        }
        cache_free(&c);
    }
}

static void attention_sees_only_its_window(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 1);
    const uint32_t windows[][2] = {{5, 6}, {63, 65}, {64, 128}, {70, 100}, {127, 400}, {399, 400}};
    for (size_t t = 0; t < ARRAY_LEN(cache_types); t++) {
        struct cache c;
        cache_make(&c, &rng, cache_types[t], 400, 64, 128);
        for (size_t w = 0; w < ARRAY_LEN(windows); w++) {
            c.attn.first = windows[w][0];
            c.attn.end = windows[w][1];
            c.attn.sinks = w % 2 ? c.sinks : NULL;
            check_attend(&c);
        }
        /* A read outside the window would show. */
        size_t row_bytes = kern_kv_row_bytes(cache_types[t], 128);
        float poison[128];
        for (size_t i = 0; i < 128; i++)
            poison[i] = NAN;
        for (uint32_t j = 0; j < 400; j++)
            if (j < 70 || j >= 100)
                ref_kv_store(cache_types[t], c.v_bytes + j * row_bytes, poison, 128);
        c.attn.first = 70;
        c.attn.end = 100;
        check_attend(&c);
        cache_free(&c);
    }
}

static void odd_widths_of_heads_work(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 2);
    const uint32_t widths[][2] = {{1, 1}, {7, 3}, {17, 33}, {192, 128}, {80, 80}};
    for (size_t w = 0; w < ARRAY_LEN(widths); w++)
        for (size_t t = 0; t < 2; t++) {
            struct cache c;
            cache_make(&c, &rng, cache_types[t], 150, widths[w][0], widths[w][1]);
            check_attend(&c);
            cache_free(&c);
        }
}

/* A query's result depends neither on its neighbours nor on the scratch memory's content. */
static void queries_do_not_see_each_other(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 3);
    struct cache c;
    cache_make(&c, &rng, DT_F16, 200, 64, 64);
    c.attn.sinks = c.sinks;
    ref_attend(&c.attn);
    for (uint32_t query = 0; query < N_Q; query++) {
        float out[64];
        struct kern_attn one = c.attn;
        one.n_q = 1;
        one.q = c.q + query * Q_STRIDE;
        one.sinks = c.sinks + query;
        one.out = out;
        fill(&rng, one.scratch, kern_attn_scratch_floats(64, 64, 1), 1e30f);
        ref_attend(&one);
        assert_memory_equal(out, c.out + query * OUT_STRIDE, sizeof out);
    }
    cache_free(&c);
}

static void strong_sinks_take_all_the_weight(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 4);
    struct cache c;
    cache_make(&c, &rng, DT_F32, 70, 32, 32);
    ref_attend(&c.attn);
    float without = c.out[0];
    c.attn.sinks = c.sinks;
    c.sinks[0] = -INFINITY;
    c.sinks[1] = 1000.0f;
    ref_attend(&c.attn);
    assert_true(c.out[0] == without);
    assert_true(c.out[OUT_STRIDE] == 0.0f);
    cache_free(&c);
}

static void scores_far_apart_do_not_overflow(void **state) {
    (void)state;
    struct rng rng;
    rng_init(&rng, SEED + 5);
    struct cache c;
    cache_make(&c, &rng, DT_F32, 300, 64, 32);
    c.attn.scale = 1000.0f;
    ref_attend(&c.attn);
    for (uint32_t i = 0; i < 32; i++)
        assert_true(fabsf(c.out[i]) <= 1.0f);
    cache_free(&c);
}

static void cache_rows_keep_what_their_type_can(void **state) {
    (void)state;
    assert_int_equal(kern_kv_row_bytes(DT_F32, 96), 384);
    assert_int_equal(kern_kv_row_bytes(DT_F16, 96), 192);
    assert_int_equal(kern_kv_row_bytes(DT_Q8_0, 96), 108);
    struct rng rng;
    rng_init(&rng, SEED + 6);
    float x[96], back[96];
    uint8_t row[384];
    fill(&rng, x, 96, 5.0f);
    ref_kv_store(DT_F32, row, x, 96);
    assert_memory_equal(row, x, sizeof x);
    ref_kv_store(DT_F16, row, x, 96);
    read_row(DT_F16, row, 96, back);
    for (size_t i = 0; i < 96; i++)
        assert_true(fabsf(back[i] - x[i]) <= fabsf(x[i]) * 0x1p-11f + 0x1p-25f);
    ref_kv_store(DT_Q8_0, row, x, 96);
    read_row(DT_Q8_0, row, 96, back);
    int8_t q[96];
    int16_t sum16[6];
    float d[3];
    ref_quantise(ACT_Q8_32, x, 96, 1, 96, q, d, sum16);
    assert_memory_equal(row, q, sizeof q);
    assert_memory_equal(row + 96, d, sizeof d);
    for (size_t i = 0; i < 96; i++)
        assert_true(fabsf(back[i] - x[i]) <= 0.5001f * d[i / 32]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(attention_agrees_with_a_plain_softmax),
            cmocka_unit_test(attention_sees_only_its_window),
            cmocka_unit_test(odd_widths_of_heads_work),
            cmocka_unit_test(queries_do_not_see_each_other),
            cmocka_unit_test(strong_sinks_take_all_the_weight),
            cmocka_unit_test(scores_far_apart_do_not_overflow),
            cmocka_unit_test(cache_rows_keep_what_their_type_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
