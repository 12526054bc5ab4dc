/* split.c - cutting a layer's routes up by worker.
 * Owns: the arrays of struct split. Does not: allocate after split_init, send or compute.
 * Runs on: the thread that owns the split. */
#include "coordinator/moe/split.h"

#include "proto/base/checked.h"

#include <stdlib.h>
#include <string.h>

int split_init(struct split *split, uint32_t n_workers, uint32_t n_rows, uint32_t n_used,
        uint32_t n_expert, struct err *err) {
    *split = (struct split){.n_workers = n_workers,
            .n_rows_max = n_rows,
            .n_used_max = n_used,
            .n_expert_max = n_expert};
    size_t n_routes = (size_t)n_rows * n_used;
    split->expert_start = calloc(n_expert + 1, sizeof *split->expert_start);
    split->by_expert = calloc(n_routes + 1, sizeof *split->by_expert);
    split->chosen = calloc(n_expert + 1, sizeof *split->chosen);
    split->row_at = calloc((size_t)n_rows + 1, sizeof *split->row_at);
    bool ok = split->expert_start && split->by_expert && split->chosen && split->row_at;
    for (uint32_t w = 0; ok && w < n_workers; w++) {
        split->shares[w].rows = calloc((size_t)n_rows + 1, sizeof *split->shares[w].rows);
        split->shares[w].routes = calloc(n_routes + 1, sizeof *split->shares[w].routes);
        ok = split->shares[w].rows && split->shares[w].routes;
    }
    if (!ok) {
        split_fini(split);
        return err_set(err, ERR_NO_MEMORY, "no memory to split batches of %u rows", n_rows);
    }
    return 0;
}

void split_fini(struct split *split) {
    for (uint32_t w = 0; w < split->n_workers; w++) {
        free(split->shares[w].rows);
        free(split->shares[w].routes);
    }
    free(split->expert_start);
    free(split->by_expert);
    free(split->chosen);
    free(split->row_at);
    *split = (struct split){0};
}

/* Counting sort of the routes by expert; rows stay ascending within an expert. */
static void sort_by_expert(
        struct split *split, const uint16_t *expert, uint32_t n_routes, uint32_t n_expert) {
    uint32_t *start = split->expert_start;
    memset(start, 0, (n_expert + 1) * sizeof *start);
    for (uint32_t i = 0; i < n_routes; i++)
        start[expert[i] + 1]++;
    for (uint32_t e = 0; e < n_expert; e++)
        start[e + 1] += start[e];
    for (uint32_t i = 0; i < n_routes; i++)
        split->by_expert[start[expert[i]]++] = i;
    for (uint32_t e = n_expert; e > 0; e--)
        start[e] = start[e - 1];
    start[0] = 0;
}

/* Experts with one holder first, since they leave no choice; then the others to the idlest holder. */
static int choose_workers(struct split *split, const struct placement *placement, uint32_t layer,
        uint64_t alive, uint32_t n_expert, struct err *err) {
    uint32_t load[PLACEMENT_WORKERS_MAX] = {0};

    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t e = 0; e < n_expert; e++) {
            if (split->expert_start[e] == split->expert_start[e + 1]) continue;
            uint64_t holders = placement_holders(placement, layer, e) & alive;
            if (holders == 0)
                return err_set(
                        err, ERR_NOT_FOUND, "no worker holds expert %u of layer %u", e, layer);
            bool has_choice = (holders & (holders - 1)) != 0;
            if (has_choice != (pass == 1)) continue;

            uint32_t best = (uint32_t)__builtin_ctzll(holders);
            for (uint64_t rest = holders & (holders - 1); rest; rest &= rest - 1) {
                uint32_t w = (uint32_t)__builtin_ctzll(rest);
                if (load[w] < load[best]) best = w;
            }
            load[best]++;
            split->chosen[e] = (uint8_t)best;
        }
    }
    return 0;
}

/* The rows of one worker, ascending, and the batch row -> share row map. */
static void collect_rows(struct split *split, uint32_t worker, const uint16_t *expert,
        uint32_t n_rows, uint32_t n_used) {
    struct split_share *share = &split->shares[worker];
    for (uint32_t r = 0; r < n_rows; r++) {
        split->row_at[r] = -1;
        for (uint32_t i = 0; i < n_used; i++) {
            if (split->chosen[expert[(size_t)r * n_used + i]] != worker) continue;
            split->row_at[r] = (int32_t)share->n_rows;
            share->rows[share->n_rows++] = r;
            break;
        }
    }
}

int split_routes(struct split *split, const struct placement *placement, uint32_t layer,
        uint64_t alive, const uint16_t *expert, const float *weight, uint32_t n_rows,
        uint32_t n_used, uint32_t n_expert, struct err *err) {
    ASSERT(n_rows <= split->n_rows_max && n_used <= split->n_used_max);
    ASSERT(n_expert <= split->n_expert_max && n_expert <= placement->n_expert);

    sort_by_expert(split, expert, n_rows * n_used, n_expert);
    int rc = choose_workers(split, placement, layer, alive, n_expert, err);
    if (rc < 0) return rc;

    for (uint32_t w = 0; w < split->n_workers; w++) {
        struct split_share *share = &split->shares[w];
        share->n_rows = share->n_routes = 0;
        if (!(alive >> w & 1)) continue;
        collect_rows(split, w, expert, n_rows, n_used);
        if (share->n_rows == 0) continue;
        for (uint32_t i = 0; i < n_rows * n_used; i++) {
            uint32_t at = split->by_expert[i];
            if (split->chosen[expert[at]] != w) continue;
            share->routes[share->n_routes++] = (struct split_route){
                    (uint16_t)split->row_at[at / n_used], expert[at], weight[at]};
        }
    }
    return 0;
}
