/* dtype.c - the table of GGUF tensor types. Owns: nothing. Does not: decode blocks (kernels do).
 * Runs on: any thread. Source: ggml's type ids 0..42 and their block layouts. */
#include "proto/format/dtype.h"

#include "proto/base/checked.h"
#include "proto/base/err.h"

#include <stddef.h>

/* Removed types keep their name for messages and have no size. */
static const struct dtype_desc table[DT_COUNT] = {
        [DT_F32] = {"F32", 1, 4, ACT_F32, true},
        [DT_F16] = {"F16", 1, 2, ACT_F32, true},
        [DT_Q4_0] = {"Q4_0", 32, 18, ACT_Q8_32, true},
        [DT_Q4_1] = {"Q4_1", 32, 20, ACT_Q8_32, true},
        [4] = {"Q4_2", 0, 0, ACT_F32, false},
        [5] = {"Q4_3", 0, 0, ACT_F32, false},
        [DT_Q5_0] = {"Q5_0", 32, 22, ACT_Q8_32, true},
        [DT_Q5_1] = {"Q5_1", 32, 24, ACT_Q8_32, true},
        [DT_Q8_0] = {"Q8_0", 32, 34, ACT_Q8_32, true},
        [DT_Q8_1] = {"Q8_1", 32, 36, ACT_F32, false},
        [DT_Q2_K] = {"Q2_K", 256, 84, ACT_Q8_256, true},
        [DT_Q3_K] = {"Q3_K", 256, 110, ACT_Q8_256, true},
        [DT_Q4_K] = {"Q4_K", 256, 144, ACT_Q8_256, true},
        [DT_Q5_K] = {"Q5_K", 256, 176, ACT_Q8_256, true},
        [DT_Q6_K] = {"Q6_K", 256, 210, ACT_Q8_256, true},
        [DT_Q8_K] = {"Q8_K", 256, 292, ACT_F32, false},
        [DT_IQ2_XXS] = {"IQ2_XXS", 256, 66, ACT_F32, false},
        [DT_IQ2_XS] = {"IQ2_XS", 256, 74, ACT_F32, false},
        [DT_IQ3_XXS] = {"IQ3_XXS", 256, 98, ACT_F32, false},
        [DT_IQ1_S] = {"IQ1_S", 256, 50, ACT_F32, false},
        [DT_IQ4_NL] = {"IQ4_NL", 32, 18, ACT_Q8_32, true},
        [DT_IQ3_S] = {"IQ3_S", 256, 110, ACT_F32, false},
        [DT_IQ2_S] = {"IQ2_S", 256, 82, ACT_F32, false},
        [DT_IQ4_XS] = {"IQ4_XS", 256, 136, ACT_Q8_256, true},
        [DT_I8] = {"I8", 1, 1, ACT_F32, false},
        [DT_I16] = {"I16", 1, 2, ACT_F32, false},
        [DT_I32] = {"I32", 1, 4, ACT_F32, false},
        [DT_I64] = {"I64", 1, 8, ACT_F32, false},
        [DT_F64] = {"F64", 1, 8, ACT_F32, false},
        [DT_IQ1_M] = {"IQ1_M", 256, 56, ACT_F32, false},
        [DT_BF16] = {"BF16", 1, 2, ACT_F32, true},
        [31] = {"Q4_0_4_4", 0, 0, ACT_F32, false},
        [32] = {"Q4_0_4_8", 0, 0, ACT_F32, false},
        [33] = {"Q4_0_8_8", 0, 0, ACT_F32, false},
        [DT_TQ1_0] = {"TQ1_0", 256, 54, ACT_F32, false},
        [DT_TQ2_0] = {"TQ2_0", 256, 66, ACT_F32, false},
        [36] = {"IQ4_NL_4_4", 0, 0, ACT_F32, false},
        [37] = {"IQ4_NL_4_8", 0, 0, ACT_F32, false},
        [38] = {"IQ4_NL_8_8", 0, 0, ACT_F32, false},
        [DT_MXFP4] = {"MXFP4", 32, 17, ACT_Q8_32, true},
        [DT_NVFP4] = {"NVFP4", 64, 36, ACT_F32, false},
        [DT_Q1_0] = {"Q1_0", 128, 18, ACT_F32, false},
        [DT_Q2_0] = {"Q2_0", 64, 18, ACT_F32, false},
};

const struct dtype_desc *dtype_find(uint32_t id) {
    return id < ARRAY_LEN(table) && table[id].block_bytes ? &table[id] : NULL;
}

const char *dtype_name(uint32_t id) {
    return id < ARRAY_LEN(table) ? table[id].name : "unknown";
}

uint64_t dtype_row_bytes(enum dtype type, uint64_t n) {
    const struct dtype_desc *desc = dtype_find(type);
    ASSERT(desc != NULL);
    ASSERT(n % desc->block_elems == 0);
    return n / desc->block_elems * desc->block_bytes;
}
