/* model_work.c - the scratch of one batch, loops over rows and outputs, and what happens before the
 * first block and after the last.
 * Owns: struct model_work. Does not: know blocks. Runs on: the thread of the batch, with the pool.
 *
 * How work is cut never changes a result: rows do not see each other, and an output element is
 * computed whole by one call (docs/numerics.md, rules 3 and 7). */
#include "coordinator/model/model_arch.h"

#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Multiply-adds worth waking another thread for: some microseconds of work, as a wake-up takes. */
#define TASK_MACS 131072

/* Pieces per thread, so that a thread which lost its core holds up little. */
#define TASKS_PER_THREAD 4

struct range_loop {
    uint32_t n_items;
    uint32_t n_tasks;
    model_range_fn *fn;
    void *arg;
};

static uint32_t range_at(const struct range_loop *loop, uint32_t task) {
    return (uint32_t)((uint64_t)loop->n_items * task / loop->n_tasks);
}

static void range_task(void *arg, uint32_t task, uint32_t thread) {
    const struct range_loop *loop = arg;
    loop->fn(loop->arg, range_at(loop, task), range_at(loop, task + 1), thread);
}

void model_run(const struct model *model, uint32_t n_items, uint64_t macs, model_range_fn *fn,
        void *arg) {
    uint32_t n_threads = pool_n_threads(model->pool);
    uint64_t n_tasks = min_u64(n_items, (uint64_t)n_threads * TASKS_PER_THREAD);
    n_tasks = min_u64(n_tasks, macs / TASK_MACS);
    if (n_threads == 1 || n_tasks <= 1) {
        if (n_items) fn(arg, 0, n_items, 0);
        return;
    }
    struct range_loop loop = {n_items, (uint32_t)n_tasks, fn, arg};
    pool_run(model->pool, loop.n_tasks, range_task, &loop);
}

/* ---- rows in the forms that weights pair with ---- */

uint32_t model_act_need(const struct kern_mat *mat) {
    return mat->bytes ? 1u << dtype_find(mat->type)->act : 0;
}

struct act_loop {
    const struct model *model;
    struct model_act *act;
    const float *rows;
    const float *norm;
    float eps;
    uint32_t n_in;
    uint32_t need;
};

static void act_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct act_loop *loop = arg;
    const struct kern_ops *kern = loop->model->kern;
    struct model_act *act = loop->act;
    size_t n = loop->n_in;
    (void)thread;

    for (size_t r = begin; r < end; r++) {
        const float *x = loop->rows + r * n;
        if (loop->eps > 0) {
            kern->rms_norm(act->f32 + r * n, x, loop->norm, n, loop->eps);
            x = act->f32 + r * n;
        }
        for (enum act_kind kind = ACT_Q8_32; kind <= ACT_Q8_256; kind++)
            if (loop->need & 1u << kind)
                kern->quantise(kind, x, n, 1, loop->n_in, act->q[kind] + r * n,
                        act->d[kind] + r * (n / act_block(kind)), act->sum16[kind] + r * (n / 16));
    }
}

void model_act_make(const struct model *model, struct model_act *act, uint32_t n_rows,
        uint32_t n_in, const float *rows, const float *norm, float eps, uint32_t need) {
    ASSERT(n_in <= act->capacity);
    struct act_loop loop = {model, act, rows, norm, eps, n_in, need};
    model_run(model, n_rows, (uint64_t)n_rows * n_in * 8, act_rows, &loop);

    for (enum act_kind kind = ACT_F32; kind < ACT_KIND_COUNT; kind++)
        act->form[kind] = (struct kern_act){.kind = kind, .n_in = n_in, .n_rows = n_rows,
                .f32 = eps > 0 ? act->f32 : rows, .q = act->q[kind], .d = act->d[kind],
                .sum16 = act->sum16[kind]};
}

/* ---- products ---- */

struct product_loop {
    const struct model *model;
    const struct model_act *act;
    uint32_t n_rows;
    const struct model_product *products;
    uint32_t n_products;
};

static uint32_t n_groups(const struct model_product *p) {
    return (p->w->n_out + KERN_OUT_STEP - 1) / KERN_OUT_STEP;
}

static void multiply_range(const struct product_loop *loop, const struct model_product *p,
        uint32_t out0, uint32_t out1) {
    const struct kern_ops *kern = loop->model->kern;
    size_t n = out1 - out0;

    kern->matmul(p->w, out0, out1, &loop->act->form[dtype_find(p->w->type)->act], NULL,
            loop->n_rows, p->y, p->y_stride);
    if (p->w2)
        kern->matmul(p->w2, out0, out1, &loop->act->form[dtype_find(p->w2->type)->act], NULL,
                loop->n_rows, p->y2, p->y_stride);

    for (uint32_t r = 0; r < loop->n_rows; r++) {
        size_t at = r * p->y_stride + out0;
        if (p->bias) kern->add(p->y + at, p->bias + out0, n);
        if (p->w2 && p->bias2) kern->add(p->y2 + at, p->bias2 + out0, n);
        if (p->w2) kern->glu(KERN_GLU_SILU, p->y + at, p->y + at, p->y2 + at, n);
        if (p->add_to) kern->add(p->add_to + at, p->y + at, n);
    }
}

/* Items are groups of KERN_OUT_STEP outputs, those of one product after those of the one before. */
static void multiply_groups(void *arg, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct product_loop *loop = arg;
    uint32_t first = 0;
    (void)thread;

    for (uint32_t i = 0; i < loop->n_products; i++) {
        const struct model_product *p = &loop->products[i];
        uint32_t n = n_groups(p);
        uint32_t g0 = begin > first ? begin - first : 0;
        uint32_t g1 = end > first ? end - first : 0;
        if (g1 > n) g1 = n;
        if (g0 < g1)
            multiply_range(loop, p, g0 * KERN_OUT_STEP,
                    g1 == n ? p->w->n_out : g1 * KERN_OUT_STEP);
        first += n;
    }
}

void model_multiply(const struct model *model, const struct model_act *act, uint32_t n_rows,
        const struct model_product *products, uint32_t n_products) {
    ASSERT(n_products <= MODEL_PRODUCTS_MAX);
    uint32_t n_items = 0;
    uint64_t macs = 0;
    for (uint32_t i = 0; i < n_products; i++) {
        n_items += n_groups(&products[i]);
        macs += (uint64_t)products[i].w->n_out * products[i].w->n_in * n_rows *
                (products[i].w2 ? 2 : 1);
    }
    struct product_loop loop = {model, act, n_rows, products, n_products};
    model_run(model, n_items, macs, multiply_groups, &loop);
}

/* ---- scratch ---- */

/* Hands out the block piece by piece; without a base it only counts. */
struct carver {
    unsigned char *base;
    uint64_t used;
};

static void *carve(struct carver *c, uint64_t n, size_t element) {
    void *at = c->base ? c->base + c->used : NULL;
    c->used += (n * element + 63) & ~UINT64_C(63);
    return at;
}

/* need: the forms besides f32 that some matrix wants. */
static void carve_act(struct carver *c, struct model_act *act, uint32_t n_rows, uint32_t n_in,
        uint32_t need) {
    uint64_t n = (uint64_t)n_rows * n_in;
    act->capacity = n_in;
    act->f32 = carve(c, n, sizeof *act->f32);
    for (enum act_kind kind = ACT_Q8_32; kind <= ACT_Q8_256; kind++) {
        if (!(need & 1u << kind)) continue;
        act->q[kind] = carve(c, n, 1);
        act->d[kind] = carve(c, n / act_block(kind) + 1, sizeof(float));
        act->sum16[kind] = carve(c, n / 16 + 1, sizeof(int16_t));
    }
}

/* Every form that some matrix of the model wants. */
static uint32_t all_forms(const struct model *m) {
    uint32_t need = model_act_need(&m->head);
    for (uint32_t i = 0; i < m->hp.n_layer + m->hp.n_mtp; i++) {
        const struct model_block *b = &m->blocks[i];
        const struct kern_mat *mats[] = {&b->attn.q, &b->attn.k, &b->attn.v, &b->attn.o,
                &b->ffn.gate, &b->ffn.up, &b->ffn.down, &b->shexp_gate, &b->router,
                &b->mtp.eh_proj, &b->mtp.head};
        for (size_t j = 0; j < ARRAY_LEN(mats); j++)
            need |= model_act_need(mats[j]);
    }
    return need;
}

static uint32_t widest_ffn(const struct model *m) {
    uint32_t n_ff = 0;
    for (uint32_t i = 0; i < m->hp.n_layer + m->hp.n_mtp; i++)
        if (m->blocks[i].ffn.gate.bytes && m->blocks[i].ffn.gate.n_out > n_ff)
            n_ff = m->blocks[i].ffn.gate.n_out;
    return n_ff;
}

/* Lays out the scratch in work->base, or counts its bytes while that is NULL. */
static uint64_t lay_out(const struct model *m, struct model_work *work, uint32_t n_rows) {
    const struct model_hparams *hp = &m->hp;
    struct carver c = {work->base, 0};
    uint64_t rows = n_rows, d = hp->n_embd;
    uint32_t n_ff = widest_ffn(m), n_o = hp->n_head * hp->n_dim_v;
    uint32_t forms = all_forms(m);

    uint32_t n_wide = n_ff > n_o ? n_ff : n_o;
    if (hp->n_mtp > 0 && n_wide < 2 * hp->n_embd) n_wide = 2 * hp->n_embd;

    work->x = carve(&c, rows * d, sizeof(float));
    carve_act(&c, &work->narrow, n_rows, hp->n_embd, forms);
    carve_act(&c, &work->wide, n_rows, n_wide, forms);
    work->q = carve(&c, rows * hp->n_head * hp->n_dim_k, sizeof(float));
    work->k = carve(&c, rows * hp->n_head_kv * hp->n_dim_k, sizeof(float));
    work->v = carve(&c, rows * hp->n_head_kv * hp->n_dim_v, sizeof(float));
    work->up = carve(&c, rows * n_ff, sizeof(float));
    work->tmp = carve(&c, rows * d, sizeof(float));
    work->share = carve(&c, rows * d, sizeof(float));
    work->share_gate = carve(&c, rows, sizeof(float));
    work->logits = carve(&c, rows * hp->router.n_expert, sizeof(float));
    work->cos = carve(&c, rows * hp->rope.n_rot / 2, sizeof(float));
    work->sin = carve(&c, rows * hp->rope.n_rot / 2, sizeof(float));
    work->attn_scratch_floats = align_up(
            kern_attn_scratch_floats(hp->n_dim_k, hp->n_dim_v, hp->n_head / hp->n_head_kv), 16);
    work->attn_scratch = carve(&c, (uint64_t)pool_n_threads(m->pool) * work->attn_scratch_floats,
            sizeof(float));
    return c.used;
}

uint64_t model_work_bytes(const struct model *model, uint32_t n_rows) {
    struct model_work work = {0};
    return lay_out(model, &work, n_rows);
}

int model_work_new(const struct model *model, uint32_t n_rows, struct model_work **out_work,
        struct err *err) {
    if (n_rows == 0 || n_rows > MODEL_N_ROWS_MAX)
        return err_set(err, ERR_LIMIT, "a batch of %u rows; 1 to %u are possible", n_rows,
                MODEL_N_ROWS_MAX);

    struct model_work *work = calloc(1, sizeof *work);
    uint64_t n_bytes = model_work_bytes(model, n_rows);
    if (work && n_bytes <= SIZE_MAX / 2) work->base = aligned_new((size_t)n_bytes);
    if (!work || !work->base) {
        free(work);
        err_set(err, ERR_NO_MEMORY, "no memory for %" PRIu64 " bytes of working space for %u rows",
                n_bytes, n_rows);
        return err_hint(err, "use smaller batches");
    }
    work->n_rows_max = n_rows;
    (void)lay_out(model, work, n_rows);
    *out_work = work;
    return 0;
}

void model_work_free(struct model_work *work) {
    if (!work) return;
    free(work->base);
    free(work);
}

/* ---- before the first block ---- */

struct embed_loop {
    const struct model *model;
    struct model_work *work;
    const struct model_batch *batch;
    const struct model_block *mtp; /* NULL: the trunk */
    const float *hidden;           /* for mtp */
};

static void embed_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct embed_loop *loop = arg;
    const struct model *m = loop->model;
    struct model_work *w = loop->work;
    uint32_t n_pairs = m->rope.n_rot / 2;
    size_t d = m->hp.n_embd;
    const struct gguf_tensor *own = loop->mtp ? loop->mtp->mtp.embd : NULL;
    const struct gguf_tensor *table = own ? own : m->embd;
    uint64_t row_bytes = dtype_row_bytes(table->type, d);
    (void)thread;

    for (size_t r = begin; r < end; r++) {
        int32_t token = loop->batch->tokens[r];
        ASSERT(token >= 0 && (uint32_t)token < m->hp.n_vocab);
        kern_dequantise(table->type, table->bytes + (uint64_t)token * row_bytes, d, w->x + r * d);
        kern_rope_angles(m->rope.inv_freq, n_pairs, loop->batch->positions[r], m->rope.mag,
                w->cos + r * n_pairs, w->sin + r * n_pairs);
        if (!loop->mtp) continue;

        float *both = w->wide.f32 + r * 2 * d;
        m->kern->rms_norm(both, w->x + r * d, loop->mtp->mtp.enorm, d, m->hp.eps);
        m->kern->rms_norm(both + d, loop->hidden + r * d, loop->mtp->mtp.hnorm, d, m->hp.eps);
    }
}

/* Both sines and the tables cost about as much as 64 multiply-adds an element. */
static void embed(struct embed_loop *loop) {
    const struct model_hparams *hp = &loop->model->hp;
    ASSERT(loop->batch->n_rows <= loop->work->n_rows_max);
    model_run(loop->model, loop->batch->n_rows,
            (uint64_t)loop->batch->n_rows * (hp->n_embd + 32 * hp->rope.n_rot) * 4, embed_rows,
            loop);
}

void model_embed(const struct model *model, struct model_work *work,
        const struct model_batch *batch) {
    struct embed_loop loop = {model, work, batch, NULL, NULL};
    embed(&loop);
}

void model_embed_mtp(const struct model *model, struct model_work *work,
        const struct model_batch *batch, const float *hidden) {
    ASSERT(model->hp.n_mtp > 0);
    const struct model_block *block = &model->blocks[model->hp.n_layer];
    struct embed_loop loop = {model, work, batch, block, hidden};
    embed(&loop);

    const struct kern_mat *w = &block->mtp.eh_proj;
    model_act_make(model, &work->wide, batch->n_rows, w->n_in, work->wide.f32, NULL, 0,
            model_act_need(w));
    const struct model_product product = {.w = w, .y = work->x, .y_stride = w->n_out};
    model_multiply(model, &work->wide, batch->n_rows, &product, 1);
}

/* ---- after the last block ---- */

void model_hidden(const struct model *model, struct model_work *work,
        const struct model_batch *batch, bool mtp, float *hidden) {
    const float *norm = mtp ? model->blocks[model->hp.n_layer].mtp.head_norm : NULL;
    if (!norm) norm = model->output_norm;

    size_t d = model->hp.n_embd;
    for (size_t r = 0; r < batch->n_rows; r++)
        model->kern->rms_norm(hidden + r * d, work->x + r * d, norm, d, model->hp.eps);
}

void model_logits(const struct model *model, struct model_work *work, const float *hidden,
        uint32_t n, bool mtp, float *logits) {
    ASSERT(n <= work->n_rows_max);
    const struct kern_mat *head = mtp ? &model->blocks[model->hp.n_layer].mtp.head : &model->head;
    if (!head->bytes) head = &model->head;
    if (n == 0) return;

    model_act_make(model, &work->narrow, n, head->n_in, hidden, NULL, 0, model_act_need(head));
    const struct model_product product = {.w = head, .y = logits, .y_stride = head->n_out};
    model_multiply(model, &work->narrow, n, &product, 1);
}
