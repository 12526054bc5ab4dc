/* grid_test.c - what merging on an integer grid costs: KL divergence of the demo model's logits on its
 * own text, against a grid so fine that the merge is as good as exact.
 *
 * The figure is taken with the model's weights widened to F32, so that nothing but the grid differs.
 * With 8-bit activations any change in the last bit (another order of float additions would do)
 * turns a few roundings over and ends at the noise of the 8 bits, whatever its size; that figure is
 * printed beside it. */
#include "coordinator/cli/app.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tmpdir.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Sums at 2^-34 of the residual's RMS: a thousand times finer than binary32 itself. */
#define EXACT_BITS 34
#define N_TOKENS 512

struct rows {
    float *logits; /* [N_TOKENS][n_vocab] */
    uint32_t n_vocab;
};

static int keep(void *arg, uint32_t position, const float *row, struct err *err) {
    (void)err;
    struct rows *rows = arg;
    memcpy(rows->logits + (size_t)position * rows->n_vocab, row, rows->n_vocab * sizeof *row);
    return 0;
}

static int32_t *read_tokens(void) {
    const char *shared = getenv("POTLUCK_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/models/demo/expected.json", shared ? shared : "../shared");
    json_t *root = json_load_file(path, 0, NULL);
    if (!root) return NULL;
    json_t *ids = json_object_get(root, "text_token_ids");
    int32_t *tokens = calloc(N_TOKENS, sizeof *tokens);
    for (size_t i = 0; i < N_TOKENS; i++)
        tokens[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    json_decref(root);
    return tokens;
}

/* Copies one metadata entry. */
static void copy_key(const struct gguf *gguf, struct gguf_writer *w, uint64_t index) {
    struct gguf_str key;
    enum gguf_type type;
    char name[256];
    assert_true(gguf_key_at(gguf, index, &key, &type));
    snprintf(name, sizeof name, "%.*s", (int)key.n, key.bytes);

    uint64_t number = 0;
    double real = 0;
    bool flag = false;
    struct gguf_str text;
    struct gguf_array array;
    if (type == GGUF_ARRAY) {
        struct buf raw = {0};
        assert_int_equal(gguf_get_array(gguf, name, &array, NULL), 1);
        uint32_t element = array.type;
        assert_int_equal(buf_append(&raw, &element, sizeof element, NULL), 0);
        assert_int_equal(buf_append(&raw, &array.n, sizeof array.n, NULL), 0);
        assert_int_equal(buf_append(&raw, array.bytes, array.n_bytes, NULL), 0);
        gguf_writer_raw(w, name, GGUF_ARRAY, raw.bytes, raw.n_bytes);
        buf_fini(&raw);
    } else if (type == GGUF_STRING) {
        assert_int_equal(gguf_get_str(gguf, name, &text, NULL), 1);
        struct buf copy = {0};
        assert_int_equal(buf_append(&copy, text.bytes, text.n, NULL), 0);
        gguf_writer_str(w, name, copy.bytes);
        buf_fini(&copy);
    } else if (type == GGUF_BOOL) {
        assert_int_equal(gguf_get_bool(gguf, name, &flag, NULL), 1);
        gguf_writer_bool(w, name, flag);
    } else if (type == GGUF_F32 || type == GGUF_F64) {
        assert_int_equal(gguf_get_f64(gguf, name, &real, NULL), 1);
        gguf_writer_f32(w, name, (float)real);
    } else {
        assert_int_equal(gguf_get_u64(gguf, name, &number, NULL), 1);
        gguf_writer_u32(w, name, (uint32_t)number);
    }
}

/* The same model with every matrix as F32. */
static void write_f32_model(const char *from, const char *to) {
    struct gguf *gguf = NULL;
    struct err err = ERR_INIT;
    struct gguf_writer w;
    if (gguf_open(from, &gguf, &err) < 0) fail_msg("%s", err.what);
    gguf_writer_begin(&w);
    struct gguf_str key;
    enum gguf_type type;
    for (uint64_t i = 0; gguf_key_at(gguf, i, &key, &type); i++)
        copy_key(gguf, &w, i);
    for (uint64_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(gguf, i);
        uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        float *values = calloc(n, sizeof *values);
        kern_dequantise(t->type, t->bytes, n, values);
        gguf_writer_tensor(&w, t->name, DT_F32, t->n_dims, t->ne, values);
        free(values);
    }
    if (gguf_writer_finish_file(&w, to, &err) < 0) fail_msg("%s", err.what);
    gguf_writer_fini(&w);
    gguf_free(gguf);
}

static float *logits_with(
        const char *model, int grid_bits, const int32_t *tokens, uint32_t *out_n_vocab) {
    struct app_options options = APP_OPTIONS_DEFAULTS;
    struct app_needs needs = {.n_ctx = N_TOKENS, .grid_bits = grid_bits};
    struct app app = {0};
    struct err err = ERR_INIT;
    options.general.quiet = true;
    options.kv = "f32";
    if (app_open(&app, &options, model, &needs, &err) < 0) fail_msg("%s: %s", err.where, err.what);
    struct rows rows = {.n_vocab = app.summary.shape.n_vocab};
    rows.logits = calloc((size_t)N_TOKENS * rows.n_vocab, sizeof(float));
    struct engine_sink sink = {.arg = &rows, .all_logits = true, .logits = keep};
    if (engine_eval(app.engine, app.session, tokens, N_TOKENS, &sink, &err) < 0)
        fail_msg("%s: %s", err.where, err.what);
    app_close(&app);
    *out_n_vocab = rows.n_vocab;
    return rows.logits;
}

static double kl(const float *p, const float *q, uint32_t n) {
    double p_max = p[0], q_max = q[0], p_sum = 0, q_sum = 0, sum = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (p[i] > p_max) p_max = p[i];
        if (q[i] > q_max) q_max = q[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        p_sum += exp(p[i] - p_max);
        q_sum += exp(q[i] - q_max);
    }
    for (uint32_t i = 0; i < n; i++) {
        double lp = p[i] - p_max - log(p_sum), lq = q[i] - q_max - log(q_sum);
        sum += exp(lp) * (lp - lq);
    }
    return sum;
}

/* Mean KL over the text of each grid against the exact merge; prints a table. */
static void measure(const char *model, const char *what, const int32_t *tokens, const int *bits,
        size_t n_bits, double *out_mean) {
    uint32_t n_vocab;
    float *exact = logits_with(model, EXACT_BITS, tokens, &n_vocab);
    for (size_t b = 0; b < n_bits; b++) {
        float *rounded = logits_with(model, bits[b], tokens, &n_vocab);
        double max = 0;
        out_mean[b] = 0;
        for (uint32_t r = 0; r < N_TOKENS; r++) {
            double d = kl(exact + (size_t)r * n_vocab, rounded + (size_t)r * n_vocab, n_vocab);
            out_mean[b] += d / N_TOKENS;
            if (d > max) max = d;
        }
        print_message("%s, grid of 2^-%d of the RMS: KL mean %.2e, max %.2e\n", what, bits[b],
                out_mean[b], max);
        free(rounded);
    }
    free(exact);
}

static void the_contract_grid_moves_logits_less_than_a_millionth(void **state) {
    (void)state;
    int32_t *tokens = read_tokens();
    if (!tokens) {
        skip();
        return;
    }
    static const int bits[] = {8, 10, 12, 14, 16, KERN_GRID_BITS};
    double mean[6];
    struct tmpdir folder;
    char path[512];
    assert_true(tmpdir_new(&folder));
    tmpdir_file(&folder, "f32.gguf", path);
    write_f32_model("deploy/demo/potluck-demo.gguf", path);
    measure(path, "F32 weights", tokens, bits, 6, mean);
    tmpdir_remove(&folder);
    assert_true(mean[5] < 1e-6);
    assert_true(mean[5] > 0);       /* the grid does something, */
    assert_true(mean[0] > mean[5]); /* and a coarser one does more */

    static const int quantised_bits[] = {KERN_GRID_BITS, 26, 30};
    measure("deploy/demo/potluck-demo.gguf", "8-bit activations", tokens, quantised_bits, 3, mean);
    free(tokens);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_contract_grid_moves_logits_less_than_a_millionth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
