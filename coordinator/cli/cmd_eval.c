/* cmd_eval.c - potluck eval: perplexity, logits, routes and hidden states of a text.
 * Owns: what is collected for the files. Does not: generate. Runs on: the main thread. */
#include "coordinator/cli/app.h"
#include "coordinator/cli/cmd.h"
#include "coordinator/cli/progress.h"
#include "coordinator/cli/report.h"
#include "proto/base/mono.h"
#include "proto/base/sha256.h"
#include "proto/format/npy.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX (64u << 20)

struct eval_options {
    const char *text_path;
    const char *tokens_path;
    const char *logits_path;
    const char *mtp_path;
    const char *routes_path;
    const char *hidden_path;
};

struct evaluation {
    const struct tok_ids *tokens;
    uint32_t n_vocab, n_embd;
    struct sha256 sha;
    double nll;
    struct npy *logits, *mtp, *hidden;
    int16_t *routes;    /* [n_moe][n][n_used] */
    int32_t *moe_index; /* [n_layer] block -> index among those with experts, -1 none */
    uint32_t n_layer, n_used;
    struct progress progress;
};

/* -------------------------------------------------------------- callbacks -- */

/* -ln softmax(row)[target], in binary64: a report, not part of the contract. */
static double nll_of(const float *row, uint32_t n, int32_t target) {
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if (row[i] > max) max = row[i];
    for (uint32_t i = 0; i < n; i++)
        sum += exp(row[i] - max);
    return max + log(sum) - row[target];
}

static int on_logits(void *arg, uint32_t position, const float *row, struct err *err) {
    struct evaluation *e = arg;
    sha256_update(&e->sha, row, e->n_vocab * sizeof *row);
    if (position + 1 < e->tokens->n)
        e->nll += nll_of(row, e->n_vocab, e->tokens->ids[position + 1]);
    return e->logits ? npy_write(e->logits, row, e->n_vocab, err) : 0;
}

static int on_mtp_logits(void *arg, uint32_t position, const float *row, struct err *err) {
    (void)position;
    struct evaluation *e = arg;
    return npy_write(e->mtp, row, e->n_vocab, err);
}

static int on_hidden(void *arg, uint32_t position, const float *row, struct err *err) {
    (void)position;
    struct evaluation *e = arg;
    return npy_write(e->hidden, row, e->n_embd, err);
}

static int on_routes(void *arg, uint32_t layer, uint32_t position, uint32_t n_rows, uint32_t n_used,
        const uint16_t *experts, struct err *err) {
    (void)err;
    struct evaluation *e = arg;
    if (layer >= e->n_layer || e->moe_index[layer] < 0)
        return 0; /* the MTP block's are not asked for */
    size_t at = ((size_t)e->moe_index[layer] * e->tokens->n + position) * n_used;
    for (uint32_t i = 0; i < n_rows * n_used; i++)
        e->routes[at + i] = (int16_t)experts[i];
    return 0;
}

static void on_progress(void *arg, uint32_t done, uint32_t total) {
    struct evaluation *e = arg;
    progress_update(&e->progress, done, total);
}

static bool on_stop(void *arg) {
    (void)arg;
    return app_interrupted();
}

/* ------------------------------------------------------------------ input -- */

/* Ids separated by white space or commas, or a JSON array of them. */
static int parse_ids(const char *text, struct tok_ids *ids, struct err *err) {
    const char *at = text;
    bool json = false, closed = false;
    while (*at) {
        if (isspace((unsigned char)*at) || *at == ',') {
            at++;
        } else if (*at == '[' && !json && ids->n == 0) {
            json = true;
            at++;
        } else if (*at == ']' && json && !closed) {
            closed = true;
            at++;
        } else {
            char *end = NULL;
            errno = 0;
            long value = strtol(at, &end, 10);
            if (end == at || errno || closed || value < 0 || value > INT32_MAX)
                return err_set(err, ERR_BAD_INPUT, "'%.12s' at byte %zu is not a token id", at,
                        (size_t)(at - text));
            int rc = tok_ids_push(ids, (int32_t)value, err);
            if (rc < 0) return rc;
            at = end;
        }
    }
    if (json && !closed) return err_set(err, ERR_BAD_INPUT, "the list of token ids has no ]");
    return 0;
}

static int read_tokens(const struct eval_options *options, const struct tok *tok,
        struct tok_ids *ids, struct err *err) {
    const char *path = options->text_path ? options->text_path : options->tokens_path;
    struct buf text = {0};
    int rc = buf_read_file(&text, path, TEXT_BYTES_MAX, err);
    if (rc == 0 && options->tokens_path) rc = parse_ids(text.bytes, ids, err);
    if (rc == 0 && options->text_path)
        rc = tok_encode(
                tok, text.bytes, text.n_bytes, TOK_PARSE_SPECIAL | TOK_ADD_SPECIAL, ids, err);
    if (rc == 0 && ids->n == 0) rc = err_set(err, ERR_BAD_INPUT, "there is nothing in it");
    if (rc < 0) err_note(err, "%s", path);
    buf_fini(&text);
    return rc;
}

/* ----------------------------------------------------------------- output -- */

static int open_outputs(const struct eval_options *options, const struct app *app,
        struct evaluation *e, uint32_t *out_n_moe, struct err *err) {
    uint64_t n = e->tokens->n;
    const uint64_t by_vocab[2] = {n, e->n_vocab}, by_embd[2] = {n, e->n_embd};
    int rc = 0;
    if (options->logits_path)
        rc = npy_create(options->logits_path, NPY_F32, 2, by_vocab, &e->logits, err);
    if (rc == 0 && options->mtp_path)
        rc = npy_create(options->mtp_path, NPY_F32, 2, by_vocab, &e->mtp, err);
    if (rc == 0 && options->hidden_path)
        rc = npy_create(options->hidden_path, NPY_F32, 2, by_embd, &e->hidden, err);
    if (rc < 0) return rc;

    e->moe_index = calloc(e->n_layer + 1, sizeof *e->moe_index);
    if (!e->moe_index) return err_set(err, ERR_NO_MEMORY, "no memory for the routes");
    uint32_t n_moe = 0;
    for (uint32_t l = 0; l < e->n_layer; l++)
        e->moe_index[l] = model_experts(app->model, l) ? (int32_t)n_moe++ : -1;
    *out_n_moe = n_moe;
    if (!options->routes_path) return 0;
    if (n_moe == 0) return err_set(err, ERR_UNSUPPORTED, "--routes: this model has no experts");
    e->routes = calloc((size_t)n_moe * n * e->n_used, sizeof *e->routes);
    return e->routes ? 0 : err_set(err, ERR_NO_MEMORY, "no memory for the routes");
}

static int write_routes(
        const char *path, const struct evaluation *e, uint32_t n_moe, struct err *err) {
    const uint64_t shape[3] = {n_moe, e->tokens->n, e->n_used};
    struct npy *npy = NULL;
    int rc = npy_create(path, NPY_I16, 3, shape, &npy, err);
    if (rc == 0) rc = npy_write(npy, e->routes, shape[0] * shape[1] * shape[2], err);
    if (rc < 0) {
        npy_free(npy);
        return rc;
    }
    return npy_close(npy, err);
}

/* Closes a writer that may not have been opened; after a failure it is only dropped. */
static int close_output(struct npy **npy, int rc, struct err *err) {
    if (*npy && rc == 0)
        rc = npy_close(*npy, err);
    else
        npy_free(*npy);
    *npy = NULL;
    return rc;
}

static int print_result(const struct app *app, const struct evaluation *e, const char *sha,
        double seconds, struct err *err) {
    size_t n_scored = e->tokens->n > 1 ? e->tokens->n - 1 : 0;
    double nll = n_scored ? e->nll / (double)n_scored : 0;
    if (app->options.general.json)
        return report_print(
                json_pack("{s:I, s:f, s:f, s:s, s:f, s:o}", "tokens", (json_int_t)e->tokens->n,
                        "nll", nll, "perplexity", exp(nll), "logits_sha256", sha, "seconds",
                        seconds, "workers", report_workers(app->cluster)),
                err);
    printf("tokens         %zu\nnll            %.6f\nperplexity     %.4f\nlogits_sha256  %s\n"
           "seconds        %.2f\n",
            e->tokens->n, nll, exp(nll), sha, seconds);
    return fflush(stdout) ? err_set(err, ERR_IO, "cannot write to stdout") : 0;
}

static int evaluate(const struct eval_options *options, struct app *app,
        const struct tok_ids *tokens, struct err *err) {
    struct evaluation e = {.tokens = tokens,
            .n_vocab = app->summary.shape.n_vocab,
            .n_embd = app->summary.shape.n_embd,
            .n_layer = app->summary.shape.n_layer,
            .n_used = app->summary.shape.n_expert_used};
    uint32_t n_moe = 0;
    char sha[65] = "";
    sha256_init(&e.sha);
    int rc = open_outputs(options, app, &e, &n_moe, err);

    struct engine_sink sink = {.arg = &e,
            .all_logits = true,
            .logits = on_logits,
            .mtp = options->mtp_path != NULL,
            .mtp_logits = e.mtp ? on_mtp_logits : NULL,
            .hidden = e.hidden ? on_hidden : NULL,
            .routes = e.routes ? on_routes : NULL,
            .progress = on_progress,
            .stop = on_stop};
    progress_begin(&e.progress, "evaluating", false, app->options.general.quiet);
    uint64_t start = mono_now();
    if (rc == 0)
        rc = engine_eval(app->engine, app->session, tokens->ids, (uint32_t)tokens->n, &sink, err);
    double seconds = (double)(mono_now() - start) / 1e9;
    progress_end(&e.progress);

    rc = close_output(&e.logits, rc, err);
    rc = close_output(&e.mtp, rc, err);
    rc = close_output(&e.hidden, rc, err);
    if (rc == 0 && e.routes) rc = write_routes(options->routes_path, &e, n_moe, err);
    sha256_final_hex(&e.sha, sha);
    if (rc == 0) rc = print_result(app, &e, sha, seconds, err);
    free(e.routes);
    free(e.moe_index);
    return rc;
}

/* The tokens are needed before the context can be sized, so the vocabulary is read twice. */
static int tokens_first(const struct eval_options *options, const char *model_path,
        struct tok_ids *tokens, struct err *err) {
    struct gguf *gguf = NULL;
    struct tok *tok = NULL;
    int rc = gguf_open(model_path, &gguf, err);
    if (rc == 0 && options->text_path) rc = tok_load(gguf, &tok, err);
    if (rc == 0) rc = read_tokens(options, tok, tokens, err);
    tok_free(tok);
    gguf_free(gguf);
    return rc;
}

int cmd_eval(int argc, char **argv) {
    struct app_options app_options = APP_OPTIONS_DEFAULTS;
    struct eval_options options = {0};
    const struct opt own[] = {
            {"text", 0, OPT_STR, &options.text_path, "FILE", "the text (- for standard input)"},
            {"tokens", 0, OPT_STR, &options.tokens_path, "FILE", "token ids instead of a text"},
            {"logits", 0, OPT_STR, &options.logits_path, "OUT.npy", "logits of every position"},
            {"routes", 0, OPT_STR, &options.routes_path, "OUT.npy", "chosen experts"},
            {"mtp-logits", 0, OPT_STR, &options.mtp_path, "OUT.npy", "logits of the NextN block"},
            {"hidden", 0, OPT_STR, &options.hidden_path, "OUT.npy",
                    "hidden states before the head"},
            OPT_END,
    };
    const struct app_command command = {.name = "eval",
            .own = own,
            .usage = "potluck eval MODEL (--text FILE | --tokens FILE) [OPTIONS]",
            .examples = "  potluck eval model.gguf --text book.txt\n"
                        "  potluck eval model.gguf --tokens ids.json --logits out.npy --kv f32 "
                        "--json\n"};
    struct opt_words words;
    struct buf config = {0};
    struct err err = ERR_INIT;
    struct app app = {0};
    struct tok_ids tokens = {0};

    int rc = app_parse(&command, &app_options, argc, argv, &words, &config, &err);
    if (rc == 0 && app_told(&command, &app_options.general, &app_options)) {
        buf_fini(&config);
        return 0;
    }
    if (rc == 0 && words.n != 1) rc = err_set(&err, ERR_USAGE, "expected one model file");
    if (rc == 0 && !options.text_path == !options.tokens_path)
        rc = err_set(&err, ERR_USAGE, "give either --text FILE or --tokens FILE");

    if (rc == 0) rc = tokens_first(&options, words.words[0], &tokens, &err);
    if (rc == 0 && tokens.n > UINT32_MAX / 2)
        rc = err_set(&err, ERR_LIMIT, "%zu tokens are too many", tokens.n);
    struct app_needs needs = {.mtp = options.mtp_path != NULL, .n_ctx = (uint32_t)tokens.n};
    if (rc == 0) rc = app_open(&app, &app_options, words.words[0], &needs, &err);
    if (rc == 0) rc = evaluate(&options, &app, &tokens, &err);
    int code = rc < 0 ? app_fail("eval", &err) : 0; /* before closing, which may take a second */
    app_close(&app);
    tok_ids_fini(&tokens);
    buf_fini(&config);
    return code;
}
