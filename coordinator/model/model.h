/* model.h - a GGUF model bound to an architecture: everything of it but the routed experts.
 *
 * The trunk is walked block by block by the caller (the engine), which sends rows to the experts in
 * between. That is why a block comes in phases: with two batches in flight, one can be in attention
 * here while the other is with the workers.
 *
 *   model_embed()
 *   for each block:  model_block_attend()    attention, norm, router logits (or a dense FFN)
 *                    ... route, dispatch ...
 *                    model_block_local()     shared expert, while rows are away
 *                    ... merge ...
 *                    model_block_finish()    residual += routed sums, shared expert
 *   model_hidden(), model_logits()
 *
 * struct model is immutable after load and may be used by any thread; a struct model_work
 * belongs to one batch in flight and one thread. Shapes are row-major, [slowest][fastest]. */
#pragma once

#include "coordinator/model/kv.h"
#include "kernels/kern.h"
#include "proto/base/err.h"
#include "proto/base/pool.h"
#include "proto/format/gguf.h"

#include <stdbool.h>
#include <stdint.h>

struct model;      /* opaque, immutable */
struct model_work; /* opaque, scratch of one batch */

/* How a router turns logits into weights (reference: models/common.md section 8 of the fact
 * sheets). */
enum model_gating {
    MODEL_GATING_SOFTMAX = 1,
    MODEL_GATING_SIGMOID = 2,
    MODEL_GATING_SOFTMAX_TOPK = 3, /* softmax over the chosen logits */
};

struct model_router {
    enum model_gating gating;
    uint32_t n_expert;
    uint32_t n_expert_used;
    uint32_t n_group;      /* 0 or 1: no groups */
    uint32_t n_group_used;
    bool renormalise;      /* divide the chosen weights by their sum */
    float scale;           /* 0 or 1: none */
    const float *bias;     /* [n_expert] for choosing only, or NULL */
};

/* Where the routed experts of one block lie in the file. gate and up are [n_ff][n_embd] per
 * expert. */
struct model_experts {
    uint32_t layer; /* block index */
    uint32_t n_expert;
    uint32_t n_embd;
    uint32_t n_ff;
    enum kern_glu glu;
    struct gguf_matrix {
        enum dtype type;
        const uint8_t *bytes; /* of expert 0; borrowed from the file */
        uint64_t stride;      /* bytes from expert to expert */
    } gate, up, down;
    struct model_router router;
};

struct model_shape {
    char architecture[64]; /* printable text of general.architecture */
    uint32_t n_vocab;
    uint32_t n_embd;
    uint32_t n_layer;      /* trunk blocks */
    uint32_t n_mtp;        /* NextN blocks after them */
    uint32_t n_ctx_train;
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t n_dim_k;
    uint32_t n_dim_v;
    uint32_t n_expert;      /* 0: dense */
    uint32_t n_expert_used;
};

/* What `inspect` and memory checks want to know without loading. Public, plain. */
struct model_summary {
    struct model_shape shape;
    uint32_t n_moe_layers;        /* trunk blocks with routed experts */
    uint64_t n_parameters;
    uint64_t n_parameters_active; /* per token: all but the unused routed experts and MTP blocks */
    uint64_t expert_bytes;        /* one routed expert of the largest layer, in the file */
    uint64_t experts_bytes;       /* all routed experts, in the file (trunk and MTP) */
    uint64_t other_bytes;         /* everything else */
    bool supported;
    char reason[512];             /* when not supported: why, naming what is */
};

/* Fills the summary from metadata and the tensor list. Never fails on an unknown architecture (that
 * is a reason); ERR_BAD_INPUT only for files without an architecture. */
int model_summarise(const struct gguf *gguf, struct model_summary *out_summary, struct err *err);

struct model_options {
    const struct kern_ops *kern;
    struct pool *pool; /* used for repacking and for every step; borrowed */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes); /* may be NULL */
    void *progress_arg;
};

/* Binds tensors, checks every shape, repacks the matrices kept here (releasing the mapped
 * pages). gguf is borrowed and outlives the model. ERR_UNSUPPORTED (architecture, tensor type:
 * "not supported yet: NAME, used by N tensors"), ERR_BAD_INPUT (missing or misshapen tensors,
 * absurd metadata). */
int model_load(const struct gguf *gguf, const struct model_options *options,
        struct model **out_model, struct err *err);
void model_free(struct model *model);

const struct model_shape *model_shape(const struct model *model);
uint64_t model_held_bytes(const struct model *model); /* repacked weights held here */

/* The routed experts of block `layer` (trunk or MTP), or NULL when the block has none. */
const struct model_experts *model_experts(const struct model *model, uint32_t layer);

/* The cache a session of this model needs: trunk and MTP blocks, n_ctx positions. */
void model_kv_shape(const struct model *model, uint32_t n_ctx, enum dtype type,
        struct kv_shape *out_shape);

/* Bytes of scratch for batches of up to n_rows rows. */
uint64_t model_work_bytes(const struct model *model, uint32_t n_rows);

/* Room for batches of up to n_rows rows at any depth of the cache; steps then allocate nothing.
 * ERR_LIMIT, ERR_NO_MEMORY. */
int model_work_new(const struct model *model, uint32_t n_rows, struct model_work **out_work,
        struct err *err);
void model_work_free(struct model_work *work);

/* A batch of rows. Rows of one cache stand in ascending order of position, and the cache
 * already holds all positions before them. */
struct model_batch {
    uint32_t n_rows;
    const int32_t *tokens;     /* [n_rows], checked < n_vocab by the caller */
    const uint32_t *positions; /* [n_rows] */
    struct kv *const *kv;      /* [n_rows] the cache each row belongs to */
};

/* Starts a batch: the residual stream becomes the token embeddings. */
void model_embed(const struct model *model, struct model_work *work,
        const struct model_batch *batch);

/* Starts a batch of the MTP block (layer n_layer + 0): row r from tokens[r] and
 * hidden[r][n_embd], the trunk's hidden state of the position before (zeros at position 0). */
void model_embed_mtp(const struct model *model, struct model_work *work,
        const struct model_batch *batch, const float *hidden);

/* What the experts of a block get. Borrowed from the work until model_block_finish(). */
struct model_routed {
    const struct model_experts *experts;
    const float *x;        /* [n_rows][n_embd] normalised rows: the experts' input */
    const float *logits;   /* [n_rows][n_expert] router logits */
    const float *residual; /* [n_rows][n_embd] the rows that the result will be added to */
};

/* Attention with its residual, then: a dense FFN with its residual (returns false, the block is
 * done), or norm and router (returns true and fills *out_routed). Appends keys and values. */
bool model_block_attend(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer, struct model_routed *out_routed);

/* The block's local share of the FFN (shared expert), into the work. Needs no routed result. */
void model_block_local(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer);

/* residual += sums * 2^grid (NaN where poisoned), then += the local share.
 * sums[n_rows][n_embd], grid[n_rows], poisoned[n_rows]. */
void model_block_finish(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer, const int64_t *sums, const int8_t *grid,
        const uint8_t *poisoned);

/* Final norm (or the MTP block's) into the hidden rows; hidden[n_rows][n_embd], the vectors that
 * enter the head. mtp: use the MTP block's norm. */
void model_hidden(const struct model *model, struct model_work *work,
        const struct model_batch *batch, bool mtp, float *hidden);

/* logits[n][n_vocab] of n hidden rows. mtp: use the MTP block's head where it has one. */
void model_logits(const struct model *model, struct model_work *work, const float *hidden,
        uint32_t n, bool mtp, float *logits);
