/* plan.h - which worker gets which experts. Pure: no I/O, no clock; same request, same placement. */
#pragma once

#include "coordinator/moe/placement.h"
#include "proto/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum plan_policy {
    PLAN_AUTO = 0, /* spread when there are workers, else local */
    PLAN_SPREAD,   /* round-robin over all workers, the coordinator's own included */
    PLAN_LOCAL,    /* all on the coordinator's own worker */
    PLAN_SEED,     /* at random, repeatable */
    PLAN_FILE,     /* as a plan file says (plan_file.c describes the format) */
};

/* A worker by its placement bit: index 0 is the coordinator's own. */
struct plan_worker {
    const char *name;
    uint64_t room_bytes; /* for experts */
    bool usable;
};

struct plan_layer {
    uint32_t layer;
    uint32_t n_expert;
    uint64_t expert_bytes; /* of one expert, in memory */
};

struct plan_request {
    enum plan_policy policy;
    uint64_t seed;         /* PLAN_SEED */
    const char *file_text; /* PLAN_FILE: the JSON text */
    uint32_t n_replicas;   /* copies of each expert, as room allows; 0 counts as 1 */
    const struct plan_worker *workers;
    uint32_t n_workers;
    const struct plan_layer *layers;
    uint32_t n_layers;
};

/* Fills a placement that placement_init() made. ERR_NO_MEMORY when the experts do not fit (says how
 * much is there and how much is needed), ERR_BAD_INPUT for a plan file that is wrong, ERR_USAGE when
 * the policy has no worker to use. */
int plan_place(const struct plan_request *request, struct placement *placement, struct err *err);

/* Reads a --place value: auto, spread, local, seed:N, file:PATH. out_path is set for file: (borrowed
 * from text). ERR_USAGE. */
int plan_parse(const char *text, enum plan_policy *out_policy, uint64_t *out_seed,
        const char **out_path, struct err *err);

/* Room left of each worker while a plan is made; shared by the policies. */
struct plan_room {
    uint64_t left[PLACEMENT_WORKERS_MAX];
};

/* The plan file's policy: plan_place() calls it for PLAN_FILE. */
int plan_place_file(const struct plan_request *request, struct plan_room *room,
        struct placement *placement, struct err *err);
