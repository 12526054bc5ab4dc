/* simd_matmul.c - quantised matrix products over interleaved weights (kernels/r16.h).
 *
 * Loops: a panel of activation rows that stays in L2; groups of 16 output rows; tiles of TILE_ROWS
 * activation rows against the group; blocks along n_in (simd_blocks.h). One row (decode) reads each
 * weight byte once and runs at the speed of memory, 25 GB/s measured on one core where a plain read
 * does 28; tiles of eight rows reach 150 to 220 multiply-adds per ns with VNNI, 55 to 95 with AVX2.
 * Owns: nothing. Does not: round anything but in the operations of rule 3.
 * Runs on: any thread of a CPU that has the set. */
#include "kernels/x86/simd_set.h"

#include "kernels/r16.h"
#include "kernels/x86/simd_blocks.h"

/* Activation bytes of a panel: half of a small L2, so that weights stream past it. */
#define PANEL_BYTES (256 * 1024)

#define PARTS (R16_ROWS / SIMD_LANES)

/* Where one tile's results go: row r at to[r], the first n_out of 16. */
struct tile_out {
    float *to[EACH_MAX];
    uint32_t n_out;
};

INLINE void run_tile(const struct tile *t, const struct tile_out *out, int n_rows,
        void (*block)(const struct tile *, uint32_t, int, int, fvec *)) {
    fvec acc[PARTS][EACH_MAX];
    UNROLL
    for (int part = 0; part < PARTS; part++)
        EACH(r, n_rows, acc[part][r] = fv_zero());

    for (uint32_t b = 0; b < t->n_blocks; b++)
        for (int part = 0; part < PARTS; part++) {
            /* Two parts unrolled would keep the broadcast quants of one for the other: too many
             * registers. Behind HIDE() the compiler cannot count the parts. */
            if (PARTS > 1) HIDE(part);
            block(t, b, part * SIMD_LANES, n_rows, acc[part]);
        }

    UNROLL
    for (int part = 0; part < PARTS; part++) {
        uint32_t first = (uint32_t)(part * SIMD_LANES);
        if (out->n_out <= first) break;
        uint32_t n = out->n_out - first < SIMD_LANES ? out->n_out - first : SIMD_LANES;
        EACH(r, n_rows, fv_store_first(out->to[r] + first, acc[part][r], n));
    }
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

void SET_NAME(matmul_r16)(const struct kern_mat *w, uint32_t out0, uint32_t out1,
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
