/* model_pack.c - gives the matrices kept here the layout that the kernels want. Owns: nothing;
 * the copies belong to the model. Does not: touch the routed experts. Runs on: the loading
 * thread, repacking on the pool. The mapped pages are released as soon as their copy stands, so
 * that loading needs little more memory than the copies. */
#include "coordinator/model/model_arch.h"

#include "proto/base/checked.h"

#include <inttypes.h>

/* Source bytes between two calls of progress, and of one piece of the pool's work. */
#define SLICE_BYTES (64u << 20)
#define PIECE_BYTES (1u << 20)

struct pack_loop {
    const struct kern_mat *from;
    enum kern_layout layout;
    void *to;
    uint32_t row0; /* of the slice */
    uint32_t row1;
    uint32_t n_piece; /* rows of a piece, a multiple of KERN_OUT_STEP */
};

static void pack_piece(void *arg, uint32_t task, uint32_t thread) {
    const struct pack_loop *loop = arg;
    (void)thread;
    uint32_t row0 = loop->row0 + task * loop->n_piece;
    uint32_t row1 = loop->row1 - row0 < loop->n_piece ? loop->row1 : row0 + loop->n_piece;
    kern_repack(loop->from->type, loop->layout, loop->from->n_in, loop->from->n_out, row0, row1,
            loop->from->bytes, loop->to);
}

/* Rows in about n_bytes of source, a positive multiple of KERN_OUT_STEP. */
static uint32_t rows_in(uint64_t n_bytes, uint64_t row_bytes) {
    uint64_t n = n_bytes / row_bytes / KERN_OUT_STEP * KERN_OUT_STEP;
    return n ? (uint32_t)min_u64(n, UINT32_MAX / 2 / KERN_OUT_STEP * KERN_OUT_STEP) : KERN_OUT_STEP;
}

struct progress {
    const struct model_options *options;
    uint64_t done;
    uint64_t total;
};

static void advance(struct progress *p, uint64_t n_bytes) {
    p->done += n_bytes;
    if (p->options->progress) p->options->progress(p->options->progress_arg, p->done, p->total);
}

static int pack_one(struct model_binder *b, const struct model_pack *pack, struct progress *p,
        struct err *err) {
    struct kern_mat *mat = pack->mat;
    uint64_t row_bytes = dtype_row_bytes(mat->type, mat->n_in);
    enum kern_layout layout = p->options->kern->layout_of(mat->type);
    if (layout == KERN_NATIVE) return 0;

    uint64_t n_bytes = kern_mat_bytes(mat->type, layout, mat->n_in, mat->n_out);
    void *to = n_bytes && n_bytes <= SIZE_MAX / 2 ? aligned_new((size_t)n_bytes) : NULL;
    if (!to) {
        err_set(err, ERR_NO_MEMORY, "no memory for a matrix of %" PRIu64 " bytes, after %" PRIu64
                " bytes of weights", n_bytes, b->model->held_bytes);
        return err_hint(err, "free memory on this machine, or use a smaller quantisation");
    }
    int rc = model_own(b->model, to, n_bytes, err);
    if (rc < 0) return rc;

    struct pack_loop loop = {.from = mat, .layout = layout, .to = to,
            .n_piece = rows_in(PIECE_BYTES, row_bytes)};
    uint32_t n_slice = rows_in(SLICE_BYTES, row_bytes);
    for (uint32_t row = 0; row < mat->n_out; row = loop.row1) {
        loop.row0 = row;
        loop.row1 = mat->n_out - row < n_slice ? mat->n_out : row + n_slice;
        uint32_t n_pieces = (loop.row1 - row + loop.n_piece - 1) / loop.n_piece;
        pool_run(p->options->pool, n_pieces, pack_piece, &loop);
        advance(p, (loop.row1 - row) * row_bytes);
    }

    if (pack->release) gguf_release(b->gguf, mat->bytes, mat->n_out * row_bytes);
    mat->bytes = to;
    mat->layout = layout;
    return 0;
}

int model_pack_run(struct model_binder *b, const struct model_options *options, struct err *err) {
    struct progress p = {.options = options};
    for (size_t i = 0; i < b->n_packs; i++) {
        const struct kern_mat *mat = b->packs[i].mat;
        if (options->kern->layout_of(mat->type) != KERN_NATIVE)
            p.total += mat->n_out * dtype_row_bytes(mat->type, mat->n_in);
    }

    for (size_t i = 0; i < b->n_packs; i++) {
        int rc = pack_one(b, &b->packs[i], &p, err);
        if (rc < 0) return rc;
    }
    return 0;
}
