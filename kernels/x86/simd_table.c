/* simd_table.c - the table of one instruction set.
 * Owns: nothing. Does not: compute. Runs on: any thread of a CPU that has the set. */
#include "kernels/x86/simd_set.h"

#include "kernels/r16.h"

static enum kern_layout layout_of(enum dtype type) {
    return r16_shape_of(type) != NULL ? KERN_R16 : KERN_NATIVE;
}

static void matmul(const struct kern_mat *w, uint32_t out0, uint32_t out1, const struct kern_act *x,
        const uint32_t *rows, uint32_t n_rows, float *y, size_t y_stride) {
    ASSERT(w->layout == layout_of(w->type));
    ASSERT(w->n_in == x->n_in);
    ASSERT(out0 % KERN_OUT_STEP == 0);
    if (w->layout == KERN_R16)
        SET_NAME(matmul_r16)(w, out0, out1, x, rows, n_rows, y, y_stride);
    else
        FLOAT_NAME(matmul_float)(w, out0, out1, x, rows, n_rows, y, y_stride);
}

extern const struct kern_ops SET_NAME(kern_ops);
const struct kern_ops SET_NAME(kern_ops) = {
        .name = SIMD_NAME,
        .layout_of = layout_of,
        .quantise = FLOAT_NAME(quantise),
        .matmul = matmul,
        .sum_squares = FLOAT_NAME(sum_squares),
        .rms_norm = FLOAT_NAME(rms_norm),
        .add = FLOAT_NAME(add),
        .glu = FLOAT_NAME(glu),
        .softmax = FLOAT_NAME(softmax),
        .sigmoid = FLOAT_NAME(sigmoid),
        .rope = FLOAT_NAME(rope),
        .kv_store = FLOAT_NAME(kv_store),
        .attend = FLOAT_NAME(attend),
        .merge_add = FLOAT_NAME(merge_add),
        .merge_apply = FLOAT_NAME(merge_apply),
};
