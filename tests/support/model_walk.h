/* model_walk.h - runs a model in the plainest way: one file, one thread of control, experts here.
 *
 * The slow twin of engine, dispatch and worker: tests compare with it. Routing is written again
 * from the fact sheets' steps, independent of coordinator/moe. Aborts on failure: tests only. */
#pragma once

#include "coordinator/model/model.h"

#include <stdint.h>

struct model_walk { /* owner: one test */
    const struct kern_ops *kern;
    struct pool *pool;
    struct gguf *gguf;
    struct model *model;
    struct kern_mat *experts; /* [block][expert][gate, up, down], repacked */
    void **owned;
    uint32_t n_owned;
};

/* Opens and loads; on failure returns the code, and the walk can be closed all the same. */
int model_walk_open(struct model_walk *walk, const char *path, const struct kern_ops *kern,
        uint32_t n_threads, struct err *err);

/* The same for a file that is open already; takes gguf, also on failure. */
int model_walk_load(struct model_walk *walk, struct gguf *gguf, const struct kern_ops *kern,
        uint32_t n_threads, struct err *err);
void model_walk_close(struct model_walk *walk);

/* Where the chosen experts of every row go: chosen[moe block][n_total][k], each row at its
 * position, ascending. */
struct model_walk_routes {
    int16_t *chosen;
    uint32_t n_total;
};

/* One batch through the trunk: hidden[n_rows][n_embd] and logits[n_rows][n_vocab]. */
void model_walk_step(struct model_walk *walk, struct model_work *work,
        const struct model_batch *batch, const struct model_walk_routes *routes, float *hidden,
        float *logits);

/* The same through the MTP block; before[n_rows][n_embd] are the hidden rows of the positions
 * before. */
void model_walk_mtp_step(struct model_walk *walk, struct model_work *work,
        const struct model_batch *batch, const float *before,
        const struct model_walk_routes *routes, float *logits);

/* The routed experts' part of one block: grid, sums and poison of every row as the experts would
 * send them, added with model_block_finish(). */
void model_walk_experts(struct model_walk *walk, struct model_work *work,
        const struct model_batch *batch, const struct model_routed *routed, int16_t *chosen);
