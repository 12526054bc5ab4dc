/* model_demo_test.c - the demo model, in Q4_K and friends, is as good as its exact weights.
 * Reference: shared/models/demo/expected.json, made with dequantised weights and float
 * activations. */
#include "tests/support/model_walk.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

enum { N_MAX = 1536, STEP = 64 };

struct demo {
    struct model_walk walk;
    json_t *expected;
    struct kv *kv;
    struct model_work *work;
    uint32_t n;
    int32_t tokens[N_MAX];
    float *hidden; /* [1 + N_MAX][n_embd], row 0 zeros */
    float *logits; /* [STEP][n_vocab] */
};

static int make(void **state) {
    const char *shared = getenv("POTLUCK_SHARED");
    char path[1024];
    struct demo *d = calloc(1, sizeof *d);
    struct err err = ERR_INIT;
    assert_non_null(d);
    *state = d;

    (void)snprintf(path, sizeof path, "%s/models/demo/expected.json",
            shared ? shared : "../shared");
    d->expected = json_load_file(path, 0, NULL);
    (void)snprintf(path, sizeof path, "%s/models/demo/potluck-demo.gguf",
            shared ? shared : "../shared");
    if (!d->expected || model_walk_open(&d->walk, path, kern_at(0), 2, &err) < 0)
        fail_msg("%s: %s", path, err.what);

    const struct model_shape *s = model_shape(d->walk.model);
    struct kv_shape shape;
    model_kv_shape(d->walk.model, N_MAX, DT_F32, &shape);
    assert_int_equal(kv_new(&shape, &d->kv, &err), 0);
    assert_int_equal(model_work_new(d->walk.model, STEP, &d->work, &err), 0);
    d->hidden = calloc((size_t)(1 + N_MAX) * s->n_embd, sizeof *d->hidden);
    d->logits = calloc((size_t)STEP * s->n_vocab, sizeof *d->logits);
    assert_true(d->hidden && d->logits);
    return 0;
}

static int drop(void **state) {
    struct demo *d = *state;
    json_decref(d->expected);
    kv_free(d->kv);
    model_work_free(d->work);
    model_walk_close(&d->walk);
    free(d->hidden);
    free(d->logits);
    free(d);
    return 0;
}

static void append(struct demo *d, const json_t *ids) {
    for (size_t i = 0; i < json_array_size(ids); i++) {
        assert_true(d->n < N_MAX);
        d->tokens[d->n++] = (int32_t)json_integer_value(json_array_get(ids, i));
    }
}

/* Runs rows [at, at + n) through the trunk, or through the MTP block when the trunk is done. */
static uint32_t step(struct demo *d, uint32_t at, bool mtp) {
    uint32_t n = d->n - at < STEP ? d->n - at : STEP;
    uint32_t positions[STEP];
    struct kv *kvs[STEP];
    for (uint32_t i = 0; i < n; i++) {
        positions[i] = at + i;
        kvs[i] = d->kv;
    }
    size_t width = model_shape(d->walk.model)->n_embd;
    const struct model_batch batch = {n, d->tokens + at, positions, kvs};
    if (mtp)
        model_walk_mtp_step(&d->walk, d->work, &batch, d->hidden + at * width, NULL, d->logits);
    else
        model_walk_step(&d->walk, d->work, &batch, NULL, d->hidden + (at + 1) * width, d->logits);
    return n;
}

static uint32_t best(const float *logits, uint32_t n) {
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[at]) at = i;
    return at;
}

static double nll(const float *logits, uint32_t n, int32_t token) {
    double top = logits[best(logits, n)], sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += exp(logits[i] - top);
    return top + log(sum) - logits[token];
}

/* The text is longer than the model's training windows, where 8-bit activations move single
 * tokens by tenths: half a percent either way is noise (another rounding, as of an f16 cache,
 * gives another). */
static void perplexity_is_within_one_percent(void **state) {
    struct demo *d = *state;
    uint32_t v = model_shape(d->walk.model)->n_vocab;
    double sum = 0;
    append(d, json_object_get(d->expected, "text_token_ids"));
    for (uint32_t at = 0, n; at < d->n; at += n) {
        n = step(d, at, false);
        for (uint32_t i = 0; i < n && at + i + 1 < d->n; i++)
            sum += nll(d->logits + (size_t)i * v, v, d->tokens[at + i + 1]);
    }
    double mean = sum / (d->n - 1);
    double want = json_number_value(json_object_get(d->expected, "nll_mean"));
    if (getenv("POTLUCK_VERBOSE")) printf("           nll %.5f, exact %.5f\n", mean, want);
    if (!(fabs(exp(mean) / exp(want) - 1) < 0.01)) fail_msg("nll %g, expected %g", mean, want);
}

/* Teacher-forced: every greedy token with a clear lead is ours too, and drafts are accepted as
 * often as with the exact model. */
static void greedy_answers_and_first_drafts_agree(void **state) {
    struct demo *d = *state;
    uint32_t v = model_shape(d->walk.model)->n_vocab, n_hits = 0, n_drafts = 0;
    size_t index;
    json_t *answer;
    json_array_foreach(json_object_get(d->expected, "greedy"), index, answer) {
        json_t *gaps = json_object_get(answer, "gap_first_second");
        d->n = 0;
        append(d, json_object_get(answer, "prompt_token_ids"));
        uint32_t n_prompt = d->n;
        append(d, json_object_get(answer, "greedy_token_ids"));

        for (uint32_t at = 0, n; at < d->n; at += n) {
            n = step(d, at, false);
            for (uint32_t p = at; p < at + n; p++) {
                if (p + 1 < n_prompt || p + 1 >= d->n) continue;
                if (json_number_value(json_array_get(gaps, p + 1 - n_prompt)) < 0.3) continue;
                assert_int_equal(best(d->logits + (size_t)(p - at) * v, v), d->tokens[p + 1]);
            }
        }
        for (uint32_t at = 0, n; at < d->n; at += n) {
            n = step(d, at, true);
            for (uint32_t p = at; p < at + n; p++) {
                if (p < n_prompt || p + 1 >= d->n) continue;
                n_drafts++;
                n_hits += best(d->logits + (size_t)(p - at) * v, v) == (uint32_t)d->tokens[p + 1];
            }
        }
    }
    double rate = n_hits / (double)n_drafts;
    double want = json_number_value(
            json_object_get(json_object_get(d->expected, "mtp_acceptance"), "first"));
    if (getenv("POTLUCK_VERBOSE")) printf("           accepted %.4f, exact %.4f\n", rate, want);
    if (!(fabs(rate - want) < 0.02)) fail_msg("%u of %u drafts accepted", n_hits, n_drafts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(perplexity_is_within_one_percent, make, drop),
            cmocka_unit_test_setup_teardown(greedy_answers_and_first_drafts_agree, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
