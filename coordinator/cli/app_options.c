/* app_options.c - the options that run, eval and bench share.
 * Owns: nothing. Does not: act on them. Runs on: the main thread. */
#include "coordinator/cli/app.h"

#include "proto/base/checked.h"
#include "proto/base/log.h"

#include <stdio.h>
#include <string.h>

#define CONFIG_BYTES_MAX (1 << 20)
#define TABLE_MAX 32
#define GENERAL_MAX 8

static void general_table(struct app_general *g, struct opt table[GENERAL_MAX]) {
    const struct opt rows[] = {
            {NULL, 0, OPT_HEADING, NULL, NULL, "general"},
            {"config", 0, OPT_STR, &g->config, "FILE",
                    "options from an INI file; the command line wins"},
            {"json", 0, OPT_FLAG, &g->json, NULL, "one JSON object on stdout"},
            {"verbose", 'v', OPT_FLAG, &g->verbose, NULL, "more log"},
            {"quiet", 'q', OPT_FLAG, &g->quiet, NULL, "no progress and no log"},
            {"help", 'h', OPT_FLAG, &g->help, NULL, "this text"},
            {"version", 0, OPT_FLAG, &g->version, NULL, "print the version"},
            OPT_END,
    };
    _Static_assert(ARRAY_LEN(rows) <= GENERAL_MAX, "the general option table has grown");
    memcpy(table, rows, sizeof rows);
}

/* The shared table, pointing into options. */
static void shared_table(struct app_options *o, struct opt table[TABLE_MAX]) {
    const struct opt rows[] = {
            {NULL, 0, OPT_HEADING, NULL, NULL, "computing"},
            {"threads", 't', OPT_U32, &o->threads, "N",
                    "compute threads (default: physical cores)"},
            {"isa", 0, OPT_STR, &o->isa, "NAME", "auto, scalar, avx2, avx512, avx512-plain, neon"},
            {"ctx", 'c', OPT_U32, &o->ctx, "N",
                    "context length (default: 8192, or what the model knows)"},
            {"batch", 'b', OPT_U32, &o->batch, "N", "rows per prefill step (default 256)"},
            {"kv", 0, OPT_STR, &o->kv, "TYPE", "KV cache: f32, f16 (default), q8_0"},
            {NULL, 0, OPT_HEADING, NULL, NULL, "workers"},
            {"local-workers", 0, OPT_U32, &o->local_workers, "N", "start N worker processes here"},
            {"local-worker-args", 0, OPT_STR, &o->local_worker_args, "ARGS",
                    "options for each of them"},
            {"transport", 0, OPT_STR, &o->transport, "NAME",
                    "how they talk: ipc (default), tcp, inproc"},
            {"listen", 0, OPT_STR, &o->listen, "HOST:PORT", "accept workers from other machines"},
            {"wait-workers", 0, OPT_U32, &o->wait_workers, "N",
                    "do not start before N workers joined"},
            {"wait-timeout", 0, OPT_TIME, &o->wait_timeout_ns, "TIME",
                    "but wait no longer (default 60s)"},
            {"no-local-experts", 0, OPT_FLAG, &o->no_local_experts, NULL, "hold no experts here"},
            {"place", 0, OPT_STR, &o->place, "POLICY",
                    "auto, spread, local, seed:N, file:PLAN.json"},
            {"replicas", 0, OPT_U32, &o->replicas, "N", "copies of each expert, as room allows"},
            {"spec", 0, OPT_STR, &o->spec, "KIND", "speculation: off (auto means off for now)"},
            {"spec-max", 0, OPT_U32, &o->spec_max, "N", "longest draft"},
            {"trace", 0, OPT_STR, &o->trace, "FILE",
                    "record routing decisions (not supported yet)"},
            {"fault", 0, OPT_STR, &o->fault, "SPEC", "inject faults (not supported yet)"},
            OPT_END,
    };
    _Static_assert(ARRAY_LEN(rows) <= TABLE_MAX, "the shared option table has grown");
    memcpy(table, rows, sizeof rows);
}

static int check(const struct app_options *o, struct err *err) {
    static const char *const transports[] = {"ipc", "tcp", "inproc"};
    bool known = false;
    for (size_t i = 0; i < ARRAY_LEN(transports); i++)
        known |= strcmp(o->transport, transports[i]) == 0;
    if (strcmp(o->transport, "mpi") == 0)
        return err_set(
                err, ERR_USAGE, "--transport mpi is not supported yet; use ipc, tcp or inproc");
    if (!known)
        return err_set(err, ERR_USAGE, "--transport %s: expected ipc, tcp or inproc", o->transport);
    if (strcmp(o->transport, "inproc") == 0 && o->listen)
        return err_set(err, ERR_USAGE,
                "--transport inproc and --listen cannot be used together; use --transport ipc");
    if (o->batch == 0 || o->batch > ENGINE_BATCH_MAX)
        return err_set(
                err, ERR_USAGE, "--batch %u: 1 to %d are possible", o->batch, ENGINE_BATCH_MAX);
    if (strcmp(o->spec, "auto") != 0 && strcmp(o->spec, "off") != 0)
        return err_set(err, ERR_USAGE, "--spec %s is not supported yet; use --spec off", o->spec);
    if (o->trace) return err_set(err, ERR_USAGE, "--trace is not supported yet");
    if (o->fault) return err_set(err, ERR_USAGE, "--fault is not supported yet");
    if (o->wait_workers > 0 && !o->listen && !o->local_workers)
        return err_set(err, ERR_USAGE,
                "--wait-workers needs somewhere to join: --listen HOST:PORT or --local-workers N");

    enum dtype kv_type;
    enum plan_policy policy;
    uint64_t seed;
    const char *path;
    int rc = app_kv_type(o, &kv_type, err);
    if (rc == 0) rc = plan_parse(o->place, &policy, &seed, &path, err);
    return rc;
}

/* Reads --config between two passes over the command line, so that flags win. */
static int parse(const struct opt *const *tables, const struct opt *own,
        const struct app_general *general, int argc, char **argv, struct opt_words *out_words,
        struct buf *config_text, struct err *err) {
    int rc = opt_parse(tables, argc, argv, out_words, err);
    if (rc < 0 || !general->config) return rc;

    const char *path = general->config;
    rc = buf_read_file(config_text, path, CONFIG_BYTES_MAX, err);
    for (const struct opt *o = own; rc == 0 && (o->name || o->kind == OPT_HEADING); o++)
        if (o->kind == OPT_STRS) ((struct opt_strs *)o->to)->n = 0;
    if (rc == 0 && config_text->bytes) rc = opt_parse_ini(tables, config_text->bytes, path, err);
    if (rc == 0) rc = opt_parse(tables, argc, argv, out_words, err);
    return rc;
}

static void set_log_level(const struct app_general *general) {
    log_set_level(general->quiet     ? LOG_LEVEL_ERR
                  : general->verbose ? LOG_LEVEL_DEBUG
                                     : LOG_LEVEL_WARN);
}

int app_parse_general(const struct app_command *command, struct app_general *general, int argc,
        char **argv, struct opt_words *out_words, struct buf *config_text, struct err *err) {
    struct opt table[GENERAL_MAX];
    general_table(general, table);
    const struct opt *const tables[] = {command->own, table, NULL};
    int rc = parse(tables, command->own, general, argc, argv, out_words, config_text, err);
    set_log_level(general);
    return rc;
}

int app_parse(const struct app_command *command, struct app_options *options, int argc, char **argv,
        struct opt_words *out_words, struct buf *config_text, struct err *err) {
    struct opt shared[TABLE_MAX], general[GENERAL_MAX];
    shared_table(options, shared);
    general_table(&options->general, general);
    const struct opt *const tables[] = {command->own, shared, general, NULL};
    int rc =
            parse(tables, command->own, &options->general, argc, argv, out_words, config_text, err);
    if (rc < 0 || options->general.help || options->general.version) return rc;
    set_log_level(&options->general);
    return check(options, err);
}

bool app_told(const struct app_command *command, const struct app_general *general,
        struct app_options *options) {
    if (general->help) {
        struct opt shared[TABLE_MAX] = {OPT_END}, general_rows[GENERAL_MAX];
        struct app_general unused;
        if (options) shared_table(options, shared);
        general_table(&unused, general_rows);
        const struct opt *const tables[] = {command->own, shared, general_rows, NULL};
        printf("usage: %s\n\n", command->usage);
        opt_print(tables, stdout);
        printf("\nexamples:\n%s", command->examples);
    } else if (general->version) {
        puts("potluck " POTLUCK_VERSION);
    }
    return general->help || general->version;
}

int app_kv_type(const struct app_options *options, enum dtype *out_type, struct err *err) {
    if (strcmp(options->kv, "f32") == 0)
        *out_type = DT_F32;
    else if (strcmp(options->kv, "f16") == 0)
        *out_type = DT_F16;
    else if (strcmp(options->kv, "q8_0") == 0)
        *out_type = DT_Q8_0;
    else
        return err_set(err, ERR_USAGE, "--kv %s: expected f32, f16 or q8_0", options->kv);
    return 0;
}

int app_fail(const char *command, const struct err *err) {
    char program[64];
    snprintf(program, sizeof program, "potluck %s", command);
    err_print(err, program, stderr);
    if (err->code != ERR_USAGE) return 1;
    fprintf(stderr, "%*s  potluck %s --help tells more\n", (int)strlen(program), "", command);
    return 2;
}
