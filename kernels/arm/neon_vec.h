/* neon_vec.h - what the integer kernels for aarch64 are written in: unrolling, shifts, and the dot
 * products of quads, for the instruction set of the including file.
 *
 * A register holds 16 bytes: four weight rows ("a part" of a group of 16), each with a "quad" of four
 * neighbouring quants, so that one 32-bit lane is one row. NEON_DOT says that the set has the 4-way
 * product of Armv8.2 (sdot); without it products are added up in 16 bits first.
 * Everything is static: nothing built with one set's flags may be shared with another set. */
#pragma once

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

/* EACH(r, n, statements): the statements for r = 0..n-1, where n <= EACH_MAX is a constant after
 * inlining and r one from the start; arrays over r have EACH_MAX elements. Those arrays then live in
 * registers with every compiler, which loops that are unrolled later do not ensure. EACH_PART is the
 * same for at most PARTS. Both may be nested. UNROLL: other loops over constant counts that must
 * become straight code. KEEP_LOOP: loops that must not, so that a kernel stays in the caches. */
#define EACH_MAX 8
#define PARTS 4
#define EACH_PART(p, n, ...)                                                                       \
    do {                                                                                           \
        EACH_ONE(p, 0, n, __VA_ARGS__)                                                             \
        EACH_ONE(p, 1, n, __VA_ARGS__)                                                             \
        EACH_ONE(p, 2, n, __VA_ARGS__)                                                             \
        EACH_ONE(p, 3, n, __VA_ARGS__)                                                             \
    } while (0)
#define EACH(r, n, ...)                                                                            \
    do {                                                                                           \
        EACH_ONE(r, 0, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 1, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 2, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 3, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 4, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 5, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 6, n, __VA_ARGS__)                                                             \
        EACH_ONE(r, 7, n, __VA_ARGS__)                                                             \
    } while (0)
#define EACH_ONE(r, i, n, ...)                                                                     \
    if ((i) < (n)) {                                                                               \
        enum { r = (i) };                                                                          \
        __VA_ARGS__;                                                                               \
    }
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#define KEEP_LOOP _Pragma("nounroll")
#else
#define UNROLL _Pragma("GCC unroll 64")
#define KEEP_LOOP _Pragma("GCC unroll 1")
#endif

/* Makes the value of an integer variable unknown to the compiler. */
#define HIDE(variable) __asm__("" : "+r"(variable))

/* Bytes shifted by a count that is a constant after inlining: the intrinsics want a literal. */
INLINE uint8x16_t bytes_shr(uint8x16_t v, int n) {
    switch (n) {
    case 1:
        return vshrq_n_u8(v, 1);
    case 2:
        return vshrq_n_u8(v, 2);
    case 3:
        return vshrq_n_u8(v, 3);
    case 4:
        return vshrq_n_u8(v, 4);
    case 5:
        return vshrq_n_u8(v, 5);
    case 6:
        return vshrq_n_u8(v, 6);
    case 7:
        return vshrq_n_u8(v, 7);
    default:
        return v;
    }
}

/* Shifts by a count known at run time: to the left where n > 0, to the right where n < 0. */
INLINE uint8x16_t bytes_shift_by(uint8x16_t v, int n) {
    return vshlq_u8(v, vdupq_n_s8((int8_t)n));
}

INLINE uint8x16_t bytes_and(uint8x16_t v, uint8_t mask) {
    return vandq_u8(v, vdupq_n_u8(mask));
}

/* Four bytes of any address, in the low half. */
INLINE uint8x8_t load_4_bytes(const uint8_t *p) {
    uint32_t bytes;
    memcpy(&bytes, p, 4);
    return vreinterpret_u8_u32(vdup_n_u32(bytes));
}

/* acc + v * x[lane], 16 bits widened to 32; lane a constant after inlining. */
INLINE int32x4_t mlal_lane(int32x4_t acc, int16x4_t v, int16x8_t x, int lane) {
    switch (lane) {
    case 0:
        return vmlal_laneq_s16(acc, v, x, 0);
    case 1:
        return vmlal_laneq_s16(acc, v, x, 1);
    case 2:
        return vmlal_laneq_s16(acc, v, x, 2);
    case 3:
        return vmlal_laneq_s16(acc, v, x, 3);
    case 4:
        return vmlal_laneq_s16(acc, v, x, 4);
    case 5:
        return vmlal_laneq_s16(acc, v, x, 5);
    case 6:
        return vmlal_laneq_s16(acc, v, x, 6);
    default:
        return vmlal_laneq_s16(acc, v, x, 7);
    }
}

/* The dot products of four weight rows with one activation row, under way. dot_start() sets what they
 * begin with, n calls of dot_step() add the quads k = 0..n-1 (w: those of the weight rows; x: sixteen
 * activation quants, of which quad k % 4 is taken), dot_end() gives the sums. `bits` says what w
 * holds: 2..6: values of 0..2^bits - 1 (or as small with a sign); 8: any byte, signed. */
#if defined(NEON_DOT)

struct dot {
    int32x4_t sum;
};

INLINE void dot_start(struct dot *d, int32x4_t start) {
    d->sum = start;
}

INLINE void dot_step(struct dot *d, int8x16_t w, int8x16_t x, int k, int n, int bits) {
    (void)n;
    (void)bits;
    switch (k % 4) {
    case 0:
        d->sum = vdotq_laneq_s32(d->sum, w, x, 0);
        break;
    case 1:
        d->sum = vdotq_laneq_s32(d->sum, w, x, 1);
        break;
    case 2:
        d->sum = vdotq_laneq_s32(d->sum, w, x, 2);
        break;
    default:
        d->sum = vdotq_laneq_s32(d->sum, w, x, 3);
        break;
    }
}

INLINE int32x4_t dot_end(const struct dot *d) {
    return d->sum;
}

#else

/* Products are added up in 16 bits over as many quads as fit (|x| <= 127), two lanes a quad of a row,
 * rows 0 and 1 in low, 2 and 3 in high; then in 32 bits. */
struct dot {
    int32x4_t start;
    int16x8_t low, high;
    int32x4_t wide_low, wide_high;
};

INLINE void dot_start(struct dot *d, int32x4_t start) {
    d->start = start;
}

INLINE int8x16_t every_quad(int8x16_t x, int lane) {
    int32x4_t quads = vreinterpretq_s32_s8(x);
    switch (lane) {
    case 0:
        return vreinterpretq_s8_s32(vdupq_laneq_s32(quads, 0));
    case 1:
        return vreinterpretq_s8_s32(vdupq_laneq_s32(quads, 1));
    case 2:
        return vreinterpretq_s8_s32(vdupq_laneq_s32(quads, 2));
    default:
        return vreinterpretq_s8_s32(vdupq_laneq_s32(quads, 3));
    }
}

INLINE void dot_step(struct dot *d, int8x16_t w, int8x16_t x, int k, int n, int bits) {
    /* 8 * 31, 4 * 63 and 2 * 128 times 127 stay below 2^15. */
    const int run = bits <= 5 ? 8 : bits == 6 ? 4 : 2;
    int8x16_t quad = every_quad(x, k % 4);
    if (k % run == 0) {
        d->low = vmull_s8(vget_low_s8(w), vget_low_s8(quad));
        d->high = vmull_high_s8(w, quad);
    } else {
        d->low = vmlal_s8(d->low, vget_low_s8(w), vget_low_s8(quad));
        d->high = vmlal_high_s8(d->high, w, quad);
    }
    if (k % run != run - 1 && k != n - 1) return;
    d->wide_low = k < run ? vpaddlq_s16(d->low) : vpadalq_s16(d->wide_low, d->low);
    d->wide_high = k < run ? vpaddlq_s16(d->high) : vpadalq_s16(d->wide_high, d->high);
}

INLINE int32x4_t dot_end(const struct dot *d) {
    return vaddq_s32(d->start, vpaddq_s32(d->wide_low, d->wide_high));
}

#endif
