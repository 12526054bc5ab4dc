/* rows.c - rows made ready for the experts.
 * Owns: the quantised rows and the routes of one layer. Does not: send or compute experts.
 * Runs on: the engine's thread and its pool. */
#include "coordinator/moe/rows.h"

#include "coordinator/moe/route.h"
#include "proto/base/aligned.h"

#include <stdlib.h>
#include <string.h>

/* Rows that one piece of the parallel loop takes: small enough to share, large enough to pay. */
#define ROWS_PER_PIECE 4

int moe_rows_init(struct moe_rows *rows, const struct kern_ops *kern, struct pool *pool,
        uint32_t n_rows, uint32_t n_embd, uint32_t n_expert, uint32_t n_used, struct err *err) {
    *rows = (struct moe_rows){.kern = kern,
            .pool = pool,
            .n_rows_max = n_rows,
            .n_embd = n_embd,
            .grid_bits = KERN_GRID_BITS};
    size_t n = n_rows;
    rows->grid = aligned_new(n);
    rows->expert = aligned_new(n * n_used * sizeof *rows->expert);
    rows->weight = aligned_new(n * n_used * sizeof *rows->weight);
    rows->logits = aligned_new(n * n_expert * sizeof *rows->logits);
    rows->scratch = aligned_new(n_expert * sizeof *rows->scratch);
    bool ok = rows->grid && rows->expert && rows->weight && rows->logits && rows->scratch;

    for (enum act_kind kind = ACT_Q8_32; ok && kind < ACT_KIND_COUNT; kind++) {
        if (n_embd % act_block(kind)) continue; /* then no tensor of this width pairs with it */
        rows->q[kind] = aligned_new(n * n_embd);
        rows->d[kind] = aligned_new(n * (n_embd / act_block(kind)) * sizeof(float));
        rows->sum16[kind] = aligned_new(n * (n_embd / 16) * sizeof(int16_t));
        ok = rows->q[kind] && rows->d[kind] && rows->sum16[kind];
    }
    if (!ok) {
        moe_rows_fini(rows);
        return err_set(
                err, ERR_NO_MEMORY, "no memory for batches of %u rows of %u", n_rows, n_embd);
    }
    return 0;
}

void moe_rows_fini(struct moe_rows *rows) {
    free(rows->grid);
    free(rows->expert);
    free(rows->weight);
    free(rows->logits);
    free(rows->scratch);
    for (int kind = 0; kind < ACT_KIND_COUNT; kind++) {
        free(rows->q[kind]);
        free(rows->d[kind]);
        free(rows->sum16[kind]);
    }
    *rows = (struct moe_rows){0};
}

struct prepare_loop {
    struct moe_rows *rows;
    const struct model_routed *routed;
};

static void prepare_piece(void *arg, uint32_t piece, uint32_t thread) {
    (void)thread;
    struct prepare_loop *loop = arg;
    struct moe_rows *rows = loop->rows;
    size_t n_embd = rows->n_embd;
    uint32_t first = piece * ROWS_PER_PIECE;
    uint32_t n = rows->n_rows - first < ROWS_PER_PIECE ? rows->n_rows - first : ROWS_PER_PIECE;

    for (uint32_t r = first; r < first + n; r++) {
        float ss = rows->kern->sum_squares(loop->routed->residual + r * n_embd, n_embd);
        rows->grid[r] = (int8_t)kern_grid(ss, n_embd, rows->grid_bits);
    }
    for (enum act_kind kind = ACT_Q8_32; kind < ACT_KIND_COUNT; kind++) {
        if (!(rows->act_mask >> kind & 1)) continue;
        rows->kern->quantise(kind, loop->routed->x + first * n_embd, n_embd, n, rows->n_embd,
                rows->q[kind] + first * n_embd, rows->d[kind] + first * (n_embd / act_block(kind)),
                rows->sum16[kind] + first * (n_embd / 16));
    }
}

void moe_rows_prepare(struct moe_rows *rows, const struct model_routed *routed, uint32_t n_rows) {
    const struct model_experts *experts = routed->experts;
    ASSERT(n_rows <= rows->n_rows_max && experts->n_embd == rows->n_embd);

    rows->layer = experts->layer;
    rows->n_rows = n_rows;
    rows->n_used = experts->router.n_expert_used;
    rows->act_mask =
            1u << dtype_find(experts->gate.type)->act | 1u << dtype_find(experts->up.type)->act;
    for (int kind = 0; kind < ACT_KIND_COUNT; kind++)
        rows->acts[kind] = (struct kern_act){.kind = (enum act_kind)kind,
                .n_in = rows->n_embd,
                .n_rows = n_rows,
                .f32 = kind == ACT_F32 ? routed->x : NULL,
                .q = rows->q[kind],
                .d = rows->d[kind],
                .sum16 = rows->sum16[kind]};

    struct prepare_loop loop = {rows, routed};
    pool_run(rows->pool, (n_rows + ROWS_PER_PIECE - 1) / ROWS_PER_PIECE, prepare_piece, &loop);

    memcpy(rows->logits, routed->logits, (size_t)n_rows * experts->n_expert * sizeof(float));
    moe_route(&experts->router, rows->kern, rows->logits, n_rows, rows->expert, rows->weight,
            rows->scratch);
}
