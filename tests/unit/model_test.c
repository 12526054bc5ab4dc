/* model_test.c - models give the logits of the reference implementation, however they are fed.
 *
 * Reference: shared/models/tiny, made with the transformers library (see the README there). A wrong
 * rule anywhere shows as a difference far above the bounds. */
#include "tests/support/model_walk.h"

#include "proto/base/checked.h"
#include "proto/format/npy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define PATH_MAX_BYTES 1024

/* ---- a golden model ---- */

struct golden {
    char name[64];
    json_t *json;
    struct model_walk walk;
    const struct model_shape *shape;
    int32_t tokens[256];
    uint32_t n;
};

static void path_of(const char *name, const char *suffix, char *out) {
    const char *shared = getenv("POTLUCK_SHARED");
    (void)snprintf(out, PATH_MAX_BYTES, "%s/models/tiny/%s%s", shared ? shared : "../shared", name,
            suffix);
}

static void golden_open(struct golden *g, const char *name, const struct kern_ops *kern,
        uint32_t n_threads) {
    char path[PATH_MAX_BYTES];
    *g = (struct golden){0};
    (void)snprintf(g->name, sizeof g->name, "%s", name);
    path_of(name, ".json", path);
    g->json = json_load_file(path, 0, NULL);
    if (!g->json) fail_msg("cannot read %s", path);

    struct err err = ERR_INIT;
    path_of(name, ".gguf", path);
    if (model_walk_open(&g->walk, path, kern, n_threads, &err) < 0)
        fail_msg("%s: %s: %s", name, err.where, err.what);
    g->shape = model_shape(g->walk.model);

    json_t *tokens = json_object_get(g->json, "tokens");
    g->n = (uint32_t)json_array_size(tokens);
    assert_in_range(g->n, 1, ARRAY_LEN(g->tokens));
    for (uint32_t i = 0; i < g->n; i++)
        g->tokens[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
}

static void golden_close(struct golden *g) {
    json_decref(g->json);
    model_walk_close(&g->walk);
}

static double number(const struct golden *g, const char *object, const char *key) {
    json_t *from = object ? json_object_get(g->json, object) : g->json;
    json_t *value = json_object_get(from, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* ---- a run ---- */

struct run {
    uint32_t n_moe;
    float *hidden;     /* [n][n_embd] */
    float *logits;     /* [n][n_vocab] */
    int16_t *routes;   /* [n_moe][n][k] */
    float *mtp_logits; /* [n][n_vocab] */
    int16_t *mtp_routes;
};

static void run_free(struct run *run) {
    free(run->hidden);
    free(run->logits);
    free(run->routes);
    free(run->mtp_logits);
    free(run->mtp_routes);
}

static void run_alloc(struct run *run, const struct golden *g) {
    const struct model_shape *s = g->shape;
    *run = (struct run){0};
    for (uint32_t i = 0; i < s->n_layer; i++)
        run->n_moe += model_experts(g->walk.model, i) != NULL;
    run->hidden = calloc((size_t)g->n * s->n_embd, sizeof(float));
    run->logits = calloc((size_t)g->n * s->n_vocab, sizeof(float));
    run->mtp_logits = calloc((size_t)g->n * s->n_vocab, sizeof(float));
    run->routes = calloc((size_t)(run->n_moe + 1) * g->n * (s->n_expert_used + 1), sizeof(int16_t));
    run->mtp_routes = calloc((size_t)g->n * (s->n_expert_used + 1), sizeof(int16_t));
    assert_true(run->hidden && run->logits && run->mtp_logits && run->routes && run->mtp_routes);
}

static struct kv *new_kv(const struct golden *g, enum dtype type) {
    struct kv_shape shape;
    struct kv *kv = NULL;
    struct err err = ERR_INIT;
    model_kv_shape(g->walk.model, g->n, type, &shape);
    if (kv_new(&shape, &kv, &err) < 0) fail_msg("%s", err.what);
    return kv;
}

static struct model_work *new_work(const struct golden *g, uint32_t n_rows) {
    struct model_work *work = NULL;
    struct err err = ERR_INIT;
    if (model_work_new(g->walk.model, n_rows, &work, &err) < 0) fail_msg("%s", err.what);
    return work;
}

/* Feeds all tokens in batches of `step` rows, then the MTP block likewise. */
static void run_make(struct run *run, struct golden *g, uint32_t step, enum dtype kv_type) {
    run_alloc(run, g);
    size_t d = g->shape->n_embd, v = g->shape->n_vocab;
    uint32_t positions[256];
    struct kv *kvs[256];
    struct kv *kv = new_kv(g, kv_type);
    struct model_work *work = new_work(g, step);
    for (uint32_t i = 0; i < g->n; i++) {
        positions[i] = i;
        kvs[i] = kv;
    }

    const struct model_walk_routes routes = {run->routes, g->n};
    const struct model_walk_routes mtp_routes = {run->mtp_routes, g->n};
    for (size_t at = 0; at < g->n; at += step) {
        uint32_t n = g->n - at < step ? (uint32_t)(g->n - at) : step;
        const struct model_batch batch = {n, g->tokens + at, positions + at, kvs};
        model_walk_step(&g->walk, work, &batch, &routes, run->hidden + at * d,
                run->logits + at * v);
    }

    float *before = calloc((g->n + 1) * d, sizeof *before); /* row 0: zeros */
    assert_non_null(before);
    memcpy(before + d, run->hidden, g->n * d * sizeof *before);
    for (size_t at = 0; g->shape->n_mtp > 0 && at < g->n; at += step) {
        uint32_t n = g->n - at < step ? (uint32_t)(g->n - at) : step;
        const struct model_batch batch = {n, g->tokens + at, positions + at, kvs};
        model_walk_mtp_step(&g->walk, work, &batch, before + at * d, &mtp_routes,
                run->mtp_logits + at * v);
    }
    free(before);
    model_work_free(work);
    kv_free(kv);
}

/* ---- comparing ---- */

static void load_array(const struct golden *g, const char *suffix, struct npy_array *out) {
    char path[PATH_MAX_BYTES];
    struct err err = ERR_INIT;
    path_of(g->name, suffix, path);
    if (npy_read(path, out, &err) < 0) fail_msg("%s", err.what);
}

struct distance {
    double max_abs, kl_mean, kl_max;
};

static double log_sum_exp(const float *x, size_t n) {
    double top = x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - top);
    return top + log(sum);
}

static struct distance compare(const float *expected, const float *got, size_t n, size_t v) {
    struct distance dist = {0};
    for (size_t r = 0; r < n; r++) {
        const float *p = expected + r * v, *q = got + r * v;
        double lp = log_sum_exp(p, v), lq = log_sum_exp(q, v), kl = 0;
        for (size_t i = 0; i < v; i++) {
            if (!isfinite(q[i])) fail_msg("row %zu: logit %zu is not finite", r, i);
            dist.max_abs = fmax(dist.max_abs, fabs((double)p[i] - q[i]));
            kl += exp(p[i] - lp) * ((p[i] - lp) - (q[i] - lq));
        }
        dist.kl_mean += kl / (double)n;
        dist.kl_max = fmax(dist.kl_max, kl);
    }
    return dist;
}

static void check_logits(const struct golden *g, const char *suffix, const char *prefix,
        const float *got, bool f16_cache) {
    struct npy_array expected;
    load_array(g, suffix, &expected);
    assert_int_equal(expected.type, NPY_F32);
    assert_int_equal(expected.n, (uint64_t)g->n * g->shape->n_vocab);
    struct distance dist = compare(expected.elements, got, g->n, g->shape->n_vocab);
    npy_array_fini(&expected);

    char key[64];
    double goal = number(g, NULL, "max_abs_diff_goal");
    if (getenv("POTLUCK_VERBOSE"))
        printf("           %s%s%s: max %.2g, KL mean %.2g max %.2g\n", g->name, suffix,
                f16_cache ? " f16" : "", dist.max_abs, dist.kl_mean, dist.kl_max);
    if (!isnan(goal)) {
        (void)snprintf(key, sizeof key, "%smax_abs_diff", prefix);
        if (f16_cache) goal = 3 * number(g, "expected_error_f16_kv_cache", key);
        if (!(dist.max_abs < goal))
            fail_msg("%s%s: largest difference %g, at most %g wanted", g->name, suffix,
                    dist.max_abs, goal);
        return;
    }
    (void)snprintf(key, sizeof key, "%skl_mean", prefix);
    double mean = 2 * number(g, "expected_error_int8_activations", key);
    (void)snprintf(key, sizeof key, "%skl_max", prefix);
    double max = 3 * number(g, "expected_error_int8_activations", key);
    if (!(dist.kl_mean < mean) || !(dist.kl_max < max))
        fail_msg("%s%s: KL mean %g max %g, at most %g and %g wanted", g->name, suffix,
                dist.kl_mean, dist.kl_max, mean, max);
}

static void check_routes(const struct golden *g, const char *suffix, const int16_t *got) {
    struct npy_array expected;
    load_array(g, suffix, &expected);
    assert_int_equal(expected.type, NPY_I16);
    const int16_t *want = expected.elements;
    for (uint64_t i = 0; i < expected.n; i++)
        if (want[i] != got[i])
            fail_msg("%s%s: choice %lu is expert %d, expected %d", g->name, suffix,
                    (unsigned long)i, got[i], want[i]);
    npy_array_fini(&expected);
}

static void check_run(const struct golden *g, const struct run *run, bool f16_cache) {
    check_logits(g, ".logits.npy", "", run->logits, f16_cache);
    if (run->n_moe > 0) check_routes(g, ".routes.npy", run->routes);
    assert_int_equal(g->shape->n_mtp, json_object_get(g->json, "mtp_block") ? 1 : 0);
    if (g->shape->n_mtp == 0) return;
    check_logits(g, ".mtp.npy", "mtp_", run->mtp_logits, f16_cache);
    check_routes(g, ".mtp.routes.npy", run->mtp_routes);
}

static void assert_same_bits(const struct golden *g, const struct run *a, const struct run *b) {
    size_t n = (size_t)g->n * g->shape->n_vocab * sizeof(float);
    assert_memory_equal(a->logits, b->logits, n);
    assert_memory_equal(a->mtp_logits, b->mtp_logits, n);
    assert_memory_equal(a->hidden, b->hidden, (size_t)g->n * g->shape->n_embd * sizeof(float));
}

/* ---- tests ---- */

/* One batch; token by token; batches of 7; and one batch with an f16 cache. */
static void logits_match_the_reference_in_any_split(void **state) {
    struct golden g;
    golden_open(&g, *state, kern_at(0), 2);

    struct run whole, single, seven, f16;
    run_make(&whole, &g, g.n, DT_F32);
    check_run(&g, &whole, false);
    run_make(&single, &g, 1, DT_F32);
    assert_same_bits(&g, &whole, &single);
    run_make(&seven, &g, 7, DT_F32);
    assert_same_bits(&g, &whole, &seven);
    run_make(&f16, &g, 7, DT_F16);
    check_run(&g, &f16, true);

    run_free(&whole);
    run_free(&single);
    run_free(&seven);
    run_free(&f16);
    golden_close(&g);
}

static void every_kernel_table_and_thread_count_gives_the_same_bits(void **state) {
    (void)state;
    static const char *const names[] = {"glm4moe", "glm4moe-q4k", "glm4moe-q4q5", "qwen3moe-iq4",
            "qwen3moe-mxfp4", "llama3-tied"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct golden g;
        struct run first;
        golden_open(&g, names[i], kern_at(0), 1);
        run_make(&first, &g, 5, DT_F16);
        golden_close(&g);
        for (unsigned t = 0; kern_at(t); t++) {
            struct golden other;
            struct run run;
            golden_open(&other, names[i], kern_at(t), 1 + (t + 2) % 3);
            run_make(&run, &other, 11, DT_F16);
            assert_same_bits(&other, &first, &run);
            run_free(&run);
            if (!kern_at(t + 1)) run_free(&first);
            golden_close(&other);
        }
    }
}

/* Two sessions in one batch, rows interleaved, give what each gives alone. */
static void rows_of_two_sessions_do_not_see_each_other(void **state) {
    (void)state;
    struct golden g;
    struct run alone;
    golden_open(&g, "glm4moe-q8", kern_at(0), 2);
    run_make(&alone, &g, g.n, DT_F16);

    enum { N = 12 };
    size_t v = g.shape->n_vocab, d = g.shape->n_embd;
    struct kv *a = new_kv(&g, DT_F16), *b = new_kv(&g, DT_F16);
    struct model_work *work = new_work(&g, 2 * N);
    int32_t tokens[2 * N];
    uint32_t positions[2 * N];
    struct kv *kvs[2 * N];
    for (uint32_t i = 0; i < 2 * N; i++) {
        positions[i] = i / 2;
        kvs[i] = i % 2 ? b : a;
        tokens[i] = i % 2 ? g.tokens[g.n - 1 - i / 2] : g.tokens[i / 2];
    }
    float *hidden = calloc(2 * N * d, sizeof *hidden), *logits = calloc(2 * N * v, sizeof *logits);
    assert_true(hidden && logits);
    const struct model_batch batch = {2 * N, tokens, positions, kvs};
    model_walk_step(&g.walk, work, &batch, NULL, hidden, logits);
    for (size_t i = 0; i < N; i++)
        assert_memory_equal(logits + 2 * i * v, alone.logits + i * v, v * sizeof *logits);

    free(hidden);
    free(logits);
    kv_free(a);
    kv_free(b);
    model_work_free(work);
    run_free(&alone);
    golden_close(&g);
}

/* What a rejected draft left in the cache is written over and never read. */
static void positions_can_be_written_again(void **state) {
    (void)state;
    struct golden g;
    struct run alone;
    golden_open(&g, "qwen3moe-q8", kern_at(0), 2);
    run_make(&alone, &g, g.n, DT_F32);

    enum { N = 20, KEEP = 6 };
    size_t v = g.shape->n_vocab, d = g.shape->n_embd;
    struct kv *kv = new_kv(&g, DT_F32);
    struct model_work *work = new_work(&g, N);
    int32_t tokens[N];
    uint32_t positions[N];
    struct kv *kvs[N];
    for (uint32_t i = 0; i < N; i++) {
        positions[i] = i;
        kvs[i] = kv;
        tokens[i] = i < KEEP ? g.tokens[i] : (g.tokens[i] + 1) % 256;
    }
    float *hidden = calloc(N * d, sizeof *hidden), *logits = calloc(N * v, sizeof *logits);
    assert_true(hidden && logits);
    const struct model_batch draft = {N, tokens, positions, kvs};
    model_walk_step(&g.walk, work, &draft, NULL, hidden, logits);
    const struct model_batch right = {8, g.tokens + KEEP, positions + KEEP, kvs};
    model_walk_step(&g.walk, work, &right, NULL, hidden, logits);
    assert_memory_equal(logits, alone.logits + KEEP * v, 8 * v * sizeof *logits);

    free(hidden);
    free(logits);
    kv_free(kv);
    model_work_free(work);
    run_free(&alone);
    golden_close(&g);
}

static void a_q8_0_cache_stays_close(void **state) {
    (void)state;
    struct golden g;
    struct run f32, q8;
    golden_open(&g, "glm4moe", kern_at(0), 2);
    run_make(&f32, &g, g.n, DT_F32);
    run_make(&q8, &g, g.n, DT_Q8_0);
    struct distance dist = compare(f32.logits, q8.logits, g.n, g.shape->n_vocab);
    assert_true(dist.kl_mean > 0 && dist.kl_mean < 1e-3);
    run_free(&f32);
    run_free(&q8);
    golden_close(&g);
}

static void a_poisoned_row_becomes_nan_and_others_do_not(void **state) {
    (void)state;
    struct golden g;
    golden_open(&g, "mixtral", kern_at(0), 1);
    size_t d = g.shape->n_embd;
    struct kv *kv = new_kv(&g, DT_F32);
    struct model_work *work = new_work(&g, 2);
    struct kv *kvs[] = {kv, kv};
    const uint32_t positions[] = {0, 1};
    const struct model_batch batch = {2, g.tokens, positions, kvs};
    struct model_routed routed;
    int64_t *sums = calloc(2 * d, sizeof *sums);
    float *hidden = calloc(2 * d, sizeof *hidden);
    assert_true(sums && hidden);

    model_embed(g.walk.model, work, &batch);
    assert_true(model_block_attend(g.walk.model, work, &batch, 0, &routed));
    model_block_finish(g.walk.model, work, &batch, 0, sums, (const int8_t[]){-20, -20},
            (const uint8_t[]){0, 1});
    model_hidden(g.walk.model, work, &batch, false, hidden);
    assert_true(isfinite(hidden[0]) && isfinite(hidden[d - 1]));
    assert_true(isnan(hidden[d]) && isnan(hidden[2 * d - 1]));

    free(sums);
    free(hidden);
    kv_free(kv);
    model_work_free(work);
    golden_close(&g);
}

#define LOGITS(name)                                                                               \
    { name " gives the logits of the reference in any split",                                      \
            logits_match_the_reference_in_any_split, NULL, NULL, (char[]){name} }

int main(void) {
    const struct CMUnitTest tests[] = {
            LOGITS("glm4moe"),
            LOGITS("glm4moe-q4k"),
            LOGITS("glm4moe-iq4"),
            LOGITS("glm4moe-q8"),
            LOGITS("glm4moe-q4q5"),
            LOGITS("glm4moe-mxfp4"),
            LOGITS("llama"),
            LOGITS("llama3-tied"),
            LOGITS("mixtral"),
            LOGITS("qwen2"),
            LOGITS("qwen2moe"),
            LOGITS("qwen3"),
            LOGITS("qwen3moe"),
            LOGITS("qwen3moe-q4k"),
            LOGITS("qwen3moe-iq4"),
            LOGITS("qwen3moe-q8"),
            LOGITS("qwen3moe-q4q5"),
            LOGITS("qwen3moe-mxfp4"),
            LOGITS("olmoe"),
            LOGITS("minimax-m2"),
            cmocka_unit_test(every_kernel_table_and_thread_count_gives_the_same_bits),
            cmocka_unit_test(rows_of_two_sessions_do_not_see_each_other),
            cmocka_unit_test(positions_can_be_written_again),
            cmocka_unit_test(a_q8_0_cache_stays_close),
            cmocka_unit_test(a_poisoned_row_becomes_nan_and_others_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
