/* matmul_ref.c - weight matrices times activation rows (docs/numerics.md rules 1 and 3).
 * Owns: nothing. Does not: quantise activations. Runs on: any thread.
 *
 * For each output row and each tile of activation rows, a weight block is decoded once and meets
 * all rows of the tile. Integer sums are exact, so compilers may vectorise them in any shape. */
#include "kernels/ref/ref.h"

#include "kernels/ref/blocks.h"
#include "kernels/ref/fma_ref.h"
#include "kernels/ref/lanes.h"

#include "proto/base/err.h"

#define ROW_TILE 32
#define FLOAT_CHUNK 256

enum kern_layout ref_layout_of(enum dtype type) {
    (void)type;
    return KERN_NATIVE;
}

/* The activation rows of one tile. */
struct row_tile {
    uint32_t n;
    uint32_t row[ROW_TILE];
};

static void tile_init(
        struct row_tile *tile, const uint32_t *rows, uint32_t first, uint32_t n_rows) {
    tile->n = n_rows - first < ROW_TILE ? n_rows - first : ROW_TILE;
    for (uint32_t r = 0; r < tile->n; r++)
        tile->row[r] = rows != NULL ? rows[first + r] : first + r;
}

/* w[i] = sc[i / 16] * q[i], the factors of isum in rule 3. At most 128 * 32 in magnitude (Q6_K). */
static inline void scale_quants(const struct block *b, uint32_t n_elems, int16_t *restrict w) {
    for (uint32_t s = 0; s < n_elems / BLOCK_SUB_ELEMS; s++)
        for (uint32_t i = 16 * s; i < 16 * s + 16; i++)
            w[i] = (int16_t)(b->sc[s] * b->q[i]);
}

static inline int32_t dot(const int16_t *restrict w, const int8_t *restrict x, uint32_t n) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += w[i] * x[i];
    return sum;
}

/* msum of rule 3: sum x, or sum_s mn[s] sum_16 x. */
static inline int32_t min_sum(
        const struct block *b, enum block_min min, uint32_t n_elems, const int16_t *sum16) {
    if (min == BLOCK_MIN_ADD) return sum16[0] + sum16[1];
    int32_t sum = 0;
    for (uint32_t s = 0; s < n_elems / BLOCK_SUB_ELEMS; s++)
        sum += b->mn[s] * sum16[s];
    return sum;
}

/* acc + what one weight block and one activation block add, by rule 3. */
static inline float add_block(float acc, const struct block *b, const int16_t *w,
        enum block_min min, uint32_t n_elems, float dx, const int8_t *q, const int16_t *sum16) {
    acc = math_fma(b->d * dx, (float)dot(w, q, n_elems), acc);
    if (min == BLOCK_MIN_NONE) return acc;
    float mw = b->m * dx;
    return math_fma(min == BLOCK_MIN_ADD ? mw : -mw, (float)min_sum(b, min, n_elems, sum16), acc);
}

/* One output row of a quantised matrix times a tile of rows: acc[r] for r < tile->n. Inlined into
 * both callers below, where n_elems is a constant. */
static inline __attribute__((always_inline)) void dot_blocks(const struct block_format *format,
        uint32_t n_elems, const uint8_t *w, const struct kern_act *x, const struct row_tile *tile,
        float *acc) {
    uint32_t n_blocks = x->n_in / n_elems;
    for (uint32_t r = 0; r < tile->n; r++)
        acc[r] = 0.0f;
    for (uint32_t k = 0; k < n_blocks; k++, w += format->n_bytes) {
        struct block b;
        int16_t scaled[BLOCK_ELEMS_MAX];
        format->decode(w, &b);
        scale_quants(&b, n_elems, scaled);
        for (uint32_t r = 0; r < tile->n; r++) {
            size_t at = (size_t)tile->row[r] * n_blocks + k;
            acc[r] = add_block(acc[r], &b, scaled, format->min, n_elems, x->d[at],
                    x->q + at * n_elems, x->sum16 + at * (n_elems / BLOCK_SUB_ELEMS));
        }
    }
}

static void dot_quantised(const struct block_format *format, const uint8_t *w,
        const struct kern_act *x, const struct row_tile *tile, float *acc) {
    if (format->n_elems == 32)
        dot_blocks(format, 32, w, x, tile, acc);
    else
        dot_blocks(format, 256, w, x, tile, acc);
}

/* The same for a float matrix, widened piece by piece. */
static void dot_floats(enum dtype type, const uint8_t *w, const struct kern_act *x,
        const struct row_tile *tile, float *acc) {
    struct lanes lanes[ROW_TILE];
    float wide[FLOAT_CHUNK];
    for (uint32_t r = 0; r < tile->n; r++)
        lanes_zero(&lanes[r]);
    for (uint32_t i = 0; i < x->n_in; i += FLOAT_CHUNK) {
        uint32_t n = x->n_in - i < FLOAT_CHUNK ? x->n_in - i : FLOAT_CHUNK;
        kern_dequantise(type, w + dtype_row_bytes(type, i), n, wide);
        for (uint32_t r = 0; r < tile->n; r++)
            lanes_add_products(&lanes[r], wide, x->f32 + (size_t)tile->row[r] * x->n_in + i, n);
    }
    for (uint32_t r = 0; r < tile->n; r++)
        acc[r] = lanes_sum(lanes[r]);
}

void ref_matmul(const struct kern_mat *w, uint32_t out0, uint32_t out1, const struct kern_act *x,
        const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride) {
    ASSERT(w->layout == KERN_NATIVE);
    ASSERT(w->n_in == x->n_in);
    const struct block_format *format = block_format_of(w->type);
    const uint8_t *bytes = w->bytes;
    size_t row_bytes = (size_t)dtype_row_bytes(w->type, w->n_in);

    for (uint32_t first = 0; first < n_rows; first += ROW_TILE) {
        struct row_tile tile;
        tile_init(&tile, rows, first, n_rows);
        for (uint32_t o = out0; o < out1; o++) {
            float acc[ROW_TILE];
            if (format != NULL)
                dot_quantised(format, bytes + o * row_bytes, x, &tile, acc);
            else
                dot_floats(w->type, bytes + o * row_bytes, x, &tile, acc);
            for (uint32_t r = 0; r < tile.n; r++)
                y[(first + r) * y_stride + o] = acc[r];
        }
    }
}
