/* r16.c - repacks GGUF blocks of 16 rows into the interleaved layout of r16.h.
 * Owns: nothing. Does not: touch the values; every bit of a quant or scale is moved, none changed.
 * Runs on: any thread. */
#include "kernels/r16.h"

#include "kernels/ref/blocks.h"
#include "proto/base/checked.h"

#include <string.h>

/* The largest GGUF block with this layout (Q6_K). */
#define BLOCK_BYTES_MAX 210

/* Sixteen blocks at the same index, one per row. */
struct block_rows {
    const uint8_t *row[R16_ROWS];
};

/* Chunks of n_bytes (a multiple of 4) at offset `at` of every row's block. Returns the end. */
static uint8_t *put_chunks(uint8_t *to, const struct block_rows *b, size_t at, size_t n_bytes) {
    for (size_t k = 0; k < n_bytes; k += 4)
        for (size_t r = 0; r < R16_ROWS; r++, to += 4)
            memcpy(to, b->row[r] + at + k, 4);
    return to;
}

/* Two bytes of every row: a binary16 scale. */
static uint8_t *put_halves(uint8_t *to, const struct block_rows *b, size_t at) {
    for (size_t r = 0; r < R16_ROWS; r++, to += 2)
        memcpy(to, b->row[r] + at, 2);
    return to;
}

/* n bytes of every row as [n][16]. */
static uint8_t *put_bytes(uint8_t *to, const struct block_rows *b, size_t at, size_t n) {
    for (size_t s = 0; s < n; s++)
        for (size_t r = 0; r < R16_ROWS; r++)
            *to++ = b->row[r][at + s];
    return to;
}

/* Turns the fifth bits of a 32-element block, bit i for element i, into the chunk whose byte j
 * holds at bit k that of element 4k + j, so that one shift brings four of them into place. */
static void put_fifth_bits(uint8_t *to, const struct block_rows *b, size_t at) {
    for (size_t r = 0; r < R16_ROWS; r++) {
        const uint8_t *p = b->row[r] + at;
        uint32_t bits = load_u32(p);
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t byte = 0;
            for (uint32_t k = 0; k < 8; k++)
                byte |= (bits >> (4 * k + j) & 1) << k;
            *to++ = (uint8_t)byte;
        }
    }
}

/* The twelve bytes of Q4_K and Q5_K: eight scales [8][16] and eight minima [4][16][2]. */
static void put_scales_mins(uint8_t *to, const struct block_rows *b, size_t at) {
    uint8_t *sc = to, *mn = to + 8 * R16_ROWS;
    for (uint32_t r = 0; r < R16_ROWS; r++)
        for (uint32_t s = 0; s < 8; s++) {
            sc[s * R16_ROWS + r] = k4_scale(b->row[r] + at, s);
            mn[(s / 2 * R16_ROWS + r) * 2 + s % 2] = k4_min(b->row[r] + at, s);
        }
}

/* The twelve bytes of Q3_K: sixteen scales less 32, [16][16]. */
static void put_scales_q3(uint8_t *to, const struct block_rows *b, size_t at) {
    for (uint32_t r = 0; r < R16_ROWS; r++)
        for (uint32_t s = 0; s < 16; s++)
            to[s * R16_ROWS + r] = (uint8_t)q3_scale(b->row[r] + at, s);
}

/* scales_h and scales_l of IQ4_XS: eight scales less 32, [8][16]. */
static void put_scales_iq4(uint8_t *to, const struct block_rows *b) {
    for (uint32_t r = 0; r < R16_ROWS; r++)
        for (uint32_t s = 0; s < 8; s++)
            to[s * R16_ROWS + r] = (uint8_t)iq4_xs_scale(load_u16(b->row[r] + 2), b->row[r] + 4, s);
}

static void put_block_32(enum dtype type, const struct block_rows *b, uint8_t *head, uint8_t *qs) {
    switch (type) {
    case DT_Q4_1:
        put_halves(put_halves(head, b, 0), b, 2);
        put_chunks(qs, b, 4, 16);
        break;
    case DT_Q5_0:
        put_halves(head, b, 0);
        put_fifth_bits(put_chunks(qs, b, 6, 16), b, 2);
        break;
    case DT_Q5_1:
        put_halves(put_halves(head, b, 0), b, 2);
        put_fifth_bits(put_chunks(qs, b, 8, 16), b, 4);
        break;
    case DT_Q8_0:
        put_halves(head, b, 0);
        put_chunks(qs, b, 2, 32);
        break;
    case DT_MXFP4:
        put_bytes(head, b, 0, 1);
        put_chunks(qs, b, 1, 16);
        break;
    default: /* Q4_0, IQ4_NL */
        put_halves(head, b, 0);
        put_chunks(qs, b, 2, 16);
        break;
    }
}

static void put_block_256(enum dtype type, const struct block_rows *b, uint8_t *head, uint8_t *qs) {
    switch (type) {
    case DT_Q2_K:
        put_bytes(put_halves(put_halves(head, b, 80), b, 82), b, 0, 16);
        put_chunks(qs, b, 16, 64);
        break;
    case DT_Q3_K:
        put_scales_q3(put_halves(head, b, 108), b, 96);
        put_chunks(put_chunks(qs, b, 32, 64), b, 0, 32);
        break;
    case DT_Q4_K:
        put_scales_mins(put_halves(put_halves(head, b, 0), b, 2), b, 4);
        put_chunks(qs, b, 16, 128);
        break;
    case DT_Q5_K:
        put_scales_mins(put_halves(put_halves(head, b, 0), b, 2), b, 4);
        put_chunks(put_chunks(qs, b, 48, 128), b, 16, 32);
        break;
    case DT_Q6_K:
        put_bytes(put_halves(head, b, 208), b, 192, 16);
        put_chunks(put_chunks(qs, b, 0, 128), b, 128, 64);
        break;
    default: /* IQ4_XS */
        put_scales_iq4(put_halves(head, b, 0), b);
        put_chunks(qs, b, 8, 128);
        break;
    }
}

const struct r16_shape *r16_shape_of(enum dtype type) {
    static const struct r16_shape shapes[DT_COUNT] = {
            [DT_Q4_0] = {32, 18, 32, 256},
            [DT_Q4_1] = {32, 20, 64, 256},
            [DT_Q5_0] = {32, 22, 32, 320},
            [DT_Q5_1] = {32, 24, 64, 320},
            [DT_Q8_0] = {32, 34, 32, 512},
            [DT_IQ4_NL] = {32, 18, 32, 256},
            [DT_MXFP4] = {32, 17, 16, 256},
            [DT_Q2_K] = {256, 84, 320, 1024},
            [DT_Q3_K] = {256, 110, 288, 1536},
            [DT_Q4_K] = {256, 144, 320, 2048},
            [DT_Q5_K] = {256, 176, 320, 2560},
            [DT_Q6_K] = {256, 210, 288, 3072},
            [DT_IQ4_XS] = {256, 136, 160, 2048},
    };
    if ((unsigned)type >= DT_COUNT || shapes[type].block_elems == 0) return NULL;
    return &shapes[type];
}

uint64_t r16_bytes(enum dtype type, uint64_t n_in, uint64_t n_out) {
    const struct r16_shape *shape = r16_shape_of(type);
    if (shape == NULL || n_in % shape->block_elems != 0) return 0;
    uint64_t n_blocks = n_in / shape->block_elems;
    uint64_t head, quants, group, bytes;
    if (!mul_u64(n_blocks, shape->head_bytes, &head) || !add_u64(head, R16_ALIGN - 1, &head) ||
            !mul_u64(n_blocks, shape->quant_bytes, &quants) ||
            !add_u64(head & ~(uint64_t)(R16_ALIGN - 1), quants, &group))
        return 0;
    uint64_t n_groups = n_out / R16_ROWS + (n_out % R16_ROWS != 0);
    return mul_u64(n_groups, group, &bytes) ? bytes : 0;
}

void r16_repack(enum dtype type, uint32_t n_in, uint32_t n_out, uint32_t row0, uint32_t row1,
        const void *gguf_rows, void *to) {
    static const uint8_t zero_block[BLOCK_BYTES_MAX];
    const struct r16_shape *shape = r16_shape_of(type);
    size_t n_blocks = n_in / shape->block_elems;
    size_t row_bytes = n_blocks * shape->block_bytes;

    for (uint32_t first = row0; first < row1; first += R16_ROWS) {
        uint8_t *group = (uint8_t *)to + first / R16_ROWS * r16_group_bytes(shape, n_in);
        uint8_t *head = group, *quants = group + r16_quants_at(shape, n_in);
        const uint8_t *rows = (const uint8_t *)gguf_rows + first * row_bytes;
        for (size_t block = 0; block < n_blocks; block++) {
            struct block_rows b;
            for (uint32_t r = 0; r < R16_ROWS; r++)
                b.row[r] = first + r < n_out ? rows + r * row_bytes + block * shape->block_bytes
                                             : zero_block;
            if (shape->block_elems == 32)
                put_block_32(type, &b, head, quants);
            else
                put_block_256(type, &b, head, quants);
            head += shape->head_bytes;
            quants += shape->quant_bytes;
        }
        memset(head, 0, (size_t)(group + r16_quants_at(shape, n_in) - head));
    }
}
