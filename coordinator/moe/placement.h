/* placement.h - which workers hold which expert: a bit set per (layer, expert).
 * Bit 0 is the coordinator's own worker, bit i a member i. Plain data with one owner. */
#pragma once

#include "proto/base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* The coordinator's own worker and up to 63 others: more machines than a house has. */
#define PLACEMENT_WORKERS_MAX 64

struct placement {
    uint32_t n_layer;  /* blocks, trunk and MTP; those without experts have empty sets */
    uint32_t n_expert; /* of the widest layer */
    uint64_t *holders; /* [n_layer][n_expert] */
};

int placement_init(
        struct placement *placement, uint32_t n_layer, uint32_t n_expert, struct err *err);
void placement_fini(struct placement *placement);

static inline uint64_t placement_holders(
        const struct placement *placement, uint32_t layer, uint32_t expert) {
    return placement->holders[(uint64_t)layer * placement->n_expert + expert];
}

static inline void placement_add(
        struct placement *placement, uint32_t layer, uint32_t expert, uint32_t worker) {
    placement->holders[(uint64_t)layer * placement->n_expert + expert] |= UINT64_C(1) << worker;
}

static inline bool placement_has(
        const struct placement *placement, uint32_t layer, uint32_t expert, uint32_t worker) {
    return placement_holders(placement, layer, expert) >> worker & 1;
}
