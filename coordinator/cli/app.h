/* app.h - what run, eval and bench have in common: options, and a model loaded with its workers.
 * Owner: the main thread. */
#pragma once

#include "coordinator/cluster/cluster.h"
#include "coordinator/cluster/local_workers.h"
#include "coordinator/engine/engine.h"
#include "coordinator/model/model.h"
#include "coordinator/text/tok.h"
#include "proto/base/err.h"
#include "proto/base/opt.h"
#include "proto/format/gguf.h"

#include <stdbool.h>
#include <stdint.h>

/* The options of every command. */
struct app_general {
    const char *config;
    bool json;
    bool verbose;
    bool quiet;
    bool help;
    bool version;
};

/* The options that run, eval and bench share (names as on the command line). */
struct app_options {
    uint32_t threads; /* 0: physical cores */
    const char *isa;
    uint32_t ctx; /* 0: chosen */
    uint32_t batch;
    const char *kv;
    uint32_t local_workers;
    const char *local_worker_args;
    const char *transport;
    const char *listen;
    uint32_t wait_workers;
    uint64_t wait_timeout_ns;
    bool no_local_experts;
    const char *place;
    uint32_t replicas;
    const char *spec;
    uint32_t spec_max;
    const char *trace;
    const char *fault;
    struct app_general general;
};

#define APP_OPTIONS_DEFAULTS                                                                       \
    {                                                                                              \
        .isa = "auto", .batch = 256, .kv = "f16", .transport = "ipc",                              \
        .wait_timeout_ns = 60 * UINT64_C(1000000000), .place = "auto", .replicas = 1,              \
        .spec = "auto"                                                                             \
    }

/* What a command is called and how it is used; own is its table (ends with OPT_END). */
struct app_command {
    const char *name;
    const char *usage;
    const char *examples;
    const struct opt *own;
};

/* Parses the command line of a command: its own options and the general ones, --config first.
 * ERR_USAGE. config_text owns what the config file's values point into. */
int app_parse_general(const struct app_command *command, struct app_general *general, int argc,
        char **argv, struct opt_words *out_words, struct buf *config_text, struct err *err);

/* The same with the shared options too, whose values are checked. */
int app_parse(const struct app_command *command, struct app_options *options, int argc, char **argv,
        struct opt_words *out_words, struct buf *config_text, struct err *err);

/* When --help or --version was given: prints it and returns true. options: NULL for commands that
 * have only the general ones. */
bool app_told(const struct app_command *command, const struct app_general *general,
        struct app_options *options);

/* Reads --kv. ERR_USAGE. */
int app_kv_type(const struct app_options *options, enum dtype *out_type, struct err *err);

struct app {
    struct app_options options;
    struct gguf *gguf;
    struct model_summary summary;
    struct tok *tok;
    const struct kern_ops *kern;
    struct pool *pool;
    struct model *model;
    struct net *net;
    struct cluster *cluster;
    struct local_workers *local_workers;
    struct engine *engine;
    struct session *session;
    char run_folder[128]; /* of the ipc socket; "" when none was made */
    uint64_t load_ns;
};

struct app_needs {
    bool mtp;       /* the NextN block will be run */
    uint32_t n_ctx; /* positions that are needed; 0: as options say, or a default */
    int grid_bits;  /* 0: the contract's */
};

/* Opens the model, starts and awaits workers, places experts, makes engine and session. On failure
 * everything is closed again. */
int app_open(struct app *app, const struct app_options *options, const char *model_path,
        const struct app_needs *needs, struct err *err);
void app_close(struct app *app); /* nothing when it is not open */

/* Ctrl-C: from app_open() on the first SIGINT or SIGTERM only sets a flag; a second one ends at once. */
bool app_interrupted(void);

/* Prints the error and returns the exit code that belongs to it. */
int app_fail(const char *command, const struct err *err);
