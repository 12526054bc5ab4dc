/* kern.c - chooses a table of operations, and the arithmetic that is the same in all of them.
 * Owns: the order of preference. Does not: probe the CPU (each instruction set's folder does).
 * Runs on: any thread. */
#include "kernels/kern.h"

#include "kernels/r16.h"
#include "kernels/ref/blocks.h"
#include "kernels/ref/math_ref.h"
#include "kernels/ref/ref.h"
#ifdef POTLUCK_ARM
#include "kernels/arm/arm.h"
#endif
#ifdef POTLUCK_X86
#include "kernels/x86/x86.h"
#endif

#include "proto/base/checked.h"
#include "proto/base/err.h"

#define GRID_MIN (-118)
#define GRID_MAX 100

/* What a name of --isa stands for: the first of its tables that runs here. */
static const struct {
    const char *isa;
    const char *tables[2];
} choices[] = {
        {"avx2", {"avx2-vnni", "avx2"}},
        {"avx2-plain", {"avx2"}},
        {"avx512", {"avx512-vnni", "avx512"}},
        {"avx512-plain", {"avx512"}},
        {"neon", {"neon-dot", "neon"}},
        {"neon-plain", {"neon"}},
        {"scalar", {"scalar"}},
};

static const struct kern_ops *simd_at(unsigned index) {
#if defined(POTLUCK_X86)
    return kern_x86_at(index);
#elif defined(POTLUCK_ARM)
    return kern_arm_at(index);
#else
    (void)index;
    return NULL;
#endif
}

const struct kern_ops *kern_at(unsigned index) {
    unsigned n_simd = 0;
    while (n_simd <= index && simd_at(n_simd) != NULL)
        n_simd++;
    if (index < n_simd) return simd_at(index);
    return index == n_simd ? &kern_ops_scalar : NULL;
}

/* "avx512 avx2 scalar": what kern_at() lists, separated by blanks. */
static void list_tables(char *to, size_t n_bytes) {
    size_t at = 0;
    to[0] = '\0';
    for (unsigned i = 0; kern_at(i) != NULL && at < n_bytes; i++)
        at += (size_t)snprintf(to + at, n_bytes - at, i ? " %s" : "%s", kern_at(i)->name);
}

/* The table of that name if this machine can run it. */
static const struct kern_ops *find_table(const char *name) {
    const struct kern_ops *ops;
    for (unsigned i = 0; (ops = kern_at(i)) != NULL; i++)
        if (strcmp(ops->name, name) == 0) return ops;
    return NULL;
}

static int refuse(const char *isa, bool known, struct err *err) {
    char tables[128];
    list_tables(tables, sizeof tables);
    if (known)
        err_set(err, ERR_UNSUPPORTED, "this machine cannot run the %s kernels; it has: %s", isa,
                tables);
    else
        err_set(err, ERR_USAGE, "unknown instruction set '%s'; this machine has: %s", isa, tables);
    err_hint(err, "use auto for the fastest that works here");
    return known ? ERR_UNSUPPORTED : ERR_USAGE;
}

int kern_select(const char *isa, const struct kern_ops **out_ops, struct err *err) {
    if (strcmp(isa, "auto") == 0) {
        *out_ops = kern_at(0);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(choices); i++) {
        if (strcmp(isa, choices[i].isa) != 0) continue;
        for (size_t k = 0; k < ARRAY_LEN(choices[i].tables); k++) {
            const char *name = choices[i].tables[k];
            const struct kern_ops *ops = name != NULL ? find_table(name) : NULL;
            if (ops == NULL) continue;
            *out_ops = ops;
            return 0;
        }
        return refuse(isa, true, err);
    }
    return refuse(isa, false, err);
}

uint64_t kern_mat_bytes(enum dtype type, enum kern_layout layout, uint64_t n_in, uint64_t n_out) {
    if (layout == KERN_R16) return r16_bytes(type, n_in, n_out);
    const struct dtype_desc *desc = dtype_find(type);
    if (desc == NULL || n_in % desc->block_elems != 0) return 0;
    uint64_t row_bytes, bytes;
    if (!mul_u64(n_in / desc->block_elems, desc->block_bytes, &row_bytes)) return 0;
    return mul_u64(row_bytes, n_out, &bytes) ? bytes : 0;
}

void kern_repack(enum dtype type, enum kern_layout layout, uint32_t n_in, uint32_t n_out,
        uint32_t row0, uint32_t row1, const void *gguf_rows, void *to) {
    ASSERT(row0 % 16 == 0);
    ASSERT(row1 <= n_out);
    ASSERT(row1 % 16 == 0 || row1 == n_out);
    if (layout == KERN_R16) {
        r16_repack(type, n_in, n_out, row0, row1, gguf_rows, to);
        return;
    }
    if (row1 <= row0) return;
    size_t row_bytes = (size_t)dtype_row_bytes(type, n_in);
    memcpy((uint8_t *)to + row0 * row_bytes, (const uint8_t *)gguf_rows + row0 * row_bytes,
            (row1 - row0) * row_bytes);
}

int kern_grid(float sum_squares, size_t n, int bits) {
    float rms = sqrtf(sum_squares / (float)n);
    if (!(rms < INFINITY)) return GRID_MAX;
    if (rms == 0.0f) return GRID_MIN;
    /* A square root is never subnormal, so its exponent field is floor(log2) + 127. */
    int grid = (int)(f32_bits(rms) >> 23) - 127 - bits;
    return grid < GRID_MIN ? GRID_MIN : grid > GRID_MAX ? GRID_MAX : grid;
}

void kern_rope_angles(const double *inv_freq, uint32_t n_pairs, uint64_t position, float mag,
        float *cos, float *sin) {
    for (uint32_t i = 0; i < n_pairs; i++) {
        double s, c;
        math_sincos64((double)position * inv_freq[i], &s, &c);
        cos[i] = (float)c * mag;
        sin[i] = (float)s * mag;
    }
}

double kern_rope_inv_freq(double base, uint32_t i, uint32_t n_rot) {
    return math_exp64(-(2.0 * i / n_rot) * math_log64(base));
}

double kern_log(double x) {
    return math_log64(x);
}

float kern_exp(float x) {
    return math_exp(x);
}
