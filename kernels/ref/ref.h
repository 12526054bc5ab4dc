/* ref.h - the operations of the scalar table, one file each; contracts in kernels/kern.h. */
#pragma once

#include "kernels/kern.h"

extern const struct kern_ops kern_ops_scalar;

enum kern_layout ref_layout_of(enum dtype type);
void ref_quantise(enum act_kind kind, const float *x, size_t x_stride, uint32_t n_rows,
        uint32_t n_in, int8_t *q, float *d, int16_t *sum16);
void ref_matmul(const struct kern_mat *w, uint32_t out0, uint32_t out1, const struct kern_act *x,
        const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride);
float ref_sum_squares(const float *x, size_t n);
void ref_rms_norm(float *y, const float *x, const float *w, size_t n, float eps);
void ref_add(float *y, const float *x, size_t n);
void ref_glu(enum kern_glu kind, float *h, const float *gate, const float *up, size_t n);
void ref_softmax(float *x, size_t n);
void ref_sigmoid(float *x, size_t n);
void ref_rope(enum kern_rope kind, float *x, uint32_t n_heads, size_t head_stride, uint32_t n_rot,
        const float *cos, const float *sin);
void ref_kv_store(enum dtype kv_type, void *to, const float *x, uint32_t n);
void ref_attend(const struct kern_attn *attn);
bool ref_merge_add(int64_t *sum, const float *y, float weight, int grid, size_t n);
void ref_merge_apply(float *x, const int64_t *sum, int grid, size_t n);

/* One block of rule 2: q[n] and the scale. n is 32 or 256. */
void ref_quantise_block(const float *x, uint32_t n, int8_t *q, float *out_d);
