/* model_blocks.c - the arithmetic that blocks of most architectures share.
 * Owns: nothing. Does not: decide on experts. Runs on: the thread of the batch, with the pool.
 *
 * A pool loop costs some microseconds of waking, so a block has few: one for q, k and v
 * together, one for attention, one for its output with the residual added, one for gate, up and
 * their activation, one for down. What lies between is per row, and stays on this thread while
 * rows are few. */
#include "coordinator/model/model_arch.h"

#include <math.h>
#include <string.h>

/* ---- attention ---- */

struct attn_loop {
    const struct model *model;
    struct model_work *work;
    const struct model_batch *batch;
    uint32_t layer;
    uint32_t n_split; /* pieces that the query heads of one key/value head are cut into */
};

static void norm_heads(const struct kern_ops *kern, enum model_qk_norm kind, float *x,
        uint32_t n_heads, uint32_t n_dim, const float *weight, float eps) {
    if (kind == MODEL_QK_NORM_WHOLE) kern->rms_norm(x, x, weight, (size_t)n_heads * n_dim, eps);
    if (kind != MODEL_QK_NORM_HEAD) return;
    for (size_t h = 0; h < n_heads; h++)
        kern->rms_norm(x + h * n_dim, x + h * n_dim, weight, n_dim, eps);
}

/* Norms and rotates queries and keys of rows, and appends keys and values to their caches. */
static void place_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct attn_loop *loop = arg;
    const struct model *m = loop->model;
    const struct model_hparams *hp = &m->hp;
    const struct model_attn *a = &m->blocks[loop->layer].attn;
    struct model_work *w = loop->work;
    uint32_t n_pairs = m->rope.n_rot / 2;
    (void)thread;

    for (size_t r = begin; r < end; r++) {
        float *q = w->q + r * hp->n_head * hp->n_dim_k;
        float *k = w->k + r * hp->n_head_kv * hp->n_dim_k;
        const float *v = w->v + r * hp->n_head_kv * hp->n_dim_v;
        const float *cosines = w->cos + r * n_pairs, *sines = w->sin + r * n_pairs;

        norm_heads(m->kern, a->qk_norm, q, hp->n_head, hp->n_dim_k, a->q_norm, hp->eps);
        norm_heads(m->kern, a->qk_norm, k, hp->n_head_kv, hp->n_dim_k, a->k_norm, hp->eps);
        m->kern->rope(m->rope.kind, q, hp->n_head, hp->n_dim_k, m->rope.n_rot, cosines, sines);
        m->kern->rope(m->rope.kind, k, hp->n_head_kv, hp->n_dim_k, m->rope.n_rot, cosines, sines);

        struct kv *kv = loop->batch->kv[r];
        const struct kv_shape *shape = kv_shape(kv);
        size_t at = loop->batch->positions[r];
        ASSERT(at < shape->n_ctx && loop->layer < shape->n_layer);
        for (uint32_t h = 0; h < hp->n_head_kv; h++) {
            char *keys = kv_keys(kv, loop->layer, h), *values = kv_values(kv, loop->layer, h);
            m->kern->kv_store(shape->type, keys + at * kern_kv_row_bytes(shape->type, hp->n_dim_k),
                    k + (size_t)h * hp->n_dim_k, hp->n_dim_k);
            m->kern->kv_store(shape->type,
                    values + at * kern_kv_row_bytes(shape->type, hp->n_dim_v),
                    v + (size_t)h * hp->n_dim_v, hp->n_dim_v);
        }
    }
}

/* Items: key/value head, row, piece of the query heads; slowest first, so that a thread stays with
 * one head's keys for many rows. */
static void attend_items(void *arg, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct attn_loop *loop = arg;
    const struct model *m = loop->model;
    const struct model_hparams *hp = &m->hp;
    struct model_work *w = loop->work;
    uint32_t n_group = hp->n_head / hp->n_head_kv;
    uint32_t n_rows = loop->batch->n_rows;

    for (uint32_t i = begin; i < end; i++) {
        uint32_t piece = i % loop->n_split;
        size_t row = i / loop->n_split % n_rows;
        uint32_t head_kv = i / loop->n_split / n_rows;
        uint32_t q0 = n_group * piece / loop->n_split, q1 = n_group * (piece + 1) / loop->n_split;
        size_t head = (size_t)head_kv * n_group + q0;
        struct kv *kv = loop->batch->kv[row];

        const struct kern_attn attn = {
                .kv_type = kv_shape(kv)->type, .n_dim_k = hp->n_dim_k, .n_dim_v = hp->n_dim_v,
                .n_q = q1 - q0, .first = 0, .end = loop->batch->positions[row] + 1,
                .scale = hp->attn_scale,
                .k = kv_keys(kv, loop->layer, head_kv), .v = kv_values(kv, loop->layer, head_kv),
                .q = w->q + (row * hp->n_head + head) * hp->n_dim_k, .q_stride = hp->n_dim_k,
                .out = w->wide.f32 + (row * hp->n_head + head) * hp->n_dim_v,
                .out_stride = hp->n_dim_v,
                .scratch = w->attn_scratch + thread * w->attn_scratch_floats,
        };
        m->kern->attend(&attn);
    }
}

/* Multiply-adds of the batch's attention in one block. */
static uint64_t attend_macs(const struct model_hparams *hp, const struct model_batch *batch) {
    uint64_t n_seen = 0;
    for (uint32_t r = 0; r < batch->n_rows; r++)
        n_seen += batch->positions[r] + 1;
    return n_seen * hp->n_head * (hp->n_dim_k + hp->n_dim_v);
}

void model_attention(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer) {
    const struct model_hparams *hp = &model->hp;
    const struct model_attn *a = &model->blocks[layer].attn;
    uint32_t n_rows = batch->n_rows, d = hp->n_embd;

    model_act_make(model, &work->narrow, n_rows, d, work->x, a->norm, hp->eps,
            model_act_need(&a->q) | model_act_need(&a->k) | model_act_need(&a->v));
    const struct model_product qkv[] = {
            {.w = &a->q, .bias = a->q_bias, .y = work->q, .y_stride = a->q.n_out},
            {.w = &a->k, .bias = a->k_bias, .y = work->k, .y_stride = a->k.n_out},
            {.w = &a->v, .bias = a->v_bias, .y = work->v, .y_stride = a->v.n_out},
    };
    model_multiply(model, &work->narrow, n_rows, qkv, 3);

    /* Every row's key and value is stored before any row attends: later rows see earlier ones. */
    struct attn_loop loop = {model, work, batch, layer, 1};
    uint64_t n_placed = (uint64_t)n_rows * (a->q.n_out + a->k.n_out + a->v.n_out);
    model_run(model, n_rows, n_placed * 4, place_rows, &loop);

    /* Few rows and heads on many threads: query heads that share keys part too, which reads the
     * keys more than once but by several cores. */
    uint32_t n_items = n_rows * hp->n_head_kv, n_group = hp->n_head / hp->n_head_kv;
    uint32_t n_threads = pool_n_threads(model->pool);
    if (n_items < n_threads) loop.n_split = (n_threads + n_items - 1) / n_items;
    if (loop.n_split > n_group) loop.n_split = n_group;
    model_run(model, n_items * loop.n_split, attend_macs(hp, batch), attend_items, &loop);

    model_act_make(model, &work->wide, n_rows, a->o.n_in, work->wide.f32, NULL, 0,
            model_act_need(&a->o));
    const struct model_product o = {.w = &a->o, .bias = a->o_bias, .y = work->tmp, .y_stride = d,
            .add_to = work->x};
    model_multiply(model, &work->wide, n_rows, &o, 1);
}

/* ---- feed-forward ---- */

static void ffn_down(const struct model *model, struct model_work *work,
        const struct model_ffn *ffn, uint32_t n_rows, float *y, float *add_to) {
    model_act_make(model, &work->wide, n_rows, ffn->down.n_in, work->wide.f32, NULL, 0,
            model_act_need(&ffn->down));
    const struct model_product down = {.w = &ffn->down, .bias = ffn->down_bias, .y = y,
            .y_stride = ffn->down.n_out, .add_to = add_to};
    model_multiply(model, &work->wide, n_rows, &down, 1);
}

static struct model_product gate_and_up(struct model_work *work, const struct model_ffn *ffn) {
    return (struct model_product){.w = &ffn->gate, .bias = ffn->gate_bias, .y = work->wide.f32,
            .y_stride = ffn->gate.n_out, .w2 = &ffn->up, .bias2 = ffn->up_bias, .y2 = work->up};
}

static uint32_t ffn_need(const struct model_ffn *ffn) {
    return model_act_need(&ffn->gate) | model_act_need(&ffn->up);
}

void model_ffn_run(const struct model *model, struct model_work *work, const struct model_ffn *ffn,
        uint32_t n_rows, float *y, float *add_to) {
    const struct model_product in = gate_and_up(work, ffn);
    model_multiply(model, &work->narrow, n_rows, &in, 1);
    ffn_down(model, work, ffn, n_rows, y, add_to);
}

/* ---- the phases ---- */

bool model_std_attend(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer, struct model_routed *out_routed) {
    const struct model_block *b = &model->blocks[layer];
    const struct model_hparams *hp = &model->hp;
    uint32_t n_rows = batch->n_rows;

    model_attention(model, work, batch, layer);
    model_act_make(model, &work->narrow, n_rows, hp->n_embd, work->x, b->ffn_norm, hp->eps,
            ffn_need(&b->ffn) | model_act_need(&b->router) | model_act_need(&b->shexp_gate));
    if (!b->is_moe) {
        model_ffn_run(model, work, &b->ffn, n_rows, work->tmp, work->x);
        return false;
    }

    const struct model_product router = {.w = &b->router, .y = work->logits,
            .y_stride = b->router.n_out};
    model_multiply(model, &work->narrow, n_rows, &router, 1);
    *out_routed = (struct model_routed){.experts = &b->experts, .x = work->narrow.f32,
            .logits = work->logits, .residual = work->x};
    return true;
}

void model_std_local(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer) {
    const struct model_block *b = &model->blocks[layer];
    size_t d = model->hp.n_embd;
    uint32_t n_rows = batch->n_rows;
    if (!b->is_moe || !b->ffn.gate.bytes) return;

    const struct model_product in[] = {gate_and_up(work, &b->ffn),
            {.w = &b->shexp_gate, .y = work->share_gate, .y_stride = 1}};
    model_multiply(model, &work->narrow, n_rows, in, b->shexp_gate.bytes ? 2 : 1);
    ffn_down(model, work, &b->ffn, n_rows, work->share, NULL);
    if (!b->shexp_gate.bytes) return;

    model->kern->sigmoid(work->share_gate, n_rows);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < d; i++)
            work->share[r * d + i] *= work->share_gate[r];
}

struct finish_loop {
    const struct model *model;
    struct model_work *work;
    bool has_share;
    const int64_t *sums;
    const int8_t *grid;
    const uint8_t *poisoned;
};

static void finish_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct finish_loop *loop = arg;
    const struct kern_ops *kern = loop->model->kern;
    size_t d = loop->model->hp.n_embd;
    (void)thread;

    for (size_t r = begin; r < end; r++) {
        float *x = loop->work->x + r * d;
        if (loop->poisoned[r]) {
            for (size_t i = 0; i < d; i++)
                x[i] = NAN;
            continue;
        }
        kern->merge_apply(x, loop->sums + r * d, loop->grid[r], d);
        if (loop->has_share) kern->add(x, loop->work->share + r * d, d);
    }
}

void model_std_finish(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer, const int64_t *sums, const int8_t *grid,
        const uint8_t *poisoned) {
    const struct model_block *b = &model->blocks[layer];
    ASSERT(b->is_moe);
    struct finish_loop loop = {model, work, b->ffn.gate.bytes != NULL, sums, grid, poisoned};
    model_run(model, batch->n_rows, (uint64_t)batch->n_rows * model->hp.n_embd * 4, finish_rows,
            &loop);
}

/* ---- entry points: an architecture may have its own ---- */

bool model_block_attend(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer, struct model_routed *out_routed) {
    ASSERT(layer < model->hp.n_layer + model->hp.n_mtp);
    return (model->arch->attend ? model->arch->attend : model_std_attend)(
            model, work, batch, layer, out_routed);
}

void model_block_local(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer) {
    (model->arch->local ? model->arch->local : model_std_local)(model, work, batch, layer);
}

void model_block_finish(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer, const int64_t *sums, const int8_t *grid,
        const uint8_t *poisoned) {
    (model->arch->finish ? model->arch->finish : model_std_finish)(
            model, work, batch, layer, sums, grid, poisoned);
}
