/* engine.h - tokens in, logits out: the walk through the blocks with the experts in between.
 *
 * A session is one KV timeline. The engine cuts what it is given into steps of at most n_batch rows;
 * the logits of a position do not depend on how (docs/numerics.md). Owner: one thread, which also owns
 * the cluster. All buffers are made up front: steps allocate nothing. */
#pragma once

#include "coordinator/cluster/cluster.h"
#include "coordinator/model/model.h"
#include "proto/base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct engine;  /* opaque */
struct session; /* opaque; belongs to one engine */

struct engine_options {
    const struct model *model; /* borrowed, like the next three */
    struct cluster *cluster;   /* loaded; NULL for a model without experts */
    const struct kern_ops *kern;
    struct pool *pool;
    uint32_t n_batch; /* rows per step, 1..ENGINE_BATCH_MAX */
    int grid_bits;    /* 0: KERN_GRID_BITS; finer grids measure what rounding costs */
};
#define ENGINE_BATCH_MAX 4096

int engine_new(const struct engine_options *options, struct engine **out_engine, struct err *err);
void engine_free(struct engine *engine);

/* ERR_NO_MEMORY (says how much a cache of n_ctx positions takes), ERR_UNSUPPORTED. */
int session_new(struct engine *engine, uint32_t n_ctx, enum dtype kv_type,
        struct session **out_session, struct err *err);
void session_free(struct session *session);
const struct model_shape *engine_shape(const struct engine *engine);
uint32_t session_n_past(const struct session *session);
uint32_t session_n_ctx(const struct session *session);

/* What the caller wants to see of an evaluation. Callbacks may be NULL; what they get is borrowed for
 * the call. A negative result ends the evaluation with that code. */
struct engine_sink {
    void *arg;
    bool all_logits; /* of every row; otherwise of the last row only */
    bool mtp;        /* also run the NextN block over the rows */
    int (*logits)(void *arg, uint32_t position, const float *row, struct err *err); /* [n_vocab] */
    int (*mtp_logits)(void *arg, uint32_t position, const float *row, struct err *err);
    int (*hidden)(void *arg, uint32_t position, const float *row, struct err *err); /* [n_embd] */
    /* Experts of the rows of one step, [n_rows][n_used] ascending; once per block with experts. */
    int (*routes)(void *arg, uint32_t layer, uint32_t position, uint32_t n_rows, uint32_t n_used,
            const uint16_t *experts, struct err *err);
    void (*progress)(void *arg, uint32_t done, uint32_t total); /* after each step */
    bool (*stop)(void *arg); /* asked before each step; true ends with ERR_INTERRUPTED */
};

/* Appends tokens to the session's timeline. ERR_BAD_INPUT (an id out of range), ERR_LIMIT (more than
 * the context holds; says both numbers), and what the cluster reports. After an error the session
 * must not be used further. */
int engine_eval(struct engine *engine, struct session *session, const int32_t *tokens, uint32_t n,
        const struct engine_sink *sink, struct err *err);

/* Drops the newest positions, so that n_past positions are left. */
void session_truncate(struct session *session, uint32_t n_past);

/* Where the time went since the last reset. */
struct engine_times {
    uint64_t steps;
    uint64_t attention_ns; /* attention, norms, routers, and the FFN of dense blocks */
    uint64_t route_ns;     /* choosing experts, quantising rows */
    uint64_t dense_ns;     /* shared experts, computed while rows are away */
    uint64_t finish_ns;    /* adding the merged sums */
    uint64_t head_ns;
    uint64_t total_ns;
    struct cluster_times cluster; /* sending, own experts, waiting, merging */
};
void engine_times(const struct engine *engine, struct engine_times *out);
void engine_reset_times(struct engine *engine);
