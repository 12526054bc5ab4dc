/* split.h - the rows of one layer, cut up by the workers that hold the chosen experts.
 *
 * A pure decision: same routes, same placement, same result. All rows of an expert go to one worker
 * (its weights are read once); where replicas leave a choice, the worker with the fewest experts to
 * read in this layer gets it. */
#pragma once

#include "coordinator/moe/placement.h"
#include "proto/base/err.h"

#include <stdint.h>

/* One (row, expert) pair; row counts within the worker's own rows. */
struct split_route {
    uint16_t row;
    uint16_t expert;
    float weight;
};

/* What one worker gets. */
struct split_share {
    uint32_t n_rows;
    uint32_t *rows; /* [n_rows] rows of the batch, ascending */
    uint32_t n_routes;
    struct split_route *routes; /* [n_routes] ascending by (expert, row) */
};

/* Result and scratch; sized once by split_init, reused by every layer of every step. */
struct split {
    uint32_t n_workers;
    uint32_t n_rows_max;
    uint32_t n_used_max;
    uint32_t n_expert_max;
    struct split_share shares[PLACEMENT_WORKERS_MAX];
    uint32_t *expert_start; /* [n_expert + 1] scratch */
    uint32_t *by_expert;    /* [n_rows * n_used] route indices by (expert, row) */
    uint8_t *chosen;        /* [n_expert] worker that gets the expert */
    int32_t *row_at;        /* [n_rows] scratch: batch row -> row of the share, -1 none */
};

int split_init(struct split *split, uint32_t n_workers, uint32_t n_rows, uint32_t n_used,
        uint32_t n_expert, struct err *err);
void split_fini(struct split *split);

/* expert and weight are [n_rows][n_used] as moe_route() writes them; alive: bit set of workers that may
 * be used. Fills split->shares. ERR_NOT_FOUND names an expert that no living worker holds. */
int split_routes(struct split *split, const struct placement *placement, uint32_t layer,
        uint64_t alive, const uint16_t *expert, const float *weight, uint32_t n_rows,
        uint32_t n_used, uint32_t n_expert, struct err *err);
