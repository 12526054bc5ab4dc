/* blocks.c - undoes the packing of each GGUF weight block.
 * Owns: the value tables. Does not: multiply, or check bytes (every bit pattern is a legal block).
 * Runs on: any thread. Loops are written so that a compiler can vectorise them. */
#include "kernels/ref/blocks.h"

#include "proto/base/checked.h"

const int8_t block_k4nl[16] = {
        -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t block_fp4x2[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* Low nibbles are elements 0..n-1, high ones n..2n-1. */
static void split_nibbles(const uint8_t *restrict qs, uint32_t n, int8_t *restrict q) {
    for (uint32_t i = 0; i < n; i++) {
        q[i] = (int8_t)(qs[i] & 15);
        q[i + n] = (int8_t)(qs[i] >> 4);
    }
}

static void split_nibbles_by_table(
        const uint8_t *restrict qs, const int8_t *table, int8_t *restrict q) {
    for (uint32_t i = 0; i < 16; i++) {
        q[i] = table[qs[i] & 15];
        q[i + 16] = table[qs[i] >> 4];
    }
}

static void add_fifth_bits(uint32_t bits, int8_t *q) {
    for (uint32_t i = 0; i < 32; i++)
        q[i] = (int8_t)(q[i] | (bits >> i & 1) << 4);
}

static void subtract(int8_t *q, uint32_t n, int8_t offset) {
    for (uint32_t i = 0; i < n; i++)
        q[i] = (int8_t)(q[i] - offset);
}

static void unit_scales(struct block *out) {
    out->sc[0] = out->sc[1] = 1;
}

static void decode_q4_0(const uint8_t *b, struct block *out) {
    out->d = load_f16(b);
    unit_scales(out);
    split_nibbles(b + 2, 16, out->q);
    subtract(out->q, 32, 8);
}

static void decode_q4_1(const uint8_t *b, struct block *out) {
    out->d = load_f16(b);
    out->m = load_f16(b + 2);
    unit_scales(out);
    split_nibbles(b + 4, 16, out->q);
}

static void decode_q5_0(const uint8_t *b, struct block *out) {
    out->d = load_f16(b);
    unit_scales(out);
    split_nibbles(b + 6, 16, out->q);
    add_fifth_bits(load_u32(b + 2), out->q);
    subtract(out->q, 32, 16);
}

static void decode_q5_1(const uint8_t *b, struct block *out) {
    out->d = load_f16(b);
    out->m = load_f16(b + 2);
    unit_scales(out);
    split_nibbles(b + 8, 16, out->q);
    add_fifth_bits(load_u32(b + 4), out->q);
}

static void decode_q8_0(const uint8_t *b, struct block *out) {
    out->d = load_f16(b);
    unit_scales(out);
    memcpy(out->q, b + 2, 32);
}

static void decode_iq4_nl(const uint8_t *b, struct block *out) {
    out->d = load_f16(b);
    unit_scales(out);
    split_nibbles_by_table(b + 2, block_k4nl, out->q);
}

static void decode_mxfp4(const uint8_t *b, struct block *out) {
    out->d = e8m0_half_to_f32(b[0]);
    unit_scales(out);
    split_nibbles_by_table(b + 1, block_fp4x2, out->q);
}

static void decode_q2_k(const uint8_t *b, struct block *out) {
    out->d = load_f16(b + 80);
    out->m = load_f16(b + 82);
    for (uint32_t s = 0; s < 16; s++) {
        out->sc[s] = b[s] & 15;
        out->mn[s] = b[s] >> 4;
    }
    for (uint32_t run = 0; run < 8; run++) {
        const uint8_t *qs = b + 16 + 32 * (run / 4);
        for (uint32_t l = 0; l < 32; l++)
            out->q[32 * run + l] = (int8_t)(qs[l] >> 2 * (run % 4) & 3);
    }
}

static void decode_q3_k(const uint8_t *b, struct block *out) {
    out->d = load_f16(b + 108);
    for (uint32_t s = 0; s < 16; s++)
        out->sc[s] = q3_scale(b + 96, s);
    for (uint32_t run = 0; run < 8; run++) {
        const uint8_t *qs = b + 32 + 32 * (run / 4);
        for (uint32_t l = 0; l < 32; l++) {
            int low = qs[l] >> 2 * (run % 4) & 3;
            int high = b[l] >> run & 1;
            out->q[32 * run + l] = (int8_t)((low | high << 2) - 4);
        }
    }
}

/* d, dmin and the scales and minima that Q4_K and Q5_K share; each holds for 32 elements. */
static void decode_k4_scales(const uint8_t *b, struct block *out) {
    out->d = load_f16(b);
    out->m = load_f16(b + 2);
    for (uint32_t s = 0; s < 8; s++) {
        out->sc[2 * s] = out->sc[2 * s + 1] = k4_scale(b + 4, s);
        out->mn[2 * s] = out->mn[2 * s + 1] = k4_min(b + 4, s);
    }
}

static void decode_q4_k(const uint8_t *b, struct block *out) {
    decode_k4_scales(b, out);
    for (uint32_t c = 0; c < 4; c++)
        split_nibbles(b + 16 + 32 * c, 32, out->q + 64 * c);
}

static void decode_q5_k(const uint8_t *b, struct block *out) {
    decode_k4_scales(b, out);
    const uint8_t *qh = b + 16;
    for (uint32_t c = 0; c < 4; c++)
        split_nibbles(b + 48 + 32 * c, 32, out->q + 64 * c);
    for (uint32_t s = 0; s < 8; s++)
        for (uint32_t l = 0; l < 32; l++)
            out->q[32 * s + l] = (int8_t)(out->q[32 * s + l] | (qh[l] >> s & 1) << 4);
}

static void decode_q6_k(const uint8_t *b, struct block *out) {
    out->d = load_f16(b + 208);
    for (uint32_t s = 0; s < 16; s++)
        out->sc[s] = (int8_t)b[192 + s];
    for (uint32_t h = 0; h < 2; h++) {
        const uint8_t *qh = b + 128 + 32 * h;
        int8_t *q = out->q + 128 * h;
        split_nibbles(b + 64 * h, 64, q);
        for (uint32_t g = 0; g < 4; g++)
            for (uint32_t l = 0; l < 32; l++)
                q[32 * g + l] = (int8_t)((q[32 * g + l] | (qh[l] >> 2 * g & 3) << 4) - 32);
    }
}

static void decode_iq4_xs(const uint8_t *b, struct block *out) {
    out->d = load_f16(b);
    for (uint32_t s = 0; s < 8; s++) {
        out->sc[2 * s] = out->sc[2 * s + 1] = iq4_xs_scale(load_u16(b + 2), b + 4, s);
        split_nibbles_by_table(b + 8 + 16 * s, block_k4nl, out->q + 32 * s);
    }
}

const struct block_format *block_format_of(enum dtype type) {
    static const struct block_format formats[DT_COUNT] = {
            [DT_Q4_0] = {decode_q4_0, 32, 18, BLOCK_MIN_NONE},
            [DT_Q4_1] = {decode_q4_1, 32, 20, BLOCK_MIN_ADD},
            [DT_Q5_0] = {decode_q5_0, 32, 22, BLOCK_MIN_NONE},
            [DT_Q5_1] = {decode_q5_1, 32, 24, BLOCK_MIN_ADD},
            [DT_Q8_0] = {decode_q8_0, 32, 34, BLOCK_MIN_NONE},
            [DT_IQ4_NL] = {decode_iq4_nl, 32, 18, BLOCK_MIN_NONE},
            [DT_MXFP4] = {decode_mxfp4, 32, 17, BLOCK_MIN_NONE},
            [DT_Q2_K] = {decode_q2_k, 256, 84, BLOCK_MIN_SUBTRACT},
            [DT_Q3_K] = {decode_q3_k, 256, 110, BLOCK_MIN_NONE},
            [DT_Q4_K] = {decode_q4_k, 256, 144, BLOCK_MIN_SUBTRACT},
            [DT_Q5_K] = {decode_q5_k, 256, 176, BLOCK_MIN_SUBTRACT},
            [DT_Q6_K] = {decode_q6_k, 256, 210, BLOCK_MIN_NONE},
            [DT_IQ4_XS] = {decode_iq4_xs, 256, 136, BLOCK_MIN_NONE},
    };
    if ((unsigned)type >= ARRAY_LEN(formats) || formats[type].decode == NULL) return NULL;
    return &formats[type];
}
