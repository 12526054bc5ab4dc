/* neon_matmul.c - quantised matrix products over interleaved weights (kernels/r16.h), compiled once
 * for every set of integer products (NEON_SET).
 *
 * Loops: a panel of activation rows that stays in L2; groups of 16 output rows; tiles of TILE_SUMS
 * activation rows against the group; blocks along n_in; pieces of the group (neon_blocks.h). One or two
 * activation rows take a block's 16 weight rows at once, so that decode reads the weights in order and
 * once; with more rows a piece is 8 or 4 weight rows, so that all sums stay in registers.
 * Owns: nothing. Does not: round anything but in the operations of rule 3.
 * Runs on: any thread of a CPU that has the set. */
#include "kernels/arm/neon_set.h"

#include "kernels/arm/neon_blocks.h"
#include "kernels/r16.h"

/* Activation bytes of a panel: half of a small L2, so that weights stream past it. */
#define PANEL_BYTES (256 * 1024)

#define TILE_ROWS TILE_SUMS

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

/* Where one tile's results go: row r at to[r], the first n_out of 16. */
struct tile_out {
    float *to[EACH_MAX];
    uint32_t n_out;
};

static void store_results(const struct tile_out *out, int n_rows, float32x4_t (*acc)[EACH_MAX]) {
    for (int r = 0; r < n_rows; r++) {
        float all[R16_ROWS];
        for (int p = 0; p < PARTS; p++)
            vst1q_f32(all + 4 * p, acc[p][r]);
        memcpy(out->to[r], all, out->n_out * sizeof all[0]);
    }
}

INLINE void run_tile(const struct tile *t, const struct tile_out *out, int n_rows,
        void (*block)(const struct tile *, const struct piece *, int, int)) {
    const int n_parts = 4 * n_rows <= TILE_SUMS ? 4 : 2 * n_rows <= TILE_SUMS ? 2 : 1;
    float32x4_t acc[PARTS][EACH_MAX];
    EACH(r, n_rows, EACH_PART(p, PARTS, acc[p][r] = vdupq_n_f32(0.0f)));

    for (uint32_t b = 0; b < t->n_blocks; b++)
        for (int part = 0; part < PARTS; part += n_parts) {
            /* Unrolled, pieces would keep what they share in registers that are not there. Behind
             * HIDE() the compiler cannot count them. */
            if (n_parts < PARTS) HIDE(part);
            struct piece at = {b, part, acc + part};
            block(t, &at, n_parts, n_rows);
        }

    if (out->n_out == R16_ROWS)
        EACH(r, n_rows, EACH_PART(p, PARTS, vst1q_f32(out->to[r] + 4 * p, acc[p][r])));
    else
        store_results(out, n_rows, acc);
}

#define TILE_KERNEL(type, n)                                                                       \
    static void type##_##n(const struct tile *t, const struct tile_out *out) {                     \
        run_tile(t, out, n, type##_block);                                                         \
    }
#if TILE_ROWS == 8
#define TILE_KERNELS_5_TO_8(type)                                                                  \
    TILE_KERNEL(type, 5)                                                                           \
    TILE_KERNEL(type, 6)                                                                           \
    TILE_KERNEL(type, 7)                                                                           \
    TILE_KERNEL(type, 8)
#define TILE_ENTRIES_5_TO_8(type) , type##_5, type##_6, type##_7, type##_8
#else
#define TILE_KERNELS_5_TO_8(type)
#define TILE_ENTRIES_5_TO_8(type)
#endif
#define TILE_KERNELS(type)                                                                         \
    TILE_KERNEL(type, 1)                                                                           \
    TILE_KERNEL(type, 2)                                                                           \
    TILE_KERNEL(type, 3)                                                                           \
    TILE_KERNEL(type, 4)                                                                           \
    TILE_KERNELS_5_TO_8(type)

TILE_KERNELS(q4_0)
TILE_KERNELS(q4_1)
TILE_KERNELS(q5_0)
TILE_KERNELS(q5_1)
TILE_KERNELS(q8_0)
TILE_KERNELS(iq4_nl)
TILE_KERNELS(mxfp4)
TILE_KERNELS(q2_k)
TILE_KERNELS(q3_k)
TILE_KERNELS(q4_k)
TILE_KERNELS(q5_k)
TILE_KERNELS(q6_k)
TILE_KERNELS(iq4_xs)

/* By type and number of rows less one. */
static void (*const tile_kernels[DT_COUNT][TILE_ROWS])(
        const struct tile *, const struct tile_out *) = {
#define TILE_ENTRY(dtype, type)                                                                    \
    [dtype] = {type##_1, type##_2, type##_3, type##_4 TILE_ENTRIES_5_TO_8(type)}
        TILE_ENTRY(DT_Q4_0, q4_0),
        TILE_ENTRY(DT_Q4_1, q4_1),
        TILE_ENTRY(DT_Q5_0, q5_0),
        TILE_ENTRY(DT_Q5_1, q5_1),
        TILE_ENTRY(DT_Q8_0, q8_0),
        TILE_ENTRY(DT_IQ4_NL, iq4_nl),
        TILE_ENTRY(DT_MXFP4, mxfp4),
        TILE_ENTRY(DT_Q2_K, q2_k),
        TILE_ENTRY(DT_Q3_K, q3_k),
        TILE_ENTRY(DT_Q4_K, q4_k),
        TILE_ENTRY(DT_Q5_K, q5_k),
        TILE_ENTRY(DT_Q6_K, q6_k),
        TILE_ENTRY(DT_IQ4_XS, iq4_xs),
#undef TILE_ENTRY
};

static void set_tile_row(
        struct tile *t, uint32_t slot, const struct kern_act *x, size_t row, uint32_t block_elems) {
    t->q[slot] = x->q + row * x->n_in;
    t->d[slot] = x->d + row * (x->n_in / block_elems);
    t->sum16[slot] = x->sum16 + row * (x->n_in / 16);
}

void PASTE(neon_matmul_r16_, NEON_SET)(const struct kern_mat *w, uint32_t out0, uint32_t out1,
        const struct kern_act *x, const uint32_t *rows, uint32_t n_rows, float *y,
        size_t y_stride) {
    const struct r16_shape *shape = r16_shape_of(w->type);
    size_t group_bytes = r16_group_bytes(shape, w->n_in);
    size_t quants_at = r16_quants_at(shape, w->n_in);
    uint32_t panel = PANEL_BYTES / (w->n_in + 1) / TILE_ROWS * TILE_ROWS;
    if (panel < TILE_ROWS) panel = TILE_ROWS;

    for (uint32_t panel0 = 0; panel0 < n_rows; panel0 += panel) {
        uint32_t panel1 = n_rows - panel0 < panel ? n_rows : panel0 + panel;
        for (uint32_t out = out0; out < out1; out += R16_ROWS) {
            const uint8_t *group = (const uint8_t *)w->bytes + out / R16_ROWS * group_bytes;
            struct tile t = {.head = group, .quants = group + quants_at};
            struct tile_out results = {.n_out = out1 - out < R16_ROWS ? out1 - out : R16_ROWS};
            t.n_blocks = w->n_in / shape->block_elems;
            for (uint32_t r0 = panel0; r0 < panel1; r0 += TILE_ROWS) {
                uint32_t n = panel1 - r0 < TILE_ROWS ? panel1 - r0 : TILE_ROWS;
                for (uint32_t i = 0; i < n; i++) {
                    uint32_t row = rows == NULL ? r0 + i : rows[r0 + i];
                    set_tile_row(&t, i, x, row, shape->block_elems);
                    results.to[i] = y + (r0 + i) * y_stride + out;
                }
                tile_kernels[w->type][n - 1](&t, &results);
            }
        }
    }
}
