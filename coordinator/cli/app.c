/* app.c - a model loaded with its workers: opening in order, closing in reverse.
 * Owns: everything in struct app. Does not: evaluate or print results. Runs on: the main thread. */
#include "coordinator/cli/app.h"

#include "coordinator/cli/progress.h"
#include "coordinator/cluster/own_program.h"
#include "proto/base/checked.h"
#include "proto/base/log.h"
#include "proto/base/mono.h"
#include "worker/hw/hw.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_PORT 7777
#define DEFAULT_CTX 8192
#define PLAN_BYTES_MAX (16 << 20)

/* Kept free for everything else that this machine does. */
#define SPARE_BYTES (UINT64_C(256) << 20)

static volatile sig_atomic_t interrupt_flag; /* set by the handler, read by the main thread */

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupt_flag = 1;
}

bool app_interrupted(void) {
    return interrupt_flag != 0;
}

static void catch_interrupts(void) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---------------------------------------------------------------- memory -- */

static uint64_t kv_need(const struct app *app, uint32_t n_ctx, enum dtype kv_type) {
    const struct model_shape *s = &app->summary.shape;
    struct kv_shape shape = {.n_layer = s->n_layer + s->n_mtp,
            .n_head_kv = s->n_head_kv,
            .n_dim_k = s->n_dim_k,
            .n_dim_v = s->n_dim_v,
            .n_ctx = n_ctx,
            .type = kv_type};
    return kv_bytes(&shape);
}

/* Says before loading when the model cannot fit. Returns the room left for experts here. */
static int check_memory(const struct app *app, const struct hw_info *hw, uint32_t n_ctx,
        enum dtype kv_type, uint64_t *out_expert_room, struct err *err) {
    bool alone = app->options.local_workers == 0 && !app->options.listen;
    uint64_t kv = kv_need(app, n_ctx, kv_type);
    uint64_t need = app->summary.other_bytes;
    if (kv > UINT64_MAX / 4) kv = UINT64_MAX / 4;
    need += kv + (alone ? app->summary.experts_bytes : 0);
    if (need + SPARE_BYTES > hw->ram_bytes) {
        double gib = 1 << 30;
        int rc = err_set(err, ERR_NO_MEMORY,
                "%s needs %.2f GiB here (weights %.2f, KV cache of %u positions %.2f); %.2f GiB "
                "are free",
                gguf_path(app->gguf), (double)need / gib, (double)(need - kv) / gib, n_ctx,
                (double)kv / gib, (double)hw->ram_bytes / gib);
        err_hint(err, alone ? "spread the experts over workers (--listen and potluck join), take a "
                              "smaller --ctx or --kv q8_0, or a smaller file"
                            : "take a smaller --ctx, or --kv q8_0");
        return rc;
    }
    *out_expert_room =
            hw->ram_bytes - need - SPARE_BYTES + (alone ? app->summary.experts_bytes : 0);
    return 0;
}

/* --------------------------------------------------------------- workers -- */

static int local_address(struct app *app, char *address, size_t n_address, struct err *err) {
    if (strcmp(app->options.transport, "tcp") == 0) {
        snprintf(address, n_address, "tcp://127.0.0.1:0");
        return 0;
    }
    if (strcmp(app->options.transport, "inproc") == 0) {
        snprintf(address, n_address, "inproc://hub");
        return 0;
    }
    const char *folder = getenv("XDG_RUNTIME_DIR");
    if (!folder || !*folder || strlen(folder) > 64 || access(folder, W_OK) != 0) folder = "/tmp";
    snprintf(app->run_folder, sizeof app->run_folder, "%s/potluck-XXXXXX", folder);
    if (!mkdtemp(app->run_folder)) {
        app->run_folder[0] = 0;
        return err_set(err, ERR_IO, "cannot make a folder in %s: %s", folder, strerror(errno));
    }
    snprintf(address, n_address, "ipc://%s/hub", app->run_folder);
    return 0;
}

static int open_cluster(struct app *app, uint64_t own_room, const struct hw_info *hw,
        struct err *err) {
    char local[192] = "", remote[256] = "";
    int rc = net_new(&app->net, err);
    if (rc == 0 && app->options.local_workers) rc = local_address(app, local, sizeof local, err);
    if (rc == 0 && app->options.listen)
        rc = net_parse_address(app->options.listen, DEFAULT_PORT, remote, sizeof remote, err);
    if (rc < 0) return rc;

    struct cluster_options options = {.net = app->net,
            .kern = app->kern,
            .pool = app->pool,
            .name = hw->hostname,
            .listen = {local[0] ? local : NULL, remote[0] ? remote : NULL},
            .own_worker = !app->options.no_local_experts,
            .own_room_bytes = own_room};
    rc = cluster_new(&options, &app->cluster, err);
    if (rc < 0) return rc;
    if (app->options.listen && !app->options.general.quiet)
        fprintf(stderr, "listening on %s\n", cluster_address(app->cluster, 1));
    if (app->options.local_workers == 0) return 0;

    char program[512] = "";
    bool threads = strcmp(app->options.transport, "inproc") == 0;
    if (!threads) rc = own_program(program, sizeof program, err);
    if (rc < 0) return rc;
    struct local_workers_options workers = {.n = app->options.local_workers,
            .address = cluster_address(app->cluster, 0),
            .args = app->options.local_worker_args,
            .program = program,
            .net = threads ? app->net : NULL,
            .ram_bytes = own_room / (app->options.local_workers + 1),
            .n_threads = (uint32_t)max_u64(1, hw->n_cores / (app->options.local_workers + 1))};
    return local_workers_start(&workers, &app->local_workers, err);
}

static int look_around(void *arg, struct err *err) {
    struct app *app = arg;
    if (app_interrupted()) return err_set(err, ERR_INTERRUPTED, "interrupted");
    return app->local_workers ? local_workers_check(app->local_workers, err) : 0;
}

static int await_workers(struct app *app, struct err *err) {
    uint32_t n = app->options.wait_workers > app->options.local_workers
                         ? app->options.wait_workers
                         : app->options.local_workers;
    if (n == 0) return 0;
    if (app->options.wait_workers && !app->options.general.quiet)
        fprintf(stderr, "waiting for %u workers (potluck join HOST:PORT)\n", n);
    return cluster_wait_joined(
            app->cluster, n, mono_after(app->options.wait_timeout_ns), look_around, app, err);
}

/* ---------------------------------------------------------------- loading -- */

static void on_progress(void *arg, uint64_t done, uint64_t total) {
    progress_update(arg, done, total);
}

static int load_model(struct app *app, struct err *err) {
    struct progress progress;
    progress_begin(&progress, "loading", true, app->options.general.quiet);
    struct model_options options = {.kern = app->kern,
            .pool = app->pool,
            .progress = on_progress,
            .progress_arg = &progress};
    int rc = model_load(app->gguf, &options, &app->model, err);
    progress_end(&progress);
    return rc;
}

static int place_experts(struct app *app, bool with_mtp, struct err *err) {
    struct cluster_load_options load = {.n_replicas = app->options.replicas, .with_mtp = with_mtp};
    const char *plan_path = NULL;
    struct buf plan_text = {0};
    int rc = plan_parse(app->options.place, &load.policy, &load.seed, &plan_path, err);
    if (rc == 0 && plan_path) {
        rc = buf_read_file(&plan_text, plan_path, PLAN_BYTES_MAX, err);
        load.plan_text = plan_text.bytes ? plan_text.bytes : "";
    }
    struct progress progress;
    progress_begin(&progress, "placing experts", true, app->options.general.quiet);
    load.progress = on_progress;
    load.progress_arg = &progress;
    if (rc == 0) rc = cluster_load(app->cluster, app->model, app->gguf, &load, err);
    progress_end(&progress);
    if (rc < 0 && plan_path) err_note(err, "%s", plan_path);
    buf_fini(&plan_text);
    return rc;
}

static uint32_t choose_ctx(const struct app *app, const struct app_needs *needs) {
    uint32_t n_ctx = app->options.ctx;
    if (n_ctx == 0) n_ctx = (uint32_t)min_u64(DEFAULT_CTX, app->summary.shape.n_ctx_train);
    if (app->options.ctx == 0 && needs->n_ctx > n_ctx) n_ctx = needs->n_ctx;
    if (n_ctx > app->summary.shape.n_ctx_train)
        LOG_WARN("ctx.beyond_training", "ctx=%u trained=%u", n_ctx, app->summary.shape.n_ctx_train);
    return n_ctx;
}

static int open_engine(struct app *app, uint32_t n_ctx, const struct app_needs *needs,
        enum dtype kv_type, struct err *err) {
    struct engine_options options = {.model = app->model,
            .cluster = app->cluster,
            .kern = app->kern,
            .pool = app->pool,
            .n_batch = app->options.batch,
            .grid_bits = needs->grid_bits};
    if (options.n_batch > n_ctx) options.n_batch = n_ctx;
    int rc = engine_new(&options, &app->engine, err);
    if (rc == 0) rc = session_new(app->engine, n_ctx, kv_type, &app->session, err);
    return rc;
}

int app_open(struct app *app, const struct app_options *options, const char *model_path,
        const struct app_needs *needs, struct err *err) {
    uint64_t start = mono_now(), own_room = 0;
    *app = (struct app){.options = *options};
    catch_interrupts();

    struct hw_info hw;
    hw_read(&hw);
    enum dtype kv_type = DT_F16;
    uint32_t n_ctx = 0;
    int rc = app_kv_type(options, &kv_type, err);
    if (rc == 0) rc = gguf_open(model_path, &app->gguf, err);
    if (rc == 0) rc = model_summarise(app->gguf, &app->summary, err);
    if (rc == 0 && !app->summary.supported) {
        rc = err_set(err, ERR_UNSUPPORTED, "%s", app->summary.reason);
        err_note(err, "%s", model_path);
    }
    if (rc == 0) rc = tok_load(app->gguf, &app->tok, err);
    if (rc == 0) rc = kern_select(options->isa, &app->kern, err);
    if (rc == 0) rc = pool_new(options->threads ? options->threads : hw.n_cores, &app->pool, err);
    if (rc == 0) {
        n_ctx = choose_ctx(app, needs);
        rc = check_memory(app, &hw, n_ctx, kv_type, &own_room, err);
    }
    if (rc == 0) rc = open_cluster(app, own_room, &hw, err);
    if (rc == 0) rc = load_model(app, err);
    if (rc == 0) rc = await_workers(app, err);
    if (rc == 0) rc = place_experts(app, needs->mtp, err);
    if (rc == 0) rc = open_engine(app, n_ctx, needs, kv_type, err);
    app->load_ns = mono_now() - start;
    if (rc < 0) app_close(app);
    return rc;
}

void app_close(struct app *app) {
    session_free(app->session);
    engine_free(app->engine);
    cluster_free(app->cluster);
    local_workers_stop(app->local_workers);
    net_free(app->net);
    model_free(app->model);
    pool_free(app->pool);
    tok_free(app->tok);
    gguf_free(app->gguf);
    if (app->run_folder[0]) {
        char socket_path[160];
        snprintf(socket_path, sizeof socket_path, "%s/hub", app->run_folder);
        unlink(socket_path);
        rmdir(app->run_folder);
    }
    *app = (struct app){0};
}
