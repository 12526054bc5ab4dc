/* dtype.h - GGUF tensor types: sizes, names, and the activation form each one pairs with.
 *
 * Numbers are those of the GGUF file format (ggml type ids 0..42). Read-only tables, any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum dtype {
    DT_F32 = 0,
    DT_F16 = 1,
    DT_Q4_0 = 2,
    DT_Q4_1 = 3,
    DT_Q5_0 = 6,
    DT_Q5_1 = 7,
    DT_Q8_0 = 8,
    DT_Q8_1 = 9,
    DT_Q2_K = 10,
    DT_Q3_K = 11,
    DT_Q4_K = 12,
    DT_Q5_K = 13,
    DT_Q6_K = 14,
    DT_Q8_K = 15,
    DT_IQ2_XXS = 16,
    DT_IQ2_XS = 17,
    DT_IQ3_XXS = 18,
    DT_IQ1_S = 19,
    DT_IQ4_NL = 20,
    DT_IQ3_S = 21,
    DT_IQ2_S = 22,
    DT_IQ4_XS = 23,
    DT_I8 = 24,
    DT_I16 = 25,
    DT_I32 = 26,
    DT_I64 = 27,
    DT_F64 = 28,
    DT_IQ1_M = 29,
    DT_BF16 = 30,
    DT_TQ1_0 = 34,
    DT_TQ2_0 = 35,
    DT_MXFP4 = 39,
    DT_NVFP4 = 40,
    DT_Q1_0 = 41,
    DT_Q2_0 = 42,
    DT_COUNT = 43,
};

/* The form an activation row takes before it meets a weight row (docs/numerics.md, rule 1). */
enum act_kind {
    ACT_F32 = 0,    /* f32 as it is: F32, F16 and BF16 weights */
    ACT_Q8_32 = 1,  /* i8 with one bf16 scale per 32 elements */
    ACT_Q8_256 = 2, /* i8 with one bf16 scale per 256 elements */
    ACT_KIND_COUNT,
};

/* Elements that share a scale in an activation row; 1 for ACT_F32. */
static inline uint32_t act_block(enum act_kind kind) {
    return kind == ACT_Q8_32 ? 32 : kind == ACT_Q8_256 ? 256 : 1;
}

struct dtype_desc {
    const char *name;       /* as in GGUF tools: "F32", "Q4_K", ... */
    uint32_t block_elems;   /* elements in a block, 1 for plain types */
    uint32_t block_bytes;   /* 0: removed from the format */
    enum act_kind act;      /* what the activation is turned into; only where computable */
    bool computable;        /* our kernels multiply with it */
};

/* The description, or NULL for an id outside the format or removed from it. */
const struct dtype_desc *dtype_find(uint32_t id);

/* The name of any id; "unknown" outside the format. */
const char *dtype_name(uint32_t id);

/* Bytes of a row of n elements. n is a multiple of block_elems and dtype_find(type) is not NULL. */
uint64_t dtype_row_bytes(enum dtype type, uint64_t n);
