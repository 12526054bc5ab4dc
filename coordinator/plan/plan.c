/* plan.c - the simple placement policies.
 * Owns: nothing. Does not: read files, ask workers or know the time. Runs on: any thread. */
#include "coordinator/plan/plan.h"

#include "proto/base/checked.h"
#include "proto/base/rng.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int plan_parse(const char *text, enum plan_policy *out_policy, uint64_t *out_seed,
        const char **out_path, struct err *err) {
    if (strcmp(text, "auto") == 0) {
        *out_policy = PLAN_AUTO;
    } else if (strcmp(text, "spread") == 0) {
        *out_policy = PLAN_SPREAD;
    } else if (strcmp(text, "local") == 0) {
        *out_policy = PLAN_LOCAL;
    } else if (strncmp(text, "seed:", 5) == 0) {
        char *end = NULL;
        errno = 0;
        unsigned long long seed = strtoull(text + 5, &end, 10);
        if (errno || end == text + 5 || *end || text[5] == '-')
            return err_set(err, ERR_USAGE, "--place %s: '%s' is not a number", text, text + 5);
        *out_policy = PLAN_SEED;
        *out_seed = seed;
    } else if (strncmp(text, "file:", 5) == 0 && text[5]) {
        *out_policy = PLAN_FILE;
        *out_path = text + 5;
    } else {
        return err_set(err, ERR_USAGE,
                "--place %s: expected auto, spread, local, seed:N or file:PLAN.json", text);
    }
    return 0;
}

/* The next usable worker after `from` (round-robin) that has room and does not hold the expert yet;
 * n_workers when there is none. */
static uint32_t next_worker(const struct plan_request *request, const struct plan_room *room,
        uint64_t holders, uint64_t bytes, uint32_t from) {
    for (uint32_t i = 0; i < request->n_workers; i++) {
        uint32_t w = (from + i) % request->n_workers;
        if (request->workers[w].usable && !(holders >> w & 1) && room->left[w] >= bytes) return w;
    }
    return request->n_workers;
}

static int no_room(const struct plan_request *request, struct err *err) {
    uint64_t need = 0, have = 0;
    for (uint32_t i = 0; i < request->n_layers; i++)
        need += request->layers[i].n_expert * request->layers[i].expert_bytes;
    for (uint32_t w = 0; w < request->n_workers; w++)
        if (request->workers[w].usable) have += request->workers[w].room_bytes;
    int rc = err_set(err, ERR_NO_MEMORY,
            "the model's experts take %.2f GiB, the workers that may hold them have room for %.2f "
            "GiB",
            (double)need / (1 << 30), (double)have / (1 << 30));
    err_hint(err, "add workers (potluck join), or give them more room with --ram");
    return rc;
}

/* Puts one copy of every expert somewhere: round-robin from worker to worker, or at random. */
static int place_copies(const struct plan_request *request, bool random, struct plan_room *room,
        struct placement *placement, bool must_fit, struct rng *rng, uint32_t *turn,
        struct err *err) {
    for (uint32_t i = 0; i < request->n_layers; i++) {
        const struct plan_layer *layer = &request->layers[i];
        for (uint32_t e = 0; e < layer->n_expert; e++) {
            uint32_t from = random ? (uint32_t)rng_below(rng, request->n_workers) : *turn;
            uint32_t w = next_worker(request, room, placement_holders(placement, layer->layer, e),
                    layer->expert_bytes, from);
            if (w == request->n_workers) {
                if (must_fit) return no_room(request, err);
                continue;
            }
            placement_add(placement, layer->layer, e, w);
            room->left[w] -= layer->expert_bytes;
            *turn = (w + 1) % request->n_workers;
        }
    }
    return 0;
}

static int place_local(const struct plan_request *request, struct plan_room *room,
        struct placement *placement, struct err *err) {
    if (!request->workers[0].usable)
        return err_set(err, ERR_USAGE,
                "--place local needs the coordinator's own worker, which --no-local-experts "
                "forbids");
    for (uint32_t i = 0; i < request->n_layers; i++) {
        const struct plan_layer *layer = &request->layers[i];
        for (uint32_t e = 0; e < layer->n_expert; e++) {
            if (room->left[0] < layer->expert_bytes) return no_room(request, err);
            room->left[0] -= layer->expert_bytes;
            placement_add(placement, layer->layer, e, 0);
        }
    }
    return 0;
}

int plan_place(const struct plan_request *request, struct placement *placement, struct err *err) {
    struct plan_room room = {{0}};
    uint32_t n_usable = 0, turn = 0;
    for (uint32_t w = 0; w < request->n_workers; w++) {
        room.left[w] = request->workers[w].usable ? request->workers[w].room_bytes : 0;
        n_usable += request->workers[w].usable;
    }
    if (n_usable == 0) {
        int rc = err_set(err, ERR_USAGE,
                "no worker may hold experts: --no-local-experts, and nobody has joined");
        err_hint(err, "start workers with --local-workers N or potluck join");
        return rc;
    }

    struct rng rng;
    rng_init(&rng, request->seed);
    bool random = request->policy == PLAN_SEED;
    int rc;
    switch (request->policy) {
    case PLAN_LOCAL:
        rc = place_local(request, &room, placement, err);
        break;
    case PLAN_FILE:
        rc = plan_place_file(request, &room, placement, err);
        break;
    case PLAN_AUTO:
    case PLAN_SPREAD:
    case PLAN_SEED:
    default:
        rc = place_copies(request, random, &room, placement, true, &rng, &turn, err);
        break;
    }
    for (uint32_t copy = 1; rc == 0 && copy < request->n_replicas; copy++)
        rc = place_copies(request, random, &room, placement, false, &rng, &turn, err);
    return rc;
}
