/* exec.h - the experts' feed-forward for a batch of rows: what a worker is for.
 *
 * For each route (row, expert, weight): y = down(glu(gate x, up x)); y times weight is rounded to the
 * row's grid and added to the row's integer sums (docs/numerics.md, rule 6). Work is cut into output
 * ranges and handed to the pool; the result does not depend on how. All scratch is allocated by
 * exec_new / exec_reserve; exec_run allocates nothing. Owner: one thread. */
#pragma once

#include "kernels/kern.h"
#include "proto/base/err.h"
#include "proto/base/pool.h"
#include "worker/store/store.h"

#include <stdint.h>

struct exec; /* opaque */

struct exec_route {
    uint32_t row;
    uint32_t expert;
    float weight;
};

/* Rows for the experts of one layer. Borrows all. */
struct exec_batch {
    uint32_t layer;
    uint32_t n_rows;
    const struct kern_act *acts[ACT_KIND_COUNT]; /* [n_rows]; those the layer's gate and up need */
    const int8_t *grid;                          /* [n_rows] grid exponents */
    const struct exec_route *routes;             /* ascending by (expert, row), no pair twice */
    uint32_t n_routes;
};

/* Borrows kern, store and pool, which outlive it. */
int exec_new(const struct kern_ops *kern, const struct store *store, struct pool *pool,
        struct exec **out_exec, struct err *err);
void exec_free(struct exec *exec);

/* Makes room for batches of up to n_rows rows and n_routes routes over all layers announced in the
 * store. May be called again to grow. ERR_NO_MEMORY. */
int exec_reserve(struct exec *exec, uint32_t n_rows, uint32_t n_routes, struct err *err);

/* sums[n_rows][n_embd] is written (not added to); poisoned[n_rows] is 1 where the row is NaN (its sums
 * are zero then). Grows by itself when the batch is larger than reserved.
 * ERR_NOT_FOUND names an expert that is not held, ERR_BAD_INPUT a route out of range. */
int exec_run(struct exec *exec, const struct exec_batch *batch, int64_t *sums, uint8_t *poisoned,
        struct err *err);
