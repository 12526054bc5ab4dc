/* cmd_run.c - potluck run: one answer to one prompt.
 * Owns: the prompt and what is printed. Does not: know how tokens are made. Runs on: the main thread. */
#include "coordinator/cli/app.h"
#include "coordinator/cli/cmd.h"
#include "coordinator/cli/progress.h"
#include "coordinator/cli/prompt.h"
#include "coordinator/cli/report.h"
#include "coordinator/engine/generate.h"
#include "proto/base/rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROMPT_BYTES_MAX (16u << 20)

struct run_options {
    const char *prompt;
    const char *file;
    const char *system;
    uint32_t n;
    bool raw;
    bool ignore_eos;
    bool show_stats;
    struct sample_options sample;
    uint64_t seed; /* SEED_UNSET: random */
    struct opt_strs stops;
};
#define SEED_UNSET UINT64_MAX

struct output {
    bool json;
    struct buf text; /* the answer, for --json */
    struct progress progress;
    bool write_failed;
};

static void on_text(void *arg, const char *bytes, size_t n) {
    struct output *out = arg;
    if (out->json) {
        (void)buf_append(&out->text, bytes, n, NULL); /* a shorter text is all that could be lost */
        return;
    }
    progress_end(&out->progress);
    if (fwrite(bytes, 1, n, stdout) != n || fflush(stdout) != 0) out->write_failed = true;
}

static void on_progress(void *arg, uint32_t done, uint32_t total) {
    struct output *out = arg;
    progress_update(&out->progress, done, total);
    if (done == total) progress_end(&out->progress);
}

static bool on_interrupted(void *arg) {
    const struct output *out = arg;
    return app_interrupted() || out->write_failed;
}

static int read_prompt(const struct run_options *options, struct buf *prompt, struct err *err) {
    if (!options->prompt && !options->file && isatty(STDIN_FILENO))
        return err_set(err, ERR_USAGE, "there is no prompt: give -p TEXT or -f FILE");
    int rc = options->prompt
            ? buf_append_str(prompt, options->prompt, err)
            : buf_read_file(prompt, options->file ? options->file : "-", PROMPT_BYTES_MAX, err);
    /* the line end that an editor or echo leaves is no part of the question */
    if (rc == 0 && !options->prompt && !options->raw && prompt->n_bytes
            && prompt->bytes[prompt->n_bytes - 1] == '\n')
        prompt->bytes[--prompt->n_bytes] = 0;
    if (rc == 0 && prompt->n_bytes == 0) rc = err_set(err, ERR_BAD_INPUT, "the prompt is empty");
    return rc;
}

/* ----------------------------------------------------------------- reports -- */

static double seconds(uint64_t ns) {
    return (double)ns / 1e9;
}

static json_t *speculation_json(uint64_t n_steps) {
    return json_pack("{s:s, s:I, s:i, s:i, s:f, s:[]}", "kind", "off", "steps", (json_int_t)n_steps,
            "drafted", 0, "accepted", 0, "tokens_per_step", 1.0, "length_histogram");
}

static int print_json(const struct app *app, const struct generate_result *result,
        const struct tok_ids *prompt, const struct output *out, uint64_t seed, struct err *err) {
    struct engine_times times;
    engine_times(app->engine, &times);
    size_t n_decoded = result->tokens.n ? result->tokens.n - 1 : 0;
    json_t *object = json_pack("{s:o, s:o, s:o, s:s, s:I, s:s, s:{s:I, s:f, s:I, s:f, s:f, s:f}, "
                               "s:o, s:o, s:o, s:o}",
            "prompt_token_ids", report_ids(prompt->ids, prompt->n), "token_ids",
            report_ids(result->tokens.ids, result->tokens.n), "text",
            json_stringn(out->text.bytes ? out->text.bytes : "", out->text.n_bytes), "stop",
            generate_stop_name(result->stop), "seed", (json_int_t)seed, "logits_sha256",
            result->logits_sha256, "timing", "prefill_tokens", (json_int_t)prompt->n,
            "prefill_seconds", seconds(result->prefill_ns), "decode_tokens", (json_int_t)n_decoded,
            "decode_seconds", seconds(result->decode_ns), "first_token_seconds",
            seconds(result->first_token_ns), "load_seconds", seconds(app->load_ns), "step_ms",
            report_steps(&times), "speculation", speculation_json(times.steps), "workers",
            report_workers(app->cluster), "wire", report_wire(app->cluster));
    return report_print(object, err);
}

static void print_summary(const struct app *app, const struct run_options *options,
        const struct generate_result *result, size_t n_prompt, uint64_t seed) {
    size_t n_decoded = result->tokens.n ? result->tokens.n - 1 : 0;
    fprintf(stderr, "\n[%zu prompt tokens at %.1f/s, %zu tokens", n_prompt,
            (double)n_prompt / seconds(result->prefill_ns ? result->prefill_ns : 1),
            result->tokens.n);
    if (n_decoded) fprintf(stderr, " at %.1f/s", (double)n_decoded / seconds(result->decode_ns));
    fprintf(stderr, "; ended by %s; loading took %.2f s", generate_stop_name(result->stop),
            seconds(app->load_ns));
    if (options->sample.temperature > 0) fprintf(stderr, "; seed %" PRIu64, seed);
    fputs("]\n", stderr);
    if (!options->show_stats) return;

    struct engine_times times;
    engine_times(app->engine, &times);
    report_show_workers(app->cluster);
    report_show_steps(&times);
}

/* --------------------------------------------------------------------- run -- */

static int answer(struct app *app, struct run_options *options, const struct tok_ids *prompt,
        struct err *err) {
    struct output out = {.json = app->options.general.json};
    struct generate_options generation = {.sample = options->sample,
            .n_max = options->n,
            .ignore_eos = options->ignore_eos,
            .arg = &out,
            .text = on_text,
            .progress = on_progress,
            .interrupted = on_interrupted};
    generation.sample.seed = options->seed;
    for (uint32_t i = 0; i < options->stops.n; i++)
        generation.stops[generation.n_stops++] = options->stops.values[i];

    struct generate_result result = {0};
    progress_begin(&out.progress, "reading the prompt", false, app->options.general.quiet);
    cluster_reset_counters(app->cluster);
    int rc = generate(app->engine, app->session, app->tok, prompt->ids, (uint32_t)prompt->n,
            &generation, &result, err);
    progress_end(&out.progress);

    if (!out.json && result.tokens.n && fputs("\n", stdout) == EOF) out.write_failed = true;
    if (rc == 0 && out.json) rc = print_json(app, &result, prompt, &out, options->seed, err);
    if (rc == 0 && out.write_failed) rc = err_set(err, ERR_IO, "cannot write to stdout");
    if (rc == 0 && !app->options.general.quiet)
        print_summary(app, options, &result, prompt->n, options->seed);
    generate_result_fini(&result);
    buf_fini(&out.text);
    return rc;
}

static int check_stops(const struct run_options *options, struct err *err) {
    for (uint32_t i = 0; i < options->stops.n; i++) {
        size_t n = strlen(options->stops.values[i]);
        if (n == 0 || n > GENERATE_STOP_BYTES_MAX)
            return err_set(
                    err, ERR_USAGE, "--stop takes texts of 1 to %d bytes", GENERATE_STOP_BYTES_MAX);
    }
    return 0;
}

static int run(struct app *app, struct app_options *app_options, struct run_options *options,
        const char *model_path, struct err *err) {
    struct buf text = {0};
    struct tok_ids prompt = {0};
    if (options->seed == SEED_UNSET) options->seed = rng_random_seed() >> 32;

    int rc = check_stops(options, err);
    if (rc == 0) rc = read_prompt(options, &text, err);
    if (rc == 0) rc = app_open(app, app_options, model_path, &(struct app_needs){0}, err);
    if (rc == 0) {
        struct prompt_options how = {.raw = options->raw, .system = options->system};
        rc = prompt_encode(app->gguf, app->tok, &how, text.bytes, text.n_bytes, &prompt, err);
    }
    if (rc == 0) rc = answer(app, options, &prompt, err);
    tok_ids_fini(&prompt);
    buf_fini(&text);
    return rc;
}

int cmd_run(int argc, char **argv) {
    struct app_options app_options = APP_OPTIONS_DEFAULTS;
    struct run_options options = {.sample = SAMPLE_DEFAULTS, .seed = SEED_UNSET};
    const struct opt own[] = {
            {"prompt", 'p', OPT_STR, &options.prompt, "TEXT",
                    "the prompt (default: standard input)"},
            {"file", 'f', OPT_STR, &options.file, "FILE", "read the prompt from a file"},
            {"system", 's', OPT_STR, &options.system, "TEXT", "a system message before it"},
            {"n-predict", 'n', OPT_U32, &options.n, "N",
                    "at most N tokens (default: the context's)"},
            {"raw", 0, OPT_FLAG, &options.raw, NULL,
                    "the prompt as it is, without the chat template"},
            {"temp", 0, OPT_F32, &options.sample.temperature, "T",
                    "temperature (default 0.8; 0 is greedy)"},
            {"top-k", 0, OPT_U32, &options.sample.top_k, "K",
                    "keep the K likeliest (default 40; 0: off)"},
            {"top-p", 0, OPT_F32, &options.sample.top_p, "P",
                    "keep the likeliest up to P (default 0.95)"},
            {"min-p", 0, OPT_F32, &options.sample.min_p, "P",
                    "drop below P times the best (default 0.05)"},
            {"repeat-penalty", 0, OPT_F32, &options.sample.repeat_penalty, "R",
                    "push down recent tokens (default 1: off)"},
            {"seed", 0, OPT_U64, &options.seed, "S",
                    "of the random draws (default: random, printed)"},
            {"stop", 0, OPT_STRS, &options.stops, "TEXT", "end before this text; may be repeated"},
            {"ignore-eos", 0, OPT_FLAG, &options.ignore_eos, NULL,
                    "go on after the end of the answer"},
            {"stats", 0, OPT_FLAG, &options.show_stats, NULL,
                    "show who holds what and where the time went"},
            OPT_END,
    };
    const struct app_command command = {.name = "run",
            .own = own,
            .usage = "potluck run MODEL (-p TEXT | -f FILE | < FILE) [OPTIONS]",
            .examples =
                    "  potluck run model.gguf -p \"What is a bridge?\"\n"
                    "  potluck run model.gguf -p \"Hello\" --temp 0 -n 100 --local-workers 3 "
                    "--stats\n"
                    "  potluck run model.gguf --listen 0.0.0.0:7777 --wait-workers 2 -p \"Hello\"\n"
                    "      and on two other machines: potluck join ADDRESS:7777\n"};
    struct opt_words words;
    struct buf config = {0};
    struct err err = ERR_INIT;
    struct app app = {0};
    int rc = app_parse(&command, &app_options, argc, argv, &words, &config, &err);
    if (rc == 0 && app_told(&command, &app_options.general, &app_options)) {
        buf_fini(&config);
        return 0;
    }
    if (rc == 0 && words.n != 1) rc = err_set(&err, ERR_USAGE, "expected one model file");
    if (rc == 0 && options.prompt && options.file)
        rc = err_set(&err, ERR_USAGE, "give either -p TEXT or -f FILE");
    if (rc == 0 && options.raw && options.system)
        rc = err_set(&err, ERR_USAGE, "--raw has no place for a system message (-s)");
    if (rc == 0) rc = run(&app, &app_options, &options, words.words[0], &err);
    int code = rc < 0 ? app_fail("run", &err) : 0; /* before closing, which may take a second */
    app_close(&app);
    buf_fini(&config);
    return code;
}
