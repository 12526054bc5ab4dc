/* model_walk.c - a model's forward pass with nothing but the model room and the kernels.
 * Owns: the file, the model and repacked experts. Does not: be fast. Runs on: a test. */
#include "tests/support/model_walk.h"

#include "proto/base/aligned.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory) {
    ASSERT(memory);
    return memory;
}

static void repack(struct model_walk *walk, const struct gguf_matrix *from, uint32_t expert,
        uint32_t n_in, uint32_t n_out, struct kern_mat *mat) {
    enum kern_layout layout = walk->kern->layout_of(from->type);
    void *to = must(aligned_new(kern_mat_bytes(from->type, layout, n_in, n_out)));
    kern_repack(from->type, layout, n_in, n_out, 0, n_out, from->bytes + expert * from->stride, to);
    walk->owned[walk->n_owned++] = to;
    *mat = (struct kern_mat){from->type, layout, n_in, n_out, to};
}

static void repack_experts(struct model_walk *walk) {
    const struct model_shape *s = model_shape(walk->model);
    uint32_t n_blocks = s->n_layer + s->n_mtp;
    if (s->n_expert == 0) return;

    walk->experts = must(calloc((size_t)n_blocks * s->n_expert, 3 * sizeof *walk->experts));
    walk->owned = must(calloc((size_t)n_blocks * s->n_expert, 3 * sizeof *walk->owned));
    for (uint32_t layer = 0; layer < n_blocks; layer++) {
        const struct model_experts *x = model_experts(walk->model, layer);
        for (uint32_t e = 0; x && e < x->n_expert; e++) {
            struct kern_mat *mats = &walk->experts[((size_t)layer * s->n_expert + e) * 3];
            repack(walk, &x->gate, e, x->n_embd, x->n_ff, &mats[0]);
            repack(walk, &x->up, e, x->n_embd, x->n_ff, &mats[1]);
            repack(walk, &x->down, e, x->n_ff, x->n_embd, &mats[2]);
        }
    }
}

int model_walk_open(struct model_walk *walk, const char *path, const struct kern_ops *kern,
        uint32_t n_threads, struct err *err) {
    struct gguf *gguf = NULL;
    *walk = (struct model_walk){0};
    int rc = gguf_open(path, &gguf, err);
    return rc < 0 ? rc : model_walk_load(walk, gguf, kern, n_threads, err);
}

int model_walk_load(struct model_walk *walk, struct gguf *gguf, const struct kern_ops *kern,
        uint32_t n_threads, struct err *err) {
    *walk = (struct model_walk){.kern = kern, .gguf = gguf};
    int rc = pool_new(n_threads, &walk->pool, err);
    if (rc < 0) return rc;

    const struct model_options options = {.kern = kern, .pool = walk->pool};
    if ((rc = model_load(walk->gguf, &options, &walk->model, err)) < 0) return rc;
    repack_experts(walk);
    return 0;
}

void model_walk_close(struct model_walk *walk) {
    for (uint32_t i = 0; i < walk->n_owned; i++)
        free(walk->owned[i]);
    free(walk->owned);
    free(walk->experts);
    model_free(walk->model);
    gguf_free(walk->gguf);
    pool_free(walk->pool);
    *walk = (struct model_walk){0};
}

/* Steps 2 to 9 of the generic router, in the dullest form. */
static void route(const struct model_walk *walk, const struct model_router *r, const float *logits,
        int16_t *chosen, float *weight) {
    uint32_t n = r->n_expert, k = r->n_expert_used;
    float *p = must(malloc(n * sizeof *p)), *sel = must(malloc(n * sizeof *sel));
    memcpy(p, logits, n * sizeof *p);
    if (r->gating == MODEL_GATING_SOFTMAX) walk->kern->softmax(p, n);
    if (r->gating == MODEL_GATING_SIGMOID) walk->kern->sigmoid(p, n);
    for (uint32_t e = 0; e < n; e++)
        sel[e] = p[e] + (r->bias ? r->bias[e] : 0);
    ASSERT(r->n_group <= 1);

    for (uint32_t i = 0; i < k; i++) {
        uint32_t best = 0;
        for (uint32_t e = 1; e < n; e++)
            if (sel[e] > sel[best]) best = e;
        sel[best] = -INFINITY;
        chosen[i] = (int16_t)best;
    }
    for (uint32_t i = 0; i < k; i++)
        for (uint32_t j = i + 1; j < k; j++)
            if (chosen[j] < chosen[i]) {
                int16_t swap = chosen[i];
                chosen[i] = chosen[j];
                chosen[j] = swap;
            }

    float sum = 0;
    for (uint32_t i = 0; i < k; i++) {
        weight[i] = p[chosen[i]];
        sum += weight[i];
    }
    for (uint32_t i = 0; i < k; i++) {
        if (r->renormalise) weight[i] /= sum;
        if (r->scale != 0 && r->scale != 1) weight[i] *= r->scale;
    }
    free(p);
    free(sel);
}

/* y = W x for one row of floats. */
static void multiply(const struct model_walk *walk, const struct kern_mat *w, const float *x,
        float *y) {
    enum act_kind kind = dtype_find(w->type)->act;
    struct kern_act act = {.kind = kind, .n_in = w->n_in, .n_rows = 1, .f32 = x};
    int8_t *q = must(aligned_new(w->n_in));
    float *d = must(aligned_new(w->n_in * sizeof *d));
    int16_t *sum16 = must(aligned_new(w->n_in * sizeof *sum16));
    if (kind != ACT_F32) walk->kern->quantise(kind, x, w->n_in, 1, w->n_in, q, d, sum16);
    act.q = q;
    act.d = d;
    act.sum16 = sum16;
    walk->kern->matmul(w, 0, w->n_out, &act, NULL, 1, y, w->n_out);
    free(q);
    free(d);
    free(sum16);
}

/* Adds weight * expert(x) to the sums of one row. */
static bool add_expert(struct model_walk *walk, const struct model_experts *x, uint32_t expert,
        const float *row, float weight, int grid, int64_t *sums) {
    const struct kern_mat *mats =
            &walk->experts[((size_t)x->layer * x->n_expert + expert) * 3];
    float *gate = must(aligned_new(x->n_ff * sizeof *gate));
    float *up = must(aligned_new(x->n_ff * sizeof *up));
    float *y = must(aligned_new(x->n_embd * sizeof *y));
    multiply(walk, &mats[0], row, gate);
    multiply(walk, &mats[1], row, up);
    walk->kern->glu(x->glu, gate, gate, up, x->n_ff);
    multiply(walk, &mats[2], gate, y);
    bool ok = walk->kern->merge_add(sums, y, weight, grid, x->n_embd);
    free(gate);
    free(up);
    free(y);
    return ok;
}

void model_walk_experts(struct model_walk *walk, struct model_work *work,
        const struct model_batch *batch, const struct model_routed *routed, int16_t *chosen) {
    const struct model_experts *x = routed->experts;
    size_t n_rows = batch->n_rows, d = x->n_embd, k = x->router.n_expert_used;
    int64_t *sums = must(calloc(n_rows * d, sizeof *sums));
    int8_t *grid = must(calloc(n_rows, 1));
    uint8_t *poisoned = must(calloc(n_rows, 1));
    float *weight = must(calloc(k, sizeof *weight));

    for (size_t r = 0; r < n_rows; r++) {
        const float *residual = routed->residual + r * d;
        int16_t *mine = chosen + r * k;
        grid[r] = (int8_t)kern_grid(walk->kern->sum_squares(residual, d), d, KERN_GRID_BITS);
        route(walk, &x->router, routed->logits + r * x->n_expert, mine, weight);
        for (size_t i = 0; i < k; i++)
            if (!add_expert(walk, x, (uint32_t)mine[i], routed->x + r * d, weight[i], grid[r],
                        sums + r * d))
                poisoned[r] = 1;
    }
    model_block_local(walk->model, work, batch, x->layer);
    model_block_finish(walk->model, work, batch, x->layer, sums, grid, poisoned);
    free(sums);
    free(grid);
    free(poisoned);
    free(weight);
}

/* Blocks [first, end) over a batch that has been embedded. */
static void run_blocks(struct model_walk *walk, struct model_work *work,
        const struct model_batch *batch, uint32_t first, uint32_t end,
        const struct model_walk_routes *routes) {
    uint32_t k = model_shape(walk->model)->n_expert_used;
    int16_t *chosen = must(calloc((size_t)batch->n_rows * (k ? k : 1), sizeof *chosen));
    size_t n_moe = 0;

    for (uint32_t layer = first; layer < end; layer++) {
        struct model_routed routed;
        if (!model_block_attend(walk->model, work, batch, layer, &routed)) continue;
        model_walk_experts(walk, work, batch, &routed, chosen);
        for (size_t r = 0; routes && r < batch->n_rows; r++)
            memcpy(routes->chosen + ((n_moe * routes->n_total) + batch->positions[r]) * k,
                    chosen + r * k, k * sizeof *chosen);
        n_moe++;
    }
    free(chosen);
}

void model_walk_step(struct model_walk *walk, struct model_work *work,
        const struct model_batch *batch, const struct model_walk_routes *routes, float *hidden,
        float *logits) {
    const struct model_shape *s = model_shape(walk->model);
    model_embed(walk->model, work, batch);
    run_blocks(walk, work, batch, 0, s->n_layer, routes);
    model_hidden(walk->model, work, batch, false, hidden);
    model_logits(walk->model, work, hidden, batch->n_rows, false, logits);
}

void model_walk_mtp_step(struct model_walk *walk, struct model_work *work,
        const struct model_batch *batch, const float *before,
        const struct model_walk_routes *routes, float *logits) {
    const struct model_shape *s = model_shape(walk->model);
    float *hidden = must(aligned_new((size_t)batch->n_rows * s->n_embd * sizeof *hidden));
    model_embed_mtp(walk->model, work, batch, before);
    run_blocks(walk, work, batch, s->n_layer, s->n_layer + 1, routes);
    model_hidden(walk->model, work, batch, true, hidden);
    model_logits(walk->model, work, hidden, batch->n_rows, true, logits);
    free(hidden);
}
