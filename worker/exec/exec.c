/* exec.c - the executor's scratch: made, grown and freed here.
 * Owns: scratch. Does not: compute (exec_run.c). Runs on: its owner's thread. */
#include "worker/exec/exec.h"

#include "proto/base/aligned.h"
#include "proto/base/checked.h"
#include "worker/exec/exec_internal.h"

#include <stdlib.h>

/* Hidden rows are made for so many routes at a time that they fit here: a worker stays lean however
 * long the prompt, and they stay in the last cache level on the way to down. */
#define SLICE_BYTES_MAX ((size_t)8 << 20)

int exec_new(const struct kern_ops *kern, const struct store *store, struct pool *pool,
        struct exec **out_exec, struct err *err) {
    struct exec *exec = calloc(1, sizeof *exec);
    if (!exec) return err_set(err, ERR_NO_MEMORY, "no memory for an executor");
    exec->kern = kern;
    exec->store = store;
    exec->pool = pool;
    size_t n_floats = (size_t)pool_n_threads(pool) * EXEC_ROWS * EXEC_WIDTH_MAX;
    exec->thread_scratch = aligned_new(n_floats * sizeof(float));
    if (!exec->thread_scratch) {
        exec_free(exec);
        return err_set(err, ERR_NO_MEMORY, "no memory for an executor");
    }
    *out_exec = exec;
    return 0;
}

void exec_free(struct exec *exec) {
    if (!exec) return;
    free(exec->thread_scratch);
    free(exec->slice);
    free(exec->n_routes_of);
    free(exec->poison);
    free(exec->groups);
    free(exec->row_of);
    free(exec);
}

/* Widths are bounded by the store and n_routes by SLICE_BYTES_MAX (or is 1): nothing can wrap. */
struct exec_slice exec_slice_of(const struct store_layer *layer, uint32_t n_routes) {
    size_t n_ff = layer->n_ff;
    enum act_kind kind = dtype_find(layer->down_type)->act;
    size_t n_blocks = kind == ACT_F32 ? 0 : n_ff / act_block(kind);
    size_t n_quants = kind == ACT_F32 ? 0 : n_ff;
    size_t route_bytes = n_ff * sizeof(float) + n_quants + n_blocks * sizeof(float) +
                         n_quants / 16 * sizeof(int16_t);

    size_t fit = SLICE_BYTES_MAX / route_bytes;
    if (n_routes > fit) n_routes = fit ? (uint32_t)fit : 1;
    struct exec_slice slice = {.n_routes = n_routes, .kind = kind};
    slice.q_at = align_up(n_routes * n_ff * sizeof(float), 64);
    slice.d_at = align_up(slice.q_at + n_routes * n_quants, 64);
    slice.sum16_at = align_up(slice.d_at + n_routes * n_blocks * sizeof(float), 64);
    slice.n_bytes = slice.sum16_at + n_routes * (n_quants / 16) * sizeof(int16_t);
    return slice;
}

static int grow_routes(struct exec *exec, uint32_t n_routes, struct err *err) {
    uint32_t *row_of = calloc(n_routes, sizeof *row_of);
    struct exec_group *groups = calloc(n_routes, sizeof *groups);
    if (!row_of || !groups) {
        free(row_of);
        free(groups);
        return err_set(err, ERR_NO_MEMORY, "no memory for batches of %u routes", n_routes);
    }
    free(exec->row_of);
    free(exec->groups);
    exec->row_of = row_of;
    exec->groups = groups;
    exec->n_routes_max = n_routes;
    return 0;
}

static int grow_rows(struct exec *exec, uint32_t n_rows, struct err *err) {
    atomic_uchar *poison = calloc(n_rows, sizeof *poison);
    uint16_t *n_routes_of = calloc(n_rows, sizeof *n_routes_of);
    if (!poison || !n_routes_of) {
        free(poison);
        free(n_routes_of);
        return err_set(err, ERR_NO_MEMORY, "no memory for batches of %u rows", n_rows);
    }
    free(exec->poison);
    free(exec->n_routes_of);
    exec->poison = poison;
    exec->n_routes_of = n_routes_of;
    exec->n_rows_max = n_rows;
    return 0;
}

int exec_reserve(struct exec *exec, uint32_t n_rows, uint32_t n_routes, struct err *err) {
    size_t n_bytes = 0;
    for (uint32_t l = 0; l < STORE_LAYERS_MAX; l++) {
        const struct store_layer *layer = store_find_layer(exec->store, l);
        if (!layer) continue;
        struct exec_slice slice = exec_slice_of(layer, n_routes);
        if (slice.n_bytes > n_bytes) n_bytes = slice.n_bytes;
    }
    if (n_bytes > exec->slice_bytes) {
        unsigned char *slice = aligned_new(n_bytes);
        if (!slice)
            return err_set(err, ERR_NO_MEMORY, "no memory for %zu bytes of hidden rows", n_bytes);
        free(exec->slice);
        exec->slice = slice;
        exec->slice_bytes = n_bytes;
    }
    int rc = n_routes > exec->n_routes_max ? grow_routes(exec, n_routes, err) : 0;
    if (rc == 0 && n_rows > exec->n_rows_max) rc = grow_rows(exec, n_rows, err);
    return rc;
}
