/* wire_pack.c - integer sums in as few bits as they need, block by block.
 * Owns: nothing. Does not: know rows; the caller packs and unpacks row by row. Runs on: any thread.
 *
 *   block: width w (1 byte) | 32 values of w bits, low bits first | next block
 *
 * 32 values of w bits are w * 4 bytes, so every block starts at a whole byte. */
#include "proto/wire/wire_internal.h"

#include "proto/base/checked.h"

#include <string.h>

#define BLOCK 32u
#define WIDTH_MAX 64u

/* A value lies in the 8 bytes from its first byte on while its width is at most this. */
#define WIDTH_ONE_LOAD 57u

/* Bytes that unpacking may read beyond a block. */
#define OVERREAD 9u

static size_t block_bytes(unsigned width) {
    return width * (BLOCK / 8);
}

size_t wire_pack_bound(size_t n) {
    return (n + BLOCK - 1) / BLOCK * (1 + block_bytes(WIDTH_MAX));
}

static uint64_t load_le64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

static void store_le64(uint8_t *at, uint64_t value) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    memcpy(at, &value, sizeof value);
}

/* Bits of the widest value in two's complement; 0 when all are zero. A value of w bits has its last
 * change of bit between w - 1 and w - 2. */
static unsigned block_width(const int64_t v[BLOCK]) {
    uint64_t changes = 0;
    for (unsigned i = 0; i < BLOCK; i++)
        changes |= (uint64_t)v[i] ^ (uint64_t)v[i] << 1;
    return changes ? 64 - (unsigned)__builtin_clzll(changes) : 0;
}

/* Writes the block's w * 4 bytes. Inline: with a constant width all shifts become constants. */
static inline __attribute__((always_inline)) void pack_values(
        const int64_t v[BLOCK], unsigned width, uint8_t *out) {
    uint64_t mask = width == 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
    uint64_t bits = 0;
    unsigned n_bits = 0;
#pragma GCC unroll 32
    for (unsigned i = 0; i < BLOCK; i++) {
        uint64_t value = (uint64_t)v[i] & mask;
        bits |= value << n_bits;
        n_bits += width;
        if (n_bits < 64) continue;
        store_le64(out, bits);
        out += 8;
        n_bits -= 64;
        bits = n_bits ? value >> (width - n_bits) : 0;
    }
    /* 32 * w is a multiple of 32: what is left is nothing or four bytes. */
    for (unsigned i = 0; i < n_bits / 8; i++)
        out[i] = (uint8_t)(bits >> (8 * i));
}

/* The widths that sums have in practice get code of their own, 65 KiB in all: a row of 7168 sums
 * is packed in 2.5 us instead of 8 and added in 4 us instead of 10 (a Xeon at about 3 GHz, built
 * for plain x86-64), which a coordinator pays per worker, layer and row. */
/* clang-format off */
#define EACH_COMMON_WIDTH(X)                                                                       \
    X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16)        \
    X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31) X(32)
/* clang-format on */

static __attribute__((noinline)) void pack_rare(
        const int64_t v[BLOCK], unsigned width, uint8_t *out) {
    pack_values(v, width, out);
}

static void pack_block(const int64_t v[BLOCK], unsigned width, uint8_t *out) {
    switch (width) {
    case 0:
        break;
#define X(w)                                                                                       \
    case w:                                                                                        \
        pack_values(v, w, out);                                                                    \
        break;
        EACH_COMMON_WIDTH(X)
#undef X
    default:
        pack_rare(v, width, out);
    }
}

size_t wire_pack_sums(const int64_t *sums, size_t n, uint8_t *out) {
    uint8_t *at = out;
    for (size_t i = 0; i < n; i += BLOCK) {
        const int64_t *v = sums + i;
        int64_t last[BLOCK];
        if (n - i < BLOCK) {
            memset(last, 0, sizeof last);
            memcpy(last, v, (n - i) * sizeof *v);
            v = last;
        }
        unsigned width = block_width(v);
        *at++ = (uint8_t)width;
        pack_block(v, width, at);
        at += block_bytes(width);
    }
    return (size_t)(at - out);
}

/* The value that starts `bit` bits after `at`. */
static inline __attribute__((always_inline)) uint64_t read_value(
        const uint8_t *at, unsigned bit, unsigned width) {
    uint64_t bits = load_le64(at + (bit >> 3)) << (64 - width - (bit & 7));
    return (uint64_t)((int64_t)bits >> (64 - width));
}

/* Adds n values of at most 57 bits; OVERREAD bytes beyond the block are readable. Inline for
 * constant widths, as pack_values(). False: an overflow. */
static inline __attribute__((always_inline)) bool add_values(
        const uint8_t *at, unsigned width, int64_t *sums, unsigned n) {
    uint64_t overflow = 0;
#pragma GCC unroll 32
    for (unsigned i = 0; i < n; i++) {
        uint64_t value = read_value(at, i * width, width);
        uint64_t old = (uint64_t)sums[i], sum = old + value;
        overflow |= (sum ^ old) & (sum ^ value);
        sums[i] = (int64_t)sum;
    }
    return overflow >> 63 == 0;
}

static __attribute__((noinline)) bool add_narrow(
        const uint8_t *at, unsigned width, int64_t *sums, unsigned n) {
    return add_values(at, width, sums, n);
}

/* The same for any width from 1. */
static bool add_wide(const uint8_t *at, unsigned width, int64_t *sums, unsigned n) {
    for (unsigned i = 0, bit = 0; i < n; i++, bit += width) {
        unsigned shift = bit & 7;
        uint64_t bits = load_le64(at + (bit >> 3)) >> shift;
        if (shift) bits |= (uint64_t)at[(bit >> 3) + 8] << (64 - shift);
        int64_t value = (int64_t)(bits << (64 - width)) >> (64 - width);
        if (__builtin_add_overflow(sums[i], value, &sums[i])) return false;
    }
    return true;
}

/* The width at `at`, after checking that the block is there. */
static int read_width(const uint8_t *at, const uint8_t *end, struct err *err) {
    if (at == end) return err_set(err, ERR_PROTOCOL, "packed sums end early");
    if (*at > WIDTH_MAX)
        return err_set(err, ERR_PROTOCOL, "packed sums have a width of %u bits", *at);
    if ((size_t)(end - at - 1) < block_bytes(*at))
        return err_set(err, ERR_PROTOCOL, "packed sums end within a block");
    return *at;
}

static __attribute__((noinline)) bool add_whole_block(
        const uint8_t *at, unsigned width, int64_t *sums) {
    switch (width) {
    case 0:
        return true;
#define X(w)                                                                                       \
    case w:                                                                                        \
        return add_values(at, w, sums, BLOCK);
        EACH_COMMON_WIDTH(X)
#undef X
    default:
        return width <= WIDTH_ONE_LOAD ? add_narrow(at, width, sums, BLOCK)
                                       : add_wide(at, width, sums, BLOCK);
    }
}

static bool add_block(const uint8_t *at, unsigned width, int64_t *sums, unsigned n) {
    if (n == BLOCK || width == 0) return add_whole_block(at, width, sums);
    return width <= WIDTH_ONE_LOAD ? add_narrow(at, width, sums, n) : add_wide(at, width, sums, n);
}

/* For blocks near the end of the bytes, beyond which nothing may be read. */
static bool add_last_block(const uint8_t *at, unsigned width, int64_t *sums, unsigned n) {
    uint8_t padded[WIDTH_MAX * (BLOCK / 8) + OVERREAD] = {0};
    memcpy(padded, at, block_bytes(width));
    return add_block(padded, width, sums, n);
}

int64_t wire_unpack_add(
        const void *bytes, size_t n_bytes, int64_t *sums, size_t n, struct err *err) {
    const uint8_t *at = bytes, *end = at + n_bytes;
    for (size_t i = 0; i < n; i += BLOCK) {
        int width = read_width(at, end, err);
        if (width < 0) return width;
        at++;
        unsigned n_here = (unsigned)min_u64(n - i, BLOCK);
        size_t n_block = block_bytes((unsigned)width);
        bool fine = (size_t)(end - at) >= n_block + OVERREAD
                            ? add_block(at, (unsigned)width, sums + i, n_here)
                            : add_last_block(at, (unsigned)width, sums + i, n_here);
        if (!fine) return err_set(err, ERR_PROTOCOL, "sums overflow 64 bits");
        at += n_block;
    }
    return at - (const uint8_t *)bytes;
}

int wire_check_packed(
        const void *bytes, size_t n_bytes, uint32_t n_rows, uint32_t n, struct err *err) {
    const uint8_t *at = bytes, *end = at + n_bytes;
    uint64_t n_blocks = (uint64_t)n_rows * ((n + BLOCK - 1) / BLOCK);
    for (uint64_t i = 0; i < n_blocks; i++) {
        int width = read_width(at, end, err);
        if (width < 0) return width;
        at += 1 + block_bytes((unsigned)width);
    }
    if (at == end) return 0;
    return err_set(err, ERR_PROTOCOL, "%zu bytes after the packed sums", (size_t)(end - at));
}
