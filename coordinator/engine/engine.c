/* engine.c - steps: embedding, blocks, experts, head.
 * Owns: the buffers of one batch in flight. Does not: sample, tokenise or know who computes experts.
 * Runs on: the engine's thread. */
#include "coordinator/engine/engine.h"

#include "coordinator/moe/rows.h"
#include "proto/base/aligned.h"
#include "proto/base/checked.h"
#include "proto/base/mono.h"

#include <stdlib.h>
#include <string.h>

/* Rows of logits computed at once: bounds that buffer for large vocabularies. */
#define LOGIT_ROWS 16

struct engine { /* owner: the engine's thread */
    struct engine_options options;
    const struct model_shape *shape;
    struct model_work *work;
    struct moe_rows rows;
    bool has_experts;
    int64_t *sums;     /* [n_batch][n_embd] */
    uint8_t *poisoned; /* [n_batch] */
    float *hidden;     /* [1 + n_batch][n_embd]; row 0: the position before the batch */
    float *mtp_hidden; /* [n_batch][n_embd] */
    float *logits;     /* [LOGIT_ROWS][n_vocab] */
    uint32_t *positions;
    struct kv **kv; /* [n_batch] */
    struct engine_times times;
};

struct session { /* owner: the engine's thread */
    struct engine *engine;
    struct kv *kv;
    uint32_t n_past;
    float *last_hidden; /* [n_embd] of position n_past - 1; zeros at the start */
};

int engine_new(const struct engine_options *options, struct engine **out_engine, struct err *err) {
    if (options->n_batch == 0 || options->n_batch > ENGINE_BATCH_MAX)
        return err_set(err, ERR_USAGE, "batches of %u rows; 1 to %d are possible", options->n_batch,
                ENGINE_BATCH_MAX);
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) return err_set(err, ERR_NO_MEMORY, "no memory for the engine");
    engine->options = *options;
    engine->shape = model_shape(options->model);

    size_t n_batch = options->n_batch, n_embd = engine->shape->n_embd;
    engine->sums = aligned_new(n_batch * n_embd * sizeof *engine->sums);
    engine->poisoned = aligned_new(n_batch);
    engine->hidden = aligned_new((1 + n_batch) * n_embd * sizeof *engine->hidden);
    engine->mtp_hidden = aligned_new(n_batch * n_embd * sizeof *engine->mtp_hidden);
    engine->logits =
            aligned_new((size_t)LOGIT_ROWS * engine->shape->n_vocab * sizeof *engine->logits);
    engine->positions = aligned_new(n_batch * sizeof *engine->positions);
    engine->kv = aligned_new(n_batch * sizeof *engine->kv);
    bool ok = engine->sums && engine->poisoned && engine->hidden && engine->mtp_hidden &&
              engine->logits && engine->positions && engine->kv;
    int rc = ok ? 0 : err_set(err, ERR_NO_MEMORY, "no memory for batches of %zu rows", n_batch);

    if (rc == 0) rc = model_work_new(options->model, options->n_batch, &engine->work, err);
    engine->has_experts = engine->shape->n_expert > 0;
    if (rc == 0 && engine->has_experts) {
        rc = moe_rows_init(&engine->rows, options->kern, options->pool, options->n_batch,
                engine->shape->n_embd, engine->shape->n_expert, engine->shape->n_expert_used, err);
        if (rc == 0 && options->grid_bits) engine->rows.grid_bits = options->grid_bits;
        if (rc == 0) rc = cluster_reserve(options->cluster, options->n_batch, err);
    }
    if (rc < 0) {
        engine_free(engine);
        return rc;
    }
    *out_engine = engine;
    return 0;
}

void engine_free(struct engine *engine) {
    if (!engine) return;
    if (engine->has_experts) moe_rows_fini(&engine->rows);
    model_work_free(engine->work);
    free(engine->sums);
    free(engine->poisoned);
    free(engine->hidden);
    free(engine->mtp_hidden);
    free(engine->logits);
    free(engine->positions);
    free(engine->kv);
    free(engine);
}

int session_new(struct engine *engine, uint32_t n_ctx, enum dtype kv_type,
        struct session **out_session, struct err *err) {
    struct session *session = calloc(1, sizeof *session);
    if (!session) return err_set(err, ERR_NO_MEMORY, "no memory for a session");
    session->engine = engine;
    session->last_hidden = calloc(engine->shape->n_embd, sizeof *session->last_hidden);

    struct kv_shape shape;
    model_kv_shape(engine->options.model, n_ctx, kv_type, &shape);
    int rc = session->last_hidden ? kv_new(&shape, &session->kv, err)
                                  : err_set(err, ERR_NO_MEMORY, "no memory for a session");
    if (rc < 0) {
        session_free(session);
        return rc;
    }
    *out_session = session;
    return 0;
}

void session_free(struct session *session) {
    if (!session) return;
    kv_free(session->kv);
    free(session->last_hidden);
    free(session);
}

uint32_t session_n_past(const struct session *session) {
    return session->n_past;
}

uint32_t session_n_ctx(const struct session *session) {
    return kv_shape(session->kv)->n_ctx;
}

void session_truncate(struct session *session, uint32_t n_past) {
    ASSERT(n_past <= session->n_past);
    session->n_past = n_past;
}

const struct model_shape *engine_shape(const struct engine *engine) {
    return engine->shape;
}

void engine_times(const struct engine *engine, struct engine_times *out) {
    *out = engine->times;
    if (!engine->options.cluster) return;

    /* the cluster's clocks run on; what stood there at the last reset is taken off */
    const struct cluster_times *now = cluster_times(engine->options.cluster);
    const struct cluster_times *then = &engine->times.cluster;
    out->cluster =
            (struct cluster_times){now->dispatch_ns - then->dispatch_ns, now->own_ns - then->own_ns,
                    now->wait_ns - then->wait_ns, now->merge_ns - then->merge_ns};
}

void engine_reset_times(struct engine *engine) {
    engine->times = (struct engine_times){0};
    if (engine->options.cluster) engine->times.cluster = *cluster_times(engine->options.cluster);
}

/* ------------------------------------------------------------------ blocks -- */

/* Adds the time since *mark to *sum and moves the mark. */
static void lap(uint64_t *mark, uint64_t *sum) {
    uint64_t now = mono_now();
    *sum += now - *mark;
    *mark = now;
}

static int run_block(struct engine *engine, const struct model_batch *batch, uint32_t layer,
        const struct engine_sink *sink, struct err *err) {
    const struct model *model = engine->options.model;
    struct engine_times *times = &engine->times;
    struct model_routed routed;
    uint64_t mark = mono_now();

    bool has_experts = model_block_attend(model, engine->work, batch, layer, &routed);
    lap(&mark, &times->attention_ns);
    if (!has_experts) return 0;

    moe_rows_prepare(&engine->rows, &routed, batch->n_rows);
    lap(&mark, &times->route_ns);
    if (sink->routes) {
        int rc = sink->routes(sink->arg, layer, batch->positions[0], batch->n_rows,
                engine->rows.n_used, engine->rows.expert, err);
        if (rc < 0) return rc;
    }

    mark = mono_now();
    int rc = cluster_dispatch(engine->options.cluster, &engine->rows, err);
    if (rc < 0) return rc;
    mark = mono_now();
    model_block_local(model, engine->work, batch, layer);
    lap(&mark, &times->dense_ns);
    rc = cluster_collect(engine->options.cluster, engine->sums, engine->poisoned, err);
    if (rc < 0) return rc;

    mark = mono_now();
    model_block_finish(
            model, engine->work, batch, layer, engine->sums, engine->rows.grid, engine->poisoned);
    lap(&mark, &times->finish_ns);
    return 0;
}

/* Hands the logits of rows [first, n) to a callback, some rows at a time. */
static int give_logits(struct engine *engine, const struct model_batch *batch, const float *hidden,
        uint32_t first, bool mtp, void *arg,
        int (*give)(void *arg, uint32_t position, const float *row, struct err *err),
        struct err *err) {
    size_t n_embd = engine->shape->n_embd, n_vocab = engine->shape->n_vocab;
    for (uint32_t r = first; r < batch->n_rows; r += LOGIT_ROWS) {
        uint32_t n = (uint32_t)min_u64(LOGIT_ROWS, batch->n_rows - r);
        uint64_t mark = mono_now();
        model_logits(
                engine->options.model, engine->work, hidden + r * n_embd, n, mtp, engine->logits);
        lap(&mark, &engine->times.head_ns);
        for (uint32_t i = 0; i < n; i++) {
            int rc = give(arg, batch->positions[r + i], engine->logits + i * n_vocab, err);
            if (rc < 0) return rc;
        }
    }
    return 0;
}

/* The NextN block over the rows of a step: row r from its token and the hidden state before it. */
static int run_mtp(struct engine *engine, const struct model_batch *batch,
        const struct engine_sink *sink, struct err *err) {
    const struct model *model = engine->options.model;
    model_embed_mtp(model, engine->work, batch, engine->hidden);
    int rc = run_block(engine, batch, engine->shape->n_layer, sink, err);
    if (rc < 0) return rc;
    model_hidden(model, engine->work, batch, true, engine->mtp_hidden);
    if (!sink->mtp_logits) return 0;
    return give_logits(
            engine, batch, engine->mtp_hidden, 0, true, sink->arg, sink->mtp_logits, err);
}

static int run_step(struct engine *engine, struct session *session, const struct model_batch *batch,
        bool is_last, const struct engine_sink *sink, struct err *err) {
    const struct model *model = engine->options.model;
    size_t n_embd = engine->shape->n_embd;
    float *hidden = engine->hidden + n_embd; /* of this batch */

    model_embed(model, engine->work, batch);
    for (uint32_t layer = 0; layer < engine->shape->n_layer; layer++) {
        int rc = run_block(engine, batch, layer, sink, err);
        if (rc < 0) return rc;
    }
    uint64_t mark = mono_now();
    model_hidden(model, engine->work, batch, false, hidden);
    lap(&mark, &engine->times.head_ns);

    int rc = 0;
    if (sink->logits && (sink->all_logits || is_last))
        rc = give_logits(engine, batch, hidden, sink->all_logits ? 0 : batch->n_rows - 1, false,
                sink->arg, sink->logits, err);
    for (uint32_t r = 0; rc == 0 && sink->hidden && r < batch->n_rows; r++)
        rc = sink->hidden(sink->arg, batch->positions[r], hidden + r * n_embd, err);

    if (rc == 0 && sink->mtp) {
        memcpy(engine->hidden, session->last_hidden, n_embd * sizeof(float));
        rc = run_mtp(engine, batch, sink, err);
    }
    memcpy(session->last_hidden, hidden + (batch->n_rows - 1) * n_embd, n_embd * sizeof(float));
    return rc;
}

/* ----------------------------------------------------------------- steps -- */

static int check_tokens(const struct engine *engine, const struct session *session,
        const int32_t *tokens, uint32_t n, struct err *err) {
    uint32_t n_ctx = session_n_ctx(session);
    if (n > n_ctx - session->n_past) {
        int rc = err_set(err, ERR_LIMIT,
                "%u tokens do not fit: the context holds %u, and %u are taken", n, n_ctx,
                session->n_past);
        err_hint(err,
                "give a shorter text, or a larger context: --ctx N (this model was trained on %u)",
                engine->shape->n_ctx_train);
        return rc;
    }
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= engine->shape->n_vocab)
            return err_set(err, ERR_BAD_INPUT,
                    "token id %d (number %u of the input) is outside the vocabulary of %u",
                    (int)tokens[i], i + 1, engine->shape->n_vocab);
    return 0;
}

int engine_eval(struct engine *engine, struct session *session, const int32_t *tokens, uint32_t n,
        const struct engine_sink *sink, struct err *err) {
    int rc = check_tokens(engine, session, tokens, n, err);
    if (rc < 0) return rc;
    if (sink->mtp && engine->shape->n_mtp == 0) {
        rc = err_set(err, ERR_UNSUPPORTED, "this model has no NextN (MTP) block");
        return rc;
    }

    for (uint32_t done = 0; done < n;) {
        if (sink->stop && sink->stop(sink->arg))
            return err_set(err, ERR_INTERRUPTED, "interrupted");
        uint64_t start = mono_now();
        uint32_t n_rows = (uint32_t)min_u64(engine->options.n_batch, n - done);
        for (uint32_t r = 0; r < n_rows; r++) {
            engine->positions[r] = session->n_past + r;
            engine->kv[r] = session->kv;
        }
        struct model_batch batch = {.n_rows = n_rows,
                .tokens = tokens + done,
                .positions = engine->positions,
                .kv = engine->kv};
        rc = run_step(engine, session, &batch, done + n_rows == n, sink, err);
        if (rc < 0) return rc;
        done += n_rows;
        session->n_past += n_rows;
        engine->times.steps++;
        engine->times.total_ns += mono_now() - start;
        if (sink->progress) sink->progress(sink->arg, done, n);
    }
    return 0;
}
