/* kern.h - the arithmetic of Potluck: one table of operations per instruction set.
 *
 * The scalar table (kernels/ref) is the definition; every other table gives the same bits
 * (docs/numerics.md). Operations are pure: no allocation, threads, logging or globals. Callers
 * split work by output range or by row and may run pieces on any thread.
 *
 * Matrices are row-major: a weight matrix W[n_out][n_in] holds n_out rows of n_in elements, the
 * GGUF tensor ne = [n_in, n_out]. */
#pragma once

#include "proto/base/err.h"
#include "proto/format/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Files, caches and rows on the wire hold little-endian numbers, and kernels load them as they are. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Potluck runs on little-endian processors only"
#endif

/* How the bytes of a weight matrix are arranged. */
enum kern_layout {
    KERN_NATIVE = 0, /* GGUF blocks, row after row */
    KERN_R16 = 1,    /* groups of 16 rows interleaved, so that one SIMD lane is one row */
};

/* Output ranges given to matmul start and end at multiples of this (or end at n_out). */
#define KERN_OUT_STEP 16

/* A weight matrix. Borrows bytes. */
struct kern_mat {
    enum dtype type;
    enum kern_layout layout;
    uint32_t n_in;
    uint32_t n_out;
    const void *bytes;
};

/* Activation rows in the form that a weight type pairs with. Borrows all. Rows are contiguous.
 * ACT_F32: f32[n_rows][n_in]. Others: q[n_rows][n_in], d[n_rows][n_in / B] (values are bfloat16
 * numbers), sum16[n_rows][n_in / 16] = sums of 16 consecutive q; B = 32 or 256. */
struct kern_act {
    enum act_kind kind;
    uint32_t n_in;
    uint32_t n_rows;
    const float *f32;
    const int8_t *q;
    const float *d;
    const int16_t *sum16;
};

enum kern_glu {
    KERN_GLU_SILU = 0, /* silu(gate) * up */
};

enum kern_rope {
    KERN_ROPE_NORM = 0, /* pairs (2i, 2i+1) */
    KERN_ROPE_NEOX = 1, /* pairs (i, i + n_rot/2) */
};

/* Attention tile length in positions (docs/numerics.md, rule 5). */
#define KERN_ATTN_TILE 64

/* One query row against one key/value head; n_q query heads share the head (grouped queries). */
struct kern_attn {
    enum dtype kv_type;  /* DT_F32, DT_F16 or DT_Q8_0 (cache blocks, see kern_kv_row_bytes) */
    uint32_t n_dim_k;    /* width of q and k */
    uint32_t n_dim_v;    /* width of v and of the result */
    uint32_t n_q;        /* query heads */
    uint32_t first;      /* first visible position */
    uint32_t end;        /* one past the last visible position; first < end */
    float scale;
    const void *k;       /* position 0 of this head; rows kern_kv_row_bytes(kv_type, n_dim_k) apart */
    const void *v;       /* likewise with n_dim_v */
    const float *q;      /* [n_q][n_dim_k], q_stride floats apart */
    size_t q_stride;
    const float *sinks;  /* [n_q], or NULL: none */
    float *out;          /* [n_q][n_dim_v], out_stride floats apart */
    size_t out_stride;
    float *scratch;      /* kern_attn_scratch_floats(n_dim_k, n_dim_v, n_q) floats, 64-byte aligned */
};

struct kern_ops {
    const char *name; /* "scalar", "avx2", "avx2-vnni", "avx512", "avx512-vnni", "neon", "neon-dot" */

    /* The layout that matmul wants for a type; repack() makes it from GGUF blocks. */
    enum kern_layout (*layout_of)(enum dtype type);

    /* Quantises n_rows rows x[n_rows][n_in], x_stride floats apart. kind is ACT_Q8_32 (n_in a multiple
     * of 32) or ACT_Q8_256 (of 256). Writes q, d and sum16 as in struct kern_act. */
    void (*quantise)(enum act_kind kind, const float *x, size_t x_stride, uint32_t n_rows,
            uint32_t n_in, int8_t *q, float *d, int16_t *sum16);

    /* y[r * y_stride + o] = W[o] . x[rows[r]] for r < n_rows and out0 <= o < out1. rows == NULL means
     * 0..n_rows-1. out0 is a multiple of KERN_OUT_STEP, out1 too or n_out. x->kind is the act of
     * w->type; w->layout is layout_of(w->type). y may not alias anything. */
    void (*matmul)(const struct kern_mat *w, uint32_t out0, uint32_t out1, const struct kern_act *x,
            const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride);

    /* Float helpers over n elements. y may be x. */
    float (*sum_squares)(const float *x, size_t n);                           /* rule 1 */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps); /* w NULL: ones */
    void (*add)(float *y, const float *x, size_t n);                          /* y += x */
    void (*glu)(enum kern_glu kind, float *h, const float *gate, const float *up, size_t n);
    void (*softmax)(float *x, size_t n);
    void (*sigmoid)(float *x, size_t n);

    /* Rotates the first n_rot elements of each of n_heads heads (head_stride floats apart) by the
     * angles of one position: cos[n_rot/2], sin[n_rot/2]. */
    void (*rope)(enum kern_rope kind, float *x, uint32_t n_heads, size_t head_stride, uint32_t n_rot,
            const float *cos, const float *sin);

    /* Writes n floats as one key or value row of a cache of the given type. */
    void (*kv_store)(enum dtype kv_type, void *to, const float *x, uint32_t n);
    void (*attend)(const struct kern_attn *attn);

    /* sum[i] += rne((y[i] * weight) * 2^-grid). False when an element is not finite or reaches 2^52
     * steps (the row is poisoned; sum is then unspecified). */
    bool (*merge_add)(int64_t *sum, const float *y, float weight, int grid, size_t n);

    /* x[i] += (float)sum[i] * 2^grid. */
    void (*merge_apply)(float *x, const int64_t *sum, int grid, size_t n);
};

/* Instruction sets by the names of --isa: "auto", "scalar", "avx2" and "avx512" (with VNNI where the
 * CPU has it), "avx2-plain" and "avx512-plain" (without), "neon" (with sdot where the CPU has it) and
 * "neon-plain" (without). ERR_UNSUPPORTED when the CPU or the
 * build lacks it, ERR_USAGE for an unknown name; both say what there is. */
int kern_select(const char *isa, const struct kern_ops **out_ops, struct err *err);

/* Every table this machine can run, best first, the scalar one last. NULL past the end. */
const struct kern_ops *kern_at(unsigned index);

/* Bytes of a matrix in a layout (KERN_R16 rounds n_out up to 16 rows). 0 when it would overflow. */
uint64_t kern_mat_bytes(enum dtype type, enum kern_layout layout, uint64_t n_in, uint64_t n_out);

/* Repacks output rows [row0, row1) of a matrix into `to`, which holds kern_mat_bytes(); gguf_rows is
 * row 0 of the matrix. row0 is a multiple of 16, row1 too or n_out (the last group is then filled up
 * with zero rows). KERN_NATIVE copies. Any thread; ranges may run in parallel. */
void kern_repack(enum dtype type, enum kern_layout layout, uint32_t n_in, uint32_t n_out,
        uint32_t row0, uint32_t row1, const void *gguf_rows, void *to);

/* One row of n elements of GGUF blocks as floats: bit for bit what the format describes. */
void kern_dequantise(enum dtype type, const void *blocks, uint64_t n, float *out);

/* Bytes of one key or value row of n elements: F32 4n, F16 2n, Q8_0 (n % 32 == 0): n quants followed
 * by n/32 f32 scales. */
size_t kern_kv_row_bytes(enum dtype kv_type, uint32_t n);
size_t kern_attn_scratch_floats(uint32_t n_dim_k, uint32_t n_dim_v, uint32_t n_q);

/* floor(log2(sqrt(ss / n))) - bits, kept within [-118, 100]: the grid exponent of a residual row with
 * sum of squares ss (docs/numerics.md, rule 6). NaN and infinity give 100. */
int kern_grid(float sum_squares, size_t n, int bits);
#define KERN_GRID_BITS 18

/* Angles of rotary positions: inv_freq[i] in binary64; writes cos and sin rounded to f32, times mag. */
void kern_rope_angles(const double *inv_freq, uint32_t n_pairs, uint64_t position, float mag,
        float *cos, float *sin);

/* base^(-2 i / n_rot) and natural logarithm in binary64, the same on every machine (not libm). */
double kern_rope_inv_freq(double base, uint32_t i, uint32_t n_rot);
double kern_log(double x);
float kern_exp(float x);
