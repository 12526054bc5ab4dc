/* expert_example.c - random experts. Owns: nothing. Does not: read files.
 * Runs on: any thread. */
#include "tests/support/expert_example.h"

#include "proto/base/err.h"

#include <stdlib.h>
#include <string.h>

/* Where a block's binary16 scales lie; -1: there is none (more). */
static const struct {
    enum dtype type;
    int at[2];
} scales[] = {
        {DT_Q4_0, {0, -1}},
        {DT_Q4_1, {0, 2}},
        {DT_Q5_0, {0, -1}},
        {DT_Q5_1, {0, 2}},
        {DT_Q8_0, {0, -1}},
        {DT_IQ4_NL, {0, -1}},
        {DT_IQ4_XS, {0, -1}},
        {DT_Q2_K, {80, 82}},
        {DT_Q3_K, {108, -1}},
        {DT_Q4_K, {0, 2}},
        {DT_Q5_K, {0, 2}},
        {DT_Q6_K, {208, -1}},
};

/* A binary16 between 2^-14 and 2^-10 of either sign: with any quants no sum grows large. */
static void put_half(struct rng *rng, uint8_t *to) {
    uint16_t half = (uint16_t)((1 + rng_below(rng, 4)) << 10 | rng_below(rng, 1024) |
                               rng_below(rng, 2) << 15);
    memcpy(to, &half, sizeof half);
}

static void plain(struct rng *rng, enum dtype type, uint64_t n, uint8_t *out) {
    for (uint64_t i = 0; i < n; i++) {
        float value = (float)(rng_unit(rng) - 0.5) / 8;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        uint16_t high = (uint16_t)(bits >> 16);
        if (type == DT_F32)
            memcpy(out + 4 * i, &bits, 4);
        else if (type == DT_BF16)
            memcpy(out + 2 * i, &high, 2);
        else
            put_half(rng, out + 2 * i);
    }
}

void example_blocks(struct rng *rng, enum dtype type, uint64_t n, void *out) {
    const struct dtype_desc *desc = dtype_find(type);
    ASSERT(desc != NULL && desc->computable);
    if (desc->block_elems == 1) {
        plain(rng, type, n, out);
        return;
    }
    uint64_t n_bytes = dtype_row_bytes(type, n);
    uint8_t *bytes = out;
    for (uint64_t i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)(rng_next(rng) >> 32);
    for (uint64_t b = 0; b < n_bytes; b += desc->block_bytes) {
        if (type == DT_MXFP4) bytes[b] = (uint8_t)(116 + rng_below(rng, 6));
        for (size_t s = 0; s < sizeof scales / sizeof scales[0]; s++)
            for (int k = 0; scales[s].type == type && k < 2; k++)
                if (scales[s].at[k] >= 0) put_half(rng, bytes + b + scales[s].at[k]);
    }
}

void *example_matrix(uint64_t seed, uint32_t layer, uint32_t expert, uint32_t part, enum dtype type,
        uint32_t n_in, uint32_t n_out) {
    struct rng rng;
    rng_init(&rng, seed * 1000003 + layer * 10007 + expert * 31 + part);
    void *bytes = malloc(dtype_row_bytes(type, n_in) * n_out);
    ASSERT(bytes != NULL);
    example_blocks(&rng, type, (uint64_t)n_in * n_out, bytes);
    return bytes;
}

void example_rows(uint64_t seed, uint32_t n_rows, uint32_t n_in, float *out) {
    struct rng rng;
    rng_init(&rng, seed);
    for (uint64_t i = 0; i < (uint64_t)n_rows * n_in; i++)
        out[i] = (float)(rng_unit(&rng) * 2 - 1);
}
