/* dequant_ref.c - rows of GGUF blocks as floats, in the format's own order of operations.
 * Owns: nothing. Does not: know packings (blocks.c). Runs on: any thread. */
#include "kernels/kern.h"

#include "kernels/ref/blocks.h"

#include "proto/base/err.h"

static void dequantise_block(const struct block *b, const struct block_format *format, float *out) {
    for (uint32_t i = 0; i < format->n_elems; i++) {
        uint32_t s = i / BLOCK_SUB_ELEMS;
        out[i] = (b->d * (float)b->sc[s]) * (float)b->q[i];
        if (format->min == BLOCK_MIN_ADD)
            out[i] = out[i] + b->m;
        else if (format->min == BLOCK_MIN_SUBTRACT)
            out[i] = out[i] - b->m * (float)b->mn[s];
    }
}

static void dequantise_blocks(
        const struct block_format *format, const uint8_t *bytes, uint64_t n, float *out) {
    struct block b;
    for (uint64_t i = 0; i < n; i += format->n_elems, bytes += format->n_bytes) {
        format->decode(bytes, &b);
        dequantise_block(&b, format, out + i);
    }
}

void kern_dequantise(enum dtype type, const void *blocks, uint64_t n, float *out) {
    const uint8_t *bytes = blocks;
    const struct block_format *format = block_format_of(type);
    if (format != NULL) {
        ASSERT(n % format->n_elems == 0);
        dequantise_blocks(format, bytes, n, out);
    } else if (type == DT_F32) {
        memcpy(out, bytes, n * sizeof *out);
    } else if (type == DT_F16) {
        for (uint64_t i = 0; i < n; i++)
            out[i] = load_f16(bytes + 2 * i);
    } else {
        ASSERT(type == DT_BF16);
        for (uint64_t i = 0; i < n; i++)
            out[i] = bf16_to_f32(load_u16(bytes + 2 * i));
    }
}
