/* r16.h - weights with 16 output rows interleaved, so that one 32-bit SIMD lane is one row.
 *
 * A matrix is cut into groups of 16 output rows. A group is a head section and a quant section:
 *
 *   group := head[block 0] head[block 1] ... pad to 64 bytes   quants[block 0] quants[block 1] ...
 *   quants[block] := chunk 0, chunk 1, ...    chunk k := row 0 bytes 4k..4k+3, row 1 ..., row 15
 *
 * A chunk is 64 bytes: one AVX-512 register, two of AVX2, four of NEON. Quants keep the packing of
 * the GGUF type (two nibbles a byte, high bits apart); only scales are unpacked. The layout is the
 * same for every instruction set. Arrays of a head, "d" meaning f16[16], one element per row:
 *
 *   Q4_0 Q5_0 Q8_0 IQ4_NL  d                                  MXFP4      e u8[16]
 *   Q4_1 Q5_1              d, m                               IQ4_XS     d, (ls - 32) i8[8][16]
 *   Q2_K                   d, dmin, scales u8[16][16] (min in the high nibble)
 *   Q3_K Q6_K              d, sc i8[16][16]
 *   Q4_K Q5_K              d, dmin, sc u8[8][16], mn u8[4][16][2] (pairs of neighbours)
 *
 * Chunks: Q4_0 Q4_1 IQ4_NL MXFP4: qs 0..3. Q5_0 Q5_1: qs 0..3, then one chunk whose byte j has at
 * bit k the fifth bit of element 4k + j. Q8_0: qs 0..7. Q2_K: qs 0..15. Q3_K: qs 0..15, hmask 0..7.
 * Q4_K IQ4_XS: qs 0..31. Q5_K: qs 0..31, qh 0..7. Q6_K: ql 0..31, qh 0..15.
 *
 * Pure functions, any thread. */
#pragma once

#include "proto/format/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define R16_ROWS 16
#define R16_CHUNK 64
#define R16_ALIGN 64

/* Bytes of one block of 16 rows in both sections. */
struct r16_shape {
    uint32_t block_elems;
    uint32_t block_bytes; /* of the GGUF block of one row */
    uint32_t head_bytes;
    uint32_t quant_bytes; /* a multiple of R16_CHUNK */
};

/* NULL for a type that stays in its GGUF layout. */
const struct r16_shape *r16_shape_of(enum dtype type);

/* Where the quant section of a group starts, and the bytes of a whole group, for rows of n_in
 * elements (a multiple of block_elems). */
static inline size_t r16_quants_at(const struct r16_shape *shape, uint32_t n_in) {
    size_t head = (size_t)(n_in / shape->block_elems) * shape->head_bytes;
    return (head + R16_ALIGN - 1) & ~(size_t)(R16_ALIGN - 1);
}

static inline size_t r16_group_bytes(const struct r16_shape *shape, uint32_t n_in) {
    return r16_quants_at(shape, n_in) + (size_t)(n_in / shape->block_elems) * shape->quant_bytes;
}

/* Bytes of a whole matrix; n_out is rounded up to 16. 0 when that overflows, when the type has no
 * such layout, or when n_in is not a multiple of its block. */
uint64_t r16_bytes(enum dtype type, uint64_t n_in, uint64_t n_out);

/* Repacks output rows [row0, row1) of the matrix whose GGUF row 0 is at gguf_rows into `to`, which
 * holds r16_bytes(). row0 is a multiple of 16, row1 too or n_out; missing rows of the last group
 * become zero rows. The type has this layout. Disjoint ranges may run in parallel. */
void r16_repack(enum dtype type, uint32_t n_in, uint32_t n_out, uint32_t row0, uint32_t row1,
        const void *gguf_rows, void *to);
