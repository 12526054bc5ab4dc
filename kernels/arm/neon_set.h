/* neon_set.h - the functions for aarch64, one file each; contracts as in kernels/kern.h.
 * Only the products of quantised weights differ between the instruction sets: their names end in the
 * set's. Internal to kernels/arm. */
#pragma once

#include "kernels/kern.h"

/* KERN_R16 matrices only. plain: every aarch64; dot: with sdot (Armv8.2 FEAT_DotProd). */
void neon_matmul_r16_plain(const struct kern_mat *w, uint32_t out0, uint32_t out1,
        const struct kern_act *x, const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride);
void neon_matmul_r16_dot(const struct kern_mat *w, uint32_t out0, uint32_t out1,
        const struct kern_act *x, const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride);

/* F32, F16 and BF16 only. */
void neon_matmul_float(const struct kern_mat *w, uint32_t out0, uint32_t out1,
        const struct kern_act *x, const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride);

void neon_quantise(enum act_kind kind, const float *x, size_t x_stride, uint32_t n_rows,
        uint32_t n_in, int8_t *q, float *d, int16_t *sum16);
float neon_sum_squares(const float *x, size_t n);
void neon_rms_norm(float *y, const float *x, const float *w, size_t n, float eps);
void neon_add(float *y, const float *x, size_t n);
void neon_glu(enum kern_glu kind, float *h, const float *gate, const float *up, size_t n);
void neon_softmax(float *x, size_t n);
void neon_sigmoid(float *x, size_t n);
void neon_rope(enum kern_rope kind, float *x, uint32_t n_heads, size_t head_stride, uint32_t n_rot,
        const float *cos, const float *sin);
void neon_kv_store(enum dtype kv_type, void *to, const float *x, uint32_t n);
void neon_attend(const struct kern_attn *attn);
bool neon_merge_add(int64_t *sum, const float *y, float weight, int grid, size_t n);
void neon_merge_apply(float *x, const int64_t *sum, int grid, size_t n);

/* The tables: "neon-dot" and "neon". */
extern const struct kern_ops kern_ops_neon_dot, kern_ops_neon_plain;
