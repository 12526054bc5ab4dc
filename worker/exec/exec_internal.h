/* exec_internal.h - the insides of the executor; only its own files include it. */
#pragma once

#include "worker/exec/exec.h"

#include <stdatomic.h>
#include <stddef.h>

/* Rows that one call of matmul gets: enough to reuse the weights of a piece, few enough for the
 * results to stay in the cache. */
#define EXEC_ROWS 64

/* Output rows of a piece at most; with EXEC_ROWS it bounds the scratch of a thread to 64 KiB. */
#define EXEC_WIDTH_MAX 256

/* Routes that share an expert: [first, first + n) of the batch. Never crosses a slice. */
struct exec_group {
    const struct store_expert *expert;
    uint32_t first;
    uint32_t n;
};

/* owner: one thread; the pieces of a running phase read it on all threads of the pool */
struct exec {
    const struct kern_ops *kern;
    const struct store *store;
    struct pool *pool;

    uint32_t n_routes_max;
    uint32_t *row_of;          /* [n_routes_max] */
    struct exec_group *groups; /* [n_routes_max] */

    uint32_t n_rows_max;
    atomic_uchar *poison;  /* [n_rows_max] */
    uint16_t *n_routes_of; /* [n_rows_max] */

    size_t slice_bytes;
    unsigned char *slice; /* hidden rows of a slice: f32, and in the form that down takes */

    float *thread_scratch; /* [n_threads][EXEC_ROWS * EXEC_WIDTH_MAX] */
};

/* How the hidden rows of up to n_routes routes of a layer lie in the slice. */
struct exec_slice {
    uint32_t n_routes;
    enum act_kind kind; /* what down takes; ACT_F32 uses the f32 rows themselves */
    size_t q_at, d_at, sum16_at;
    size_t n_bytes;
};
struct exec_slice exec_slice_of(const struct store_layer *layer, uint32_t n_routes);
