/* simd_set.h - the functions of one instruction set, named by it: SIMD_SET (avx2, avx2_vnni,
 * avx512, avx512_vnni) comes from the build. Contracts as in kernels/kern.h. Internal to
 * kernels/x86. */
#pragma once

#include "kernels/kern.h"
#include "kernels/x86/simd_vec.h"

/* The sets that differ only in integer products share the float operations of one of them. */
#define FLOAT_NAME(name) PASTE(name, SIMD_FLOAT_SET)

/* KERN_R16 matrices only. */
void SET_NAME(matmul_r16)(const struct kern_mat *w, uint32_t out0, uint32_t out1,
        const struct kern_act *x, const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride);

/* F32, F16 and BF16 only. */
void FLOAT_NAME(matmul_float)(const struct kern_mat *w, uint32_t out0, uint32_t out1,
        const struct kern_act *x, const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride);

void FLOAT_NAME(quantise)(enum act_kind kind, const float *x, size_t x_stride, uint32_t n_rows,
        uint32_t n_in, int8_t *q, float *d, int16_t *sum16);
float FLOAT_NAME(sum_squares)(const float *x, size_t n);
void FLOAT_NAME(rms_norm)(float *y, const float *x, const float *w, size_t n, float eps);
void FLOAT_NAME(add)(float *y, const float *x, size_t n);
void FLOAT_NAME(glu)(enum kern_glu kind, float *h, const float *gate, const float *up, size_t n);
void FLOAT_NAME(softmax)(float *x, size_t n);
void FLOAT_NAME(sigmoid)(float *x, size_t n);
void FLOAT_NAME(rope)(enum kern_rope kind, float *x, uint32_t n_heads, size_t head_stride,
        uint32_t n_rot, const float *cos, const float *sin);
void FLOAT_NAME(kv_store)(enum dtype kv_type, void *to, const float *x, uint32_t n);
void FLOAT_NAME(attend)(const struct kern_attn *attn);
bool FLOAT_NAME(merge_add)(int64_t *sum, const float *y, float weight, int grid, size_t n);
void FLOAT_NAME(merge_apply)(float *x, const int64_t *sum, int grid, size_t n);
