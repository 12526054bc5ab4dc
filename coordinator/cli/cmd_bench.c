/* cmd_bench.c - potluck bench: prefill, decode at a depth, and steps of several rows, as a table.
 * Owns: the samples. Does not: judge them. Runs on: the main thread. */
#include "coordinator/cli/app.h"
#include "coordinator/cli/cmd.h"
#include "coordinator/cli/progress.h"
#include "coordinator/cli/report.h"
#include "proto/base/aligned.h"
#include "proto/base/checked.h"
#include "proto/base/mem.h"
#include "proto/base/mono.h"
#include "proto/base/rng.h"
#include "proto/base/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPS_MAX 1000
#define ROWS_MAX 16
#define TESTS_MAX (2 + ROWS_MAX)

/* What the bandwidth probe reads: far larger than caches, small enough for any machine. */
#define PROBE_BYTES (UINT64_C(256) << 20)
#define PROBE_PIECE (UINT64_C(1) << 20)

struct bench_options {
    uint32_t pp, tg, depth, reps;
    const char *rows;
};

struct bench_test {
    char name[32];
    uint32_t n_rows;          /* rows a step */
    uint32_t n_steps;         /* steps a sample */
    uint32_t depth;           /* positions before the first step */
    double samples[REPS_MAX]; /* tokens per second */
};

struct bench {
    struct app *app;
    struct sha256 sha;
    int32_t *tokens; /* [n_ctx] repeatable random ids */
    uint32_t n_tests;
    uint32_t reps;
    struct bench_test tests[TESTS_MAX];
};

static int on_logits(void *arg, uint32_t position, const float *row, struct err *err) {
    (void)position;
    (void)err;
    struct bench *bench = arg;
    sha256_update(&bench->sha, row, bench->app->summary.shape.n_vocab * sizeof *row);
    return 0;
}

static bool on_stop(void *arg) {
    (void)arg;
    return app_interrupted();
}

/* Brings the session to a depth: what is there already is kept. */
static int go_to_depth(struct bench *bench, uint32_t depth, struct err *err) {
    struct session *session = bench->app->session;
    struct engine_sink sink = {.arg = bench, .stop = on_stop};
    if (session_n_past(session) > depth) session_truncate(session, depth);
    uint32_t n_past = session_n_past(session);
    if (n_past == depth) return 0;
    return engine_eval(
            bench->app->engine, session, bench->tokens + n_past, depth - n_past, &sink, err);
}

static int run_sample(struct bench *bench, struct bench_test *test, uint32_t rep, struct err *err) {
    struct engine_sink sink = {.arg = bench, .logits = on_logits, .stop = on_stop};
    int rc = go_to_depth(bench, test->depth, err);
    uint64_t start = mono_now();
    for (uint32_t s = 0; rc == 0 && s < test->n_steps; s++)
        rc = engine_eval(bench->app->engine, bench->app->session,
                bench->tokens + session_n_past(bench->app->session), test->n_rows, &sink, err);
    double seconds = (double)(mono_now() - start) / 1e9;
    test->samples[rep] = (double)test->n_rows * test->n_steps / seconds;
    return rc;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* --------------------------------------------------------------- bandwidth -- */

static void probe_piece(void *arg, uint32_t piece, uint32_t thread) {
    (void)thread;
    const uint64_t *at = (const uint64_t *)arg + piece * (PROBE_PIECE / 8);
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < PROBE_PIECE / 8; i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] += at[i + k];
    volatile uint64_t keep = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
    (void)keep;
}

/* Bytes a second that these threads read from memory: the best of five passes; 0 without memory. */
static double read_bandwidth(struct pool *pool) {
    uint64_t *block = aligned_new(PROBE_BYTES);
    if (!block) return 0;
    memset(block, 1, PROBE_BYTES);
    double best = 0;
    for (int pass = 0; pass < 5; pass++) {
        uint64_t start = mono_now();
        pool_run(pool, PROBE_BYTES / PROBE_PIECE, probe_piece, block);
        double rate = (double)PROBE_BYTES / ((double)(mono_now() - start) / 1e9);
        if (rate > best) best = rate;
    }
    free(block);
    return best;
}

/* Weights that a decode step of one row reads: all that is held here but the embedding table, and
 * the chosen experts of every layer. */
static uint64_t bytes_per_token(const struct app *app) {
    uint64_t n = model_held_bytes(app->model);
    for (uint32_t l = 0; l < app->summary.shape.n_layer; l++) {
        const struct model_experts *experts = model_experts(app->model, l);
        if (!experts) continue;
        uint64_t one = dtype_row_bytes(experts->gate.type, experts->n_embd) * experts->n_ff +
                       dtype_row_bytes(experts->up.type, experts->n_embd) * experts->n_ff +
                       dtype_row_bytes(experts->down.type, experts->n_ff) * experts->n_embd;
        n += one * experts->router.n_expert_used;
    }
    return n;
}

/* ------------------------------------------------------------------- tests -- */

static struct bench_test *add_test(struct bench *bench, const char *kind, uint32_t number,
        uint32_t n_rows, uint32_t n_steps, uint32_t depth) {
    struct bench_test *test = &bench->tests[bench->n_tests++];
    snprintf(test->name, sizeof test->name, "%s%u", kind, number);
    test->n_rows = n_rows;
    test->n_steps = n_steps;
    test->depth = depth;
    return test;
}

static int add_tests(struct bench *bench, const struct bench_options *options, struct err *err) {
    if (options->pp) add_test(bench, "pp", options->pp, options->pp, 1, 0);
    if (options->tg) add_test(bench, "tg", options->tg, 1, options->tg, options->depth);
    for (const char *at = options->rows; at && *at;) {
        char number[16];
        size_t n = strcspn(at, ",");
        uint64_t rows = 0;
        snprintf(number, sizeof number, "%.*s", (int)n, at);
        int rc = opt_u64(number, ENGINE_BATCH_MAX, &rows, err);
        if (rc == 0 && rows == 0) rc = err_set(err, ERR_USAGE, "a step of no rows");
        if (rc == 0 && bench->n_tests == TESTS_MAX)
            rc = err_set(err, ERR_USAGE, "too many numbers");
        if (rc < 0) {
            err_note(err, "--rows %s", options->rows);
            return rc;
        }
        add_test(bench, "rows", (uint32_t)rows, (uint32_t)rows, 16, options->depth);
        at += n + (at[n] == ',');
    }
    if (bench->n_tests == 0)
        return err_set(err, ERR_USAGE, "nothing to do: --pp, --tg and --rows are 0");
    return 0;
}

static uint32_t positions_needed(const struct bench *bench) {
    uint64_t most = 1;
    for (uint32_t t = 0; t < bench->n_tests; t++)
        most = max_u64(most,
                bench->tests[t].depth + (uint64_t)bench->tests[t].n_rows * bench->tests[t].n_steps);
    return (uint32_t)min_u64(most, UINT32_MAX / 2);
}

static int report(struct bench *bench, const char *sha, struct err *err) {
    struct app *app = bench->app;
    uint64_t per_token = bytes_per_token(app);
    uint64_t rss = mem_peak_rss_bytes(); /* before the probe takes memory of its own */
    double bandwidth = read_bandwidth(app->pool);
    json_t *results = json_array();
    if (!app->options.general.json)
        printf("%-12s %12s %12s %12s   tokens/s, %u runs\n", "test", "min", "median", "max",
                bench->reps);
    for (uint32_t t = 0; t < bench->n_tests; t++) {
        struct bench_test *test = &bench->tests[t];
        qsort(test->samples, bench->reps, sizeof test->samples[0], compare);
        double min = test->samples[0], max = test->samples[bench->reps - 1];
        double median = test->samples[bench->reps / 2];
        json_array_append_new(
                results, json_pack("{s:s, s:f, s:f, s:f}", "test", test->name, "tps_min", min,
                                 "tps_median", median, "tps_max", max));
        if (!app->options.general.json)
            printf("%-12s %12.2f %12.2f %12.2f\n", test->name, min, median, max);
    }
    if (app->options.general.json)
        return report_print(
                json_pack("{s:o, s:s, s:s, s:i, s:o, s:I, s:I, s:f}", "results", results,
                        "logits_sha256", sha, "isa", app->kern->name, "threads",
                        (int)pool_n_threads(app->pool), "workers", report_workers(app->cluster),
                        "peak_rss_bytes", (json_int_t)rss, "bytes_per_token_read",
                        (json_int_t)per_token, "read_bandwidth", bandwidth),
                err);
    json_decref(results);
    printf("\nisa %s, %u threads, %u workers; a token reads %.1f MiB of weights; this machine "
           "reads "
           "%.1f GiB/s with these threads\npeak memory here %.1f MiB; logits_sha256 %s\n",
            app->kern->name, pool_n_threads(app->pool), cluster_n_workers(app->cluster),
            (double)per_token / (1 << 20), bandwidth / (1 << 30), (double)rss / (1 << 20), sha);
    return fflush(stdout) ? err_set(err, ERR_IO, "cannot write to stdout") : 0;
}

static int measure(struct bench *bench, struct err *err) {
    struct progress progress;
    char sha[65];
    uint64_t total = (uint64_t)bench->n_tests * bench->reps, done = 0;
    int rc = 0;
    sha256_init(&bench->sha);
    progress_begin(&progress, "measuring", false, bench->app->options.general.quiet);
    for (uint32_t t = 0; rc == 0 && t < bench->n_tests; t++) {
        rc = run_sample(bench, &bench->tests[t], 0, err); /* warms caches up */
        for (uint32_t rep = 0; rc == 0 && rep < bench->reps; rep++) {
            rc = run_sample(bench, &bench->tests[t], rep, err);
            progress_update(&progress, ++done, total);
        }
    }
    progress_end(&progress);
    sha256_final_hex(&bench->sha, sha);
    return rc < 0 ? rc : report(bench, sha, err);
}

static int fill_tokens(struct bench *bench, struct err *err) {
    uint32_t n = session_n_ctx(bench->app->session);
    bench->tokens = calloc(n, sizeof *bench->tokens);
    if (!bench->tokens) return err_set(err, ERR_NO_MEMORY, "no memory for %u tokens", n);
    struct rng rng;
    rng_init(&rng, 1);
    for (uint32_t i = 0; i < n; i++)
        bench->tokens[i] = (int32_t)rng_below(&rng, bench->app->summary.shape.n_vocab);
    return 0;
}

int cmd_bench(int argc, char **argv) {
    struct app_options app_options = APP_OPTIONS_DEFAULTS;
    struct bench_options options = {.pp = 512, .tg = 128, .reps = 5};
    bool floor_wanted = false;
    const struct opt own[] = {
            {"pp", 0, OPT_U32, &options.pp, "N", "prefill of N tokens (default 512, 0: none)"},
            {"tg", 0, OPT_U32, &options.tg, "N", "decode of N tokens (default 128, 0: none)"},
            {"depth", 0, OPT_U32, &options.depth, "N", "tokens in the context before decode"},
            {"reps", 0, OPT_U32, &options.reps, "R", "runs of each test (default 5)"},
            {"rows", 0, OPT_STR, &options.rows, "LIST", "decode steps of several rows: 1,2,4,8"},
            {"floor", 0, OPT_FLAG, &floor_wanted, NULL,
                    "compare with the floor (not supported yet)"},
            OPT_END,
    };
    const struct app_command command = {.name = "bench",
            .own = own,
            .usage = "potluck bench MODEL [OPTIONS]",
            .examples = "  potluck bench model.gguf\n"
                        "  potluck bench model.gguf --pp 0 --tg 64 --rows 1,2,4,8 --json\n"};
    struct opt_words words;
    struct buf config = {0};
    struct err err = ERR_INIT;
    struct app app = {0};
    struct bench *bench = calloc(1, sizeof *bench);

    int rc = bench ? app_parse(&command, &app_options, argc, argv, &words, &config, &err)
                   : err_set(&err, ERR_NO_MEMORY, "no memory for the samples");
    if (rc == 0 && app_told(&command, &app_options.general, &app_options)) {
        free(bench);
        buf_fini(&config);
        return 0;
    }
    if (rc == 0 && words.n != 1) rc = err_set(&err, ERR_USAGE, "expected one model file");
    if (rc == 0 && floor_wanted) rc = err_set(&err, ERR_USAGE, "--floor is not supported yet");
    if (rc == 0 && (options.reps == 0 || options.reps > REPS_MAX))
        rc = err_set(&err, ERR_USAGE, "--reps %u: 1 to %d are possible", options.reps, REPS_MAX);
    if (rc == 0) rc = add_tests(bench, &options, &err);

    if (rc == 0) {
        struct app_needs needs = {.n_ctx = positions_needed(bench)};
        if (app_options.ctx == 0) app_options.ctx = needs.n_ctx;
        bench->app = &app;
        bench->reps = options.reps;
        rc = app_open(&app, &app_options, words.words[0], &needs, &err);
    }
    if (rc == 0) rc = fill_tokens(bench, &err);
    if (rc == 0) rc = measure(bench, &err);
    int code = rc < 0 ? app_fail("bench", &err) : 0; /* before closing, which may take a second */
    app_close(&app);
    if (bench) free(bench->tokens);
    free(bench);
    buf_fini(&config);
    return code;
}
