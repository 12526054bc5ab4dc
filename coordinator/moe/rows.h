/* rows.h - a batch of rows made ready for one layer's experts: routed, quantised, on their grid.
 *
 * Buffers are sized once and reused by every layer of every step. Owner: the engine's thread; the
 * heavy part runs on the pool. */
#pragma once

#include "coordinator/model/model.h"
#include "kernels/kern.h"
#include "proto/base/err.h"
#include "proto/base/pool.h"

#include <stdint.h>

struct moe_rows {
    const struct kern_ops *kern; /* borrowed */
    struct pool *pool;           /* borrowed */
    uint32_t n_rows_max;
    uint32_t n_embd;
    int grid_bits; /* KERN_GRID_BITS; tests use finer grids to measure what the rounding costs */

    /* filled by moe_rows_prepare() */
    uint32_t layer;
    uint32_t n_rows;
    uint32_t n_used;
    uint32_t act_mask;                    /* kinds that this layer's gate and up need */
    struct kern_act acts[ACT_KIND_COUNT]; /* [n_rows]; those in the mask */
    int8_t *grid;                         /* [n_rows] */
    uint16_t *expert;                     /* [n_rows][n_used] ascending within a row */
    float *weight;                        /* [n_rows][n_used] */

    float *logits;  /* scratch [n_rows][n_expert] */
    float *scratch; /* [n_expert] */
    int8_t *q[ACT_KIND_COUNT];
    float *d[ACT_KIND_COUNT];
    int16_t *sum16[ACT_KIND_COUNT];
};

/* ERR_NO_MEMORY. */
int moe_rows_init(struct moe_rows *rows, const struct kern_ops *kern, struct pool *pool,
        uint32_t n_rows, uint32_t n_embd, uint32_t n_expert, uint32_t n_used, struct err *err);
void moe_rows_fini(struct moe_rows *rows);

/* Routes and quantises n_rows rows. ACT_F32 rows are borrowed from routed->x. */
void moe_rows_prepare(struct moe_rows *rows, const struct model_routed *routed, uint32_t n_rows);
