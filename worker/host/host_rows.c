/* host_rows.c - a dispatch: rows as the kernels take them, through the executor, sums packed.
 * Owns: the scratch for it. Does not: check routes or hold experts (exec). Runs on: the thread in
 * host_run; rows are prepared on the pool. Allocates only when a batch is larger than any before. */
#include "worker/host/host_internal.h"

#include "proto/base/aligned.h"
#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PART_ALIGN 64

/* Rows below which waking other threads costs more than it saves. */
#define ROWS_ALONE 4
#define ROWS_PER_TASK 4

/* One dispatch cut out of the scratch. */
struct job {
    const struct wire_dispatch *dispatch;
    struct kern_act acts[ACT_KIND_COUNT];
    uint8_t *f32;
    int8_t *q[ACT_KIND_COUNT];
    float *d[ACT_KIND_COUNT];
    int16_t *sum16[ACT_KIND_COUNT];
    struct exec_route *routes;
    int64_t *sums;
    uint8_t *poisoned;
    uint8_t *packed;
};

void host_rows_fini(struct host_rows *rows) {
    free(rows->bytes);
    *rows = (struct host_rows){0};
}

/* -------------------------------------------------------------------- cutting -- */

/* Takes n_bytes from the scratch; with no scratch yet it only counts. */
static void *cut(struct host_rows *rows, uint64_t *at, uint64_t n_bytes) {
    void *part = rows ? rows->bytes + *at : NULL;
    *at += align_up(n_bytes, PART_ALIGN);
    return part;
}

/* Cuts the scratch for a dispatch; returns the bytes it takes. All counts are within the wire's
 * limits, so nothing wraps. */
static uint64_t cut_job(
        struct host_rows *rows, const struct wire_dispatch *dispatch, struct job *job) {
    uint64_t n = (uint64_t)dispatch->n_rows * dispatch->n_embd;
    uint64_t at = 0;
    *job = (struct job){.dispatch = dispatch};
    for (unsigned k = 0; k < ACT_KIND_COUNT; k++) {
        if (!dispatch->acts[k]) continue;
        if (k == ACT_F32) {
            job->f32 = cut(rows, &at, n * sizeof(float));
            continue;
        }
        job->q[k] = cut(rows, &at, n);
        job->d[k] = cut(rows, &at, n / act_block((enum act_kind)k) * sizeof(float));
        job->sum16[k] = cut(rows, &at, n / 16 * sizeof(int16_t));
    }
    job->routes = cut(rows, &at, (uint64_t)dispatch->n_routes * sizeof *job->routes);
    job->sums = cut(rows, &at, n * sizeof *job->sums);
    job->poisoned = cut(rows, &at, dispatch->n_rows);
    job->packed = cut(rows, &at, dispatch->n_rows * wire_pack_bound(dispatch->n_embd));
    return at;
}

static int reserve(struct host_rows *rows, const struct wire_dispatch *dispatch, struct job *job,
        struct err *err) {
    uint64_t n_bytes = cut_job(NULL, dispatch, job);
    if (n_bytes > HOST_ROWS_BYTES_MAX)
        return err_set(err, ERR_LIMIT,
                "%u rows of %u elements take %" PRIu64 " bytes of working "
                "space; %" PRIu64 " are allowed",
                dispatch->n_rows, dispatch->n_embd, n_bytes, HOST_ROWS_BYTES_MAX);
    if (n_bytes > rows->n_bytes) {
        unsigned char *bytes = aligned_new(n_bytes);
        if (!bytes)
            return err_set(err, ERR_NO_MEMORY, "no memory for %u rows of %u elements",
                    dispatch->n_rows, dispatch->n_embd);
        free(rows->bytes);
        rows->bytes = bytes;
        rows->n_bytes = n_bytes;
    }
    (void)cut_job(rows, dispatch, job);
    return 0;
}

/* ------------------------------------------------------------------ preparing -- */

/* Copies a row of a quantised form out of its frame, widens its scales and sums its quants. */
static void prepare_row(const struct job *job, unsigned kind, uint32_t row) {
    size_t n_embd = job->dispatch->n_embd;
    size_t n_blocks = n_embd / act_block((enum act_kind)kind);
    const uint8_t *frame = job->dispatch->acts[kind];
    const uint8_t *scales = frame + job->dispatch->n_rows * n_embd + row * n_blocks * 2;
    int8_t *q = job->q[kind] + row * n_embd;
    float *d = job->d[kind] + row * n_blocks;
    int16_t *sum16 = job->sum16[kind] + row * (n_embd / 16);

    memcpy(q, frame + row * n_embd, n_embd);
    for (size_t b = 0; b < n_blocks; b++) {
        uint32_t bits = (uint32_t)scales[2 * b] << 16 | (uint32_t)scales[2 * b + 1] << 24;
        memcpy(&d[b], &bits, sizeof bits);
    }
    for (size_t s = 0; s < n_embd / 16; s++) {
        int sum = 0;
        for (size_t i = 0; i < 16; i++)
            sum += q[16 * s + i];
        sum16[s] = (int16_t)sum;
    }
}

static void prepare_f32_row(const struct job *job, uint32_t row) {
    size_t n_embd = job->dispatch->n_embd;
    const uint8_t *from = (const uint8_t *)job->dispatch->acts[ACT_F32] + row * n_embd * 4;
    uint8_t *to = job->f32 + row * n_embd * 4;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(to, from, n_embd * 4);
#else
    for (size_t i = 0; i < n_embd; i++) {
        const uint8_t *b = from + 4 * i;
        uint32_t bits = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        memcpy(to + 4 * i, &bits, sizeof bits);
    }
#endif
}

static void prepare_rows(const struct job *job, uint32_t row0, uint32_t row1) {
    for (unsigned k = 0; k < ACT_KIND_COUNT; k++)
        for (uint32_t r = row0; job->dispatch->acts[k] && r < row1; r++) {
            if (k == ACT_F32)
                prepare_f32_row(job, r);
            else
                prepare_row(job, k, r);
        }
}

static void prepare_task(void *arg, uint32_t task, uint32_t thread) {
    (void)thread;
    const struct job *job = arg;
    uint32_t row0 = task * ROWS_PER_TASK;
    prepare_rows(job, row0, (uint32_t)min_u64(row0 + ROWS_PER_TASK, job->dispatch->n_rows));
}

static void prepare(struct host *host, struct job *job) {
    const struct wire_dispatch *dispatch = job->dispatch;
    uint32_t n = dispatch->n_rows;
    if (n <= ROWS_ALONE)
        prepare_rows(job, 0, n);
    else
        pool_run(host->pool, (n + ROWS_PER_TASK - 1) / ROWS_PER_TASK, prepare_task, job);

    for (unsigned k = 0; k < ACT_KIND_COUNT; k++)
        job->acts[k] = (struct kern_act){.kind = (enum act_kind)k,
                .n_in = dispatch->n_embd,
                .n_rows = n,
                .f32 = k == ACT_F32 ? (const float *)(const void *)job->f32 : NULL,
                .q = job->q[k],
                .d = job->d[k],
                .sum16 = job->sum16[k]};
    for (uint32_t i = 0; i < dispatch->n_routes; i++) {
        struct wire_route route = wire_route_at(dispatch, i);
        job->routes[i] = (struct exec_route){route.row, route.expert, route.weight};
    }
}

/* ------------------------------------------------------------------ computing -- */

static int compute(
        struct host *host, const struct wire_dispatch *dispatch, struct job *job, struct err *err) {
    const struct store_layer *layer = store_find_layer(host->store, dispatch->layer);
    if (layer && layer->n_embd != dispatch->n_embd)
        return err_set(err, ERR_BAD_INPUT, "rows of %u elements for layer %u, which takes %u",
                dispatch->n_embd, dispatch->layer, layer->n_embd);
    int rc = reserve(&host->rows, dispatch, job, err);
    if (rc < 0) return rc;
    prepare(host, job);

    struct exec_batch batch = {.layer = dispatch->layer,
            .n_rows = dispatch->n_rows,
            .grid = dispatch->grid,
            .routes = job->routes,
            .n_routes = dispatch->n_routes};
    for (unsigned k = 0; k < ACT_KIND_COUNT; k++)
        batch.acts[k] = dispatch->acts[k] ? &job->acts[k] : NULL;
    return exec_run(host->exec, &batch, job->sums, job->poisoned, err);
}

int host_take_dispatch(struct host *host, const struct wire_in *in, struct err *err) {
    uint64_t start_ns = mono_now();
    const struct wire_dispatch *dispatch = &in->dispatch;
    struct job job;
    struct err cause = ERR_INIT;
    host_progress_look(host, true);
    if (compute(host, dispatch, &job, &cause) < 0)
        return host_send_fail(host, in->head.request, &cause, err);

    size_t n_packed = 0;
    for (uint32_t r = 0; r < dispatch->n_rows; r++)
        n_packed += wire_pack_sums(
                job.sums + (size_t)r * dispatch->n_embd, dispatch->n_embd, job.packed + n_packed);
    struct wire_reply reply = {.layer = dispatch->layer,
            .n_rows = dispatch->n_rows,
            .n_embd = dispatch->n_embd,
            .busy_ns = mono_now() - start_ns,
            .packed = job.packed,
            .packed_bytes = n_packed,
            .poisoned = job.poisoned};
    wire_encode_reply(&host->out, in->head.request, in->head.epoch, &reply);
    return host_send(host, err);
}
