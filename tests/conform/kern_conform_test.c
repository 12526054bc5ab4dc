/* kern_conform_test.c - every table of operations gives the bits of the scalar one.
 *
 * Random shapes and values with the edges mixed in: zeros, subnormals, the largest scales, NaN and
 * infinity, extreme quants. NaN equals NaN, whatever its payload. The seed is printed and taken
 * from POTLUCK_SEED; a failing line names table, operation, case and element. */
#include "kernels/kern.h"

#include "kernels/r16.h"
#include "kernels/ref/blocks.h"

#include "proto/base/checked.h"
#include "proto/base/rng.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define N_CASES 40

static uint64_t base_seed(void) {
    const char *text = getenv("POTLUCK_SEED");
    return text != NULL ? strtoull(text, NULL, 0) : 20240611;
}

/* One random case: its table, the scalar one, and its own random stream. */
struct trial {
    const struct kern_ops *ops;
    const struct kern_ops *scalar;
    struct rng rng;
    unsigned number;
    const char *what; /* operation and type under test */
};

static const struct kern_ops *scalar_table(void) {
    const struct kern_ops *ops = NULL, *next;
    for (unsigned i = 0; (next = kern_at(i)) != NULL; i++)
        ops = next;
    return ops;
}

/* Runs a check N_CASES times for every table but the scalar one. */
static void for_every_table(void (*check)(struct trial *)) {
    const struct kern_ops *scalar = scalar_table();
    for (unsigned i = 0; kern_at(i) != scalar; i++)
        for (unsigned n = 0; n < N_CASES; n++) {
            struct trial t = {.ops = kern_at(i), .scalar = scalar, .number = n, .what = ""};
            rng_init(&t.rng, base_seed() * 1000003 + n);
            check(&t);
        }
}

static void fail_at(const struct trial *t, size_t element, double got, double want) {
    fail_msg("%s %s case %u: element %zu is %a, not %a (POTLUCK_SEED=%" PRIu64 ")", t->ops->name,
            t->what, t->number, element, got, want, base_seed());
}

static void expect_floats(const struct trial *t, const float *got, const float *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (isnan(got[i]) && isnan(want[i])) continue;
        if (f32_bits(got[i]) != f32_bits(want[i])) fail_at(t, i, (double)got[i], (double)want[i]);
    }
}

static void expect_bytes(const struct trial *t, const void *got, const void *want, size_t n) {
    const uint8_t *a = got, *b = want;
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i]) fail_at(t, i, a[i], b[i]);
}

/* ---- random values ------------------------------------------------------------------------ */

static uint32_t pick(struct rng *rng, uint32_t n) {
    return (uint32_t)rng_below(rng, n);
}

static uint32_t between(struct rng *rng, uint32_t low, uint32_t high) {
    return low + pick(rng, high - low + 1);
}

/* What the floats of a row look like. */
enum mood {
    MOOD_PLAIN,  /* about 1 */
    MOOD_WIDE,   /* any exponent */
    MOOD_EDGES,  /* zeros, subnormals, largest numbers and plain ones */
    MOOD_TINY,   /* about 2^-100, where quantised blocks become zero */
    MOOD_BROKEN, /* a few NaN and infinities among plain ones */
    MOOD_COUNT,
};

static float random_float(struct rng *rng, enum mood mood) {
    static const float edges[] = {0.0f, -0.0f, 0x1p-149f, -0x1p-130f, FLT_MIN, FLT_MAX, -FLT_MAX,
            0x1p-100f, -0x1.fffffep-101f, 88.0f, -88.0f, -104.0f, 127.0f, 0.5f, -1.5f, 2.5f};
    static const float broken[] = {NAN, INFINITY, -INFINITY};
    float plain = (float)((rng_unit(rng) + rng_unit(rng) - 1.0) * 2.0);
    switch (mood) {
    case MOOD_WIDE:
        return f32_from_bits((uint32_t)rng_next(rng) % 0x7f800000U) * (plain < 0 ? -1.0f : 1.0f);
    case MOOD_EDGES:
        return pick(rng, 2) ? edges[pick(rng, ARRAY_LEN(edges))] : plain;
    case MOOD_TINY:
        return plain * 0x1p-100f;
    case MOOD_BROKEN:
        return pick(rng, 150) == 0 ? broken[pick(rng, ARRAY_LEN(broken))] : plain;
    default:
        return plain;
    }
}

static void *room(size_t n, size_t size) {
    size_t bytes = align_up(n * size + 64, 64);
    void *p = aligned_alloc(64, bytes);
    assert_non_null(p);
    memset(p, 0xa5, bytes); /* as floats, a number that no check expects */
    return p;
}

/* n floats; caller frees. Two fifths of the rows are plain. */
static float *random_floats(struct rng *rng, size_t n) {
    enum mood mood = pick(rng, 3) ? pick(rng, MOOD_COUNT) : MOOD_PLAIN;
    float *x = room(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_float(rng, mood);
    return x;
}

static void *copy_of(const void *p, size_t n, size_t size) {
    void *copy = room(n, size);
    memcpy(copy, p, n * size);
    return copy;
}

/* ---- matrices ----------------------------------------------------------------------------- */

/* Where a block keeps its binary16 scale and minimum; -1: none. */
static const struct format {
    enum dtype type;
    int d_at, m_at;
} formats[] = {
        {DT_Q4_0, 0, -1},
        {DT_Q4_1, 0, 2},
        {DT_Q5_0, 0, -1},
        {DT_Q5_1, 0, 2},
        {DT_Q8_0, 0, -1},
        {DT_IQ4_NL, 0, -1},
        {DT_MXFP4, -1, -1},
        {DT_Q2_K, 80, 82},
        {DT_Q3_K, 108, -1},
        {DT_Q4_K, 0, 2},
        {DT_Q5_K, 0, 2},
        {DT_Q6_K, 208, -1},
        {DT_IQ4_XS, 0, -1},
};

static void put_scale(struct rng *rng, uint8_t *at, unsigned mood) {
    uint16_t half = f16_from_f32(random_float(rng, MOOD_PLAIN));
    if (mood == 1) half = pick(rng, 2) ? 0x7bff : 0xfbff;                    /* +-65504 */
    if (mood == 2) half = (uint16_t)(pick(rng, 0x400) | pick(rng, 2) << 15); /* subnormal */
    memcpy(at, &half, sizeof half);
}

/* n_bytes of blocks: scales of a mood, or (3) any bytes; quants random or all of one byte. */
static uint8_t *random_blocks(struct rng *rng, const struct format *format, size_t n_bytes) {
    const uint8_t extremes[] = {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x88};
    unsigned mood = pick(rng, 5);
    bool same = pick(rng, 4) == 0;
    uint8_t byte = extremes[pick(rng, ARRAY_LEN(extremes))];
    uint8_t *bytes = room(n_bytes, 1);
    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = same ? byte : (uint8_t)rng_next(rng);
    if (mood == 3) return bytes;
    size_t step = dtype_find(format->type)->block_bytes;
    for (uint8_t *b = bytes; b < bytes + n_bytes; b += step) {
        if (format->d_at >= 0) put_scale(rng, b + format->d_at, mood);
        if (format->m_at >= 0) put_scale(rng, b + format->m_at, mood);
        if (format->type == DT_MXFP4)
            b[0] = (uint8_t)(mood == 2 ? pick(rng, 3) : 100 + pick(rng, 40));
    }
    return bytes;
}

/* Activation rows of one kind, made by the scalar table, or quants and scales at their limits. */
static struct kern_act random_act(
        struct trial *t, enum act_kind kind, uint32_t n_in, uint32_t n_rows) {
    float *x = random_floats(&t->rng, (size_t)n_rows * n_in);
    struct kern_act act = {.kind = kind, .n_in = n_in, .n_rows = n_rows, .f32 = x};
    if (kind == ACT_F32) return act;
    size_t n = (size_t)n_rows * n_in, block = kind == ACT_Q8_32 ? 32 : 256;
    int8_t *q = room(n, 1);
    float *d = room(n / block, sizeof *d);
    int16_t *sum16 = room(n / 16, sizeof *sum16);
    t->scalar->quantise(kind, x, n_in, n_rows, n_in, q, d, sum16);
    if (pick(&t->rng, 4) == 0) {
        bool one_sign = pick(&t->rng, 2);
        for (size_t i = 0; i < n; i++)
            q[i] = one_sign || pick(&t->rng, 2) ? 127 : -127;
        for (size_t k = 0; k < n / 16; k++) {
            int sum = 0;
            for (size_t i = 0; i < 16; i++)
                sum += q[16 * k + i];
            sum16[k] = (int16_t)sum;
        }
    }
    act.q = q;
    act.d = d;
    act.sum16 = sum16;
    return act;
}

static void free_act(struct kern_act *act) {
    free((void *)(uintptr_t)act->f32);
    free((void *)(uintptr_t)act->q);
    free((void *)(uintptr_t)act->d);
    free((void *)(uintptr_t)act->sum16);
}

static void *repacked(
        struct trial *t, enum dtype type, uint32_t n_in, uint32_t n_out, const void *rows) {
    enum kern_layout layout = t->ops->layout_of(type);
    uint64_t n_bytes = kern_mat_bytes(type, layout, n_in, n_out);
    assert_true(n_bytes != 0);
    void *to = room(n_bytes, 1);
    uint32_t cut = pick(&t->rng, n_out / 16 + 1) * 16; /* in two ranges, the later one first */
    kern_repack(type, layout, n_in, n_out, cut, n_out, rows, to);
    if (cut != 0) kern_repack(type, layout, n_in, n_out, 0, cut, rows, to);
    return to;
}

/* One matrix times rows picked by `rows`, over a range of outputs; nothing else may be written. */
static void check_matmul(
        struct trial *t, enum dtype type, uint32_t n_in, uint32_t n_out, const void *gguf) {
    struct rng *rng = &t->rng;
    struct kern_act act = random_act(t, dtype_find(type)->act, n_in, between(rng, 1, 9));
    uint32_t rows[9], n_rows = between(rng, 1, 9);
    for (uint32_t r = 0; r < n_rows; r++)
        rows[r] = pick(rng, act.n_rows);
    bool listed = n_rows > act.n_rows || pick(rng, 2);

    uint32_t out0 = pick(rng, (n_out + 15) / 16) * 16, out1 = out0 + between(rng, 1, 5) * 16;
    if (out1 > n_out || pick(rng, 2)) out1 = n_out;
    size_t y_stride = n_out + pick(rng, 9), n_y = n_rows * y_stride;
    float *got = room(n_y, sizeof *got), *want = room(n_y, sizeof *want);
    void *packed = repacked(t, type, n_in, n_out, gguf);
    struct kern_mat native = {type, KERN_NATIVE, n_in, n_out, gguf};
    struct kern_mat w = {type, t->ops->layout_of(type), n_in, n_out, packed};

    t->scalar->matmul(&native, out0, out1, &act, listed ? rows : NULL, n_rows, want, y_stride);
    t->ops->matmul(&w, out0, out1, &act, listed ? rows : NULL, n_rows, got, y_stride);
    expect_floats(t, got, want, n_y);

    free(got);
    free(want);
    free(packed);
    free_act(&act);
}

static void check_quantised(struct trial *t) {
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        const struct dtype_desc *desc = dtype_find(formats[i].type);
        uint32_t n_in = desc->block_elems * between(&t->rng, 1, desc->block_elems == 32 ? 20 : 4);
        uint32_t n_out = between(&t->rng, 1, 70);
        size_t n_bytes = n_out * (size_t)dtype_row_bytes(formats[i].type, n_in);
        uint8_t *gguf = random_blocks(&t->rng, &formats[i], n_bytes);
        t->what = desc->name;
        check_matmul(t, formats[i].type, n_in, n_out, gguf);
        free(gguf);
    }
}

static void check_float_weights(struct trial *t) {
    static const enum dtype types[] = {DT_F32, DT_F16, DT_BF16};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        uint32_t n_in = between(&t->rng, 1, 600), n_out = between(&t->rng, 1, 70);
        size_t n = (size_t)n_in * n_out;
        float *x = random_floats(&t->rng, n);
        void *gguf = x;
        if (types[i] != DT_F32) {
            uint16_t *half = room(n, sizeof *half);
            for (size_t k = 0; k < n; k++)
                half[k] = types[i] == DT_F16 ? f16_from_f32(x[k]) : bf16_from_f32(x[k]);
            gguf = half;
        }
        t->what = dtype_name(types[i]);
        check_matmul(t, types[i], n_in, n_out, gguf);
        if (gguf != x) free(gguf);
        free(x);
    }
}

static void quantised_products_have_the_scalar_bits(void **state) {
    (void)state;
    for_every_table(check_quantised);
}

static void float_products_have_the_scalar_bits(void **state) {
    (void)state;
    for_every_table(check_float_weights);
}

/* ---- rows of floats ----------------------------------------------------------------------- */

static void check_quantise(struct trial *t) {
    enum act_kind kind = pick(&t->rng, 2) ? ACT_Q8_32 : ACT_Q8_256;
    uint32_t block = kind == ACT_Q8_32 ? 32 : 256;
    uint32_t n_in = block * between(&t->rng, 1, 9), n_rows = between(&t->rng, 1, 4);
    size_t stride = n_in + pick(&t->rng, 7), n = (size_t)n_rows * n_in;
    float *x = random_floats(&t->rng, n_rows * stride);
    int8_t *q[2] = {room(n, 1), room(n, 1)};
    float *d[2] = {room(n / block, sizeof(float)), room(n / block, sizeof(float))};
    int16_t *sum16[2] = {room(n / 16, 2), room(n / 16, 2)};
    t->ops->quantise(kind, x, stride, n_rows, n_in, q[0], d[0], sum16[0]);
    t->scalar->quantise(kind, x, stride, n_rows, n_in, q[1], d[1], sum16[1]);
    t->what = "quantise q";
    expect_bytes(t, q[0], q[1], n);
    t->what = "quantise d";
    expect_floats(t, d[0], d[1], n / block);
    t->what = "quantise sum16";
    expect_bytes(t, sum16[0], sum16[1], n / 16 * 2);
    for (int i = 0; i < 2; i++) {
        free(q[i]);
        free(d[i]);
        free(sum16[i]);
    }
    free(x);
}

static void check_norms(struct trial *t) {
    size_t n = between(&t->rng, 1, 700);
    float *x = random_floats(&t->rng, n), *w = random_floats(&t->rng, n);
    float *got = room(n + 8, sizeof *got), *want = room(n + 8, sizeof *want);
    t->what = "sum_squares";
    float sums[] = {t->ops->sum_squares(x, n), t->scalar->sum_squares(x, n)};
    expect_floats(t, &sums[0], &sums[1], 1);

    t->what = "rms_norm";
    const float *weights = pick(&t->rng, 2) ? w : NULL;
    t->ops->rms_norm(got, x, weights, n, 1e-6f);
    t->scalar->rms_norm(want, x, weights, n, 1e-6f);
    expect_floats(t, got, want, n + 8);

    t->what = "add";
    t->ops->add(got, x, n);
    t->scalar->add(want, x, n);
    expect_floats(t, got, want, n + 8);

    t->what = "rms_norm in place";
    t->ops->rms_norm(got, got, w, n, 0.0f);
    t->scalar->rms_norm(want, want, w, n, 0.0f);
    expect_floats(t, got, want, n + 8);
    free(x);
    free(w);
    free(got);
    free(want);
}

static void check_gates(struct trial *t) {
    size_t n = between(&t->rng, 1, 700);
    float *gate = random_floats(&t->rng, n), *up = random_floats(&t->rng, n);
    float *got = room(n + 8, sizeof *got), *want = room(n + 8, sizeof *want);
    float reach = pick(&t->rng, 2) ? 120.0f : 1.0f; /* past both ends of exp */
    for (size_t i = 0; i < n; i++)
        gate[i] *= reach;
    t->what = "glu";
    t->ops->glu(KERN_GLU_SILU, got, gate, up, n);
    t->scalar->glu(KERN_GLU_SILU, want, gate, up, n);
    expect_floats(t, got, want, n + 8);

    t->what = "sigmoid";
    memcpy(got, gate, n * sizeof *got);
    memcpy(want, gate, n * sizeof *want);
    t->ops->sigmoid(got, n);
    t->scalar->sigmoid(want, n);
    expect_floats(t, got, want, n + 8);

    t->what = "softmax";
    memcpy(got, gate, n * sizeof *got);
    memcpy(want, gate, n * sizeof *want);
    t->ops->softmax(got, n);
    t->scalar->softmax(want, n);
    expect_floats(t, got, want, n + 8);
    free(gate);
    free(up);
    free(got);
    free(want);
}

static void check_rope(struct trial *t) {
    uint32_t n_rot = 2 * between(&t->rng, 1, 70), n_heads = between(&t->rng, 1, 5);
    size_t stride = n_rot + pick(&t->rng, 20), n = stride * n_heads;
    enum kern_rope kind = pick(&t->rng, 2) ? KERN_ROPE_NORM : KERN_ROPE_NEOX;
    float *got = random_floats(&t->rng, n), *want = copy_of(got, n, sizeof *got);
    float *cos = random_floats(&t->rng, n_rot / 2), *sin = random_floats(&t->rng, n_rot / 2);
    t->what = kind == KERN_ROPE_NORM ? "rope norm" : "rope neox";
    t->ops->rope(kind, got, n_heads, stride, n_rot, cos, sin);
    t->scalar->rope(kind, want, n_heads, stride, n_rot, cos, sin);
    expect_floats(t, got, want, n);
    free(got);
    free(want);
    free(cos);
    free(sin);
}

/* A whole sweep of exp through sigmoid: every 997th float. */
static void check_all_of_exp(struct trial *t) {
    if (t->number != 0) return;
    float got[1024], want[1024];
    t->what = "sigmoid of every 997th float";
    for (uint64_t bits = 0; bits <= UINT32_MAX;) {
        size_t n = 0;
        for (; n < ARRAY_LEN(got) && bits <= UINT32_MAX; n++, bits += 997)
            got[n] = want[n] = f32_from_bits((uint32_t)bits);
        t->ops->sigmoid(got, n);
        t->scalar->sigmoid(want, n);
        expect_floats(t, got, want, n);
    }
}

static void quantised_rows_have_the_scalar_bits(void **state) {
    (void)state;
    for_every_table(check_quantise);
}

static void norms_have_the_scalar_bits(void **state) {
    (void)state;
    for_every_table(check_norms);
}

static void gates_and_softmax_have_the_scalar_bits(void **state) {
    (void)state;
    for_every_table(check_gates);
    for_every_table(check_all_of_exp);
}

static void rotations_have_the_scalar_bits(void **state) {
    (void)state;
    for_every_table(check_rope);
}

/* ---- attention ---------------------------------------------------------------------------- */

/* NaN halves equal each other. */
static void expect_halves(
        const struct trial *t, const uint8_t *got, const uint8_t *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float a = load_f16(got + 2 * i), b = load_f16(want + 2 * i);
        expect_floats(t, &a, &b, 1);
    }
}

static void expect_cache_row(const struct trial *t, enum dtype type, const uint8_t *got,
        const uint8_t *want, uint32_t n) {
    if (type == DT_F16) {
        expect_halves(t, got, want, n);
        return;
    }
    size_t n_quants = type == DT_Q8_0 ? n : 0, n_floats = type == DT_Q8_0 ? n / 32 : n;
    expect_bytes(t, got, want, n_quants);
    for (size_t i = 0; i < n_floats; i++) {
        float a, b;
        memcpy(&a, got + n_quants + 4 * i, 4);
        memcpy(&b, want + n_quants + 4 * i, 4);
        expect_floats(t, &a, &b, 1);
    }
}

/* A cache of n_pos rows; both tables store each row and must agree. Caller frees. */
static uint8_t *random_cache(struct trial *t, enum dtype type, uint32_t n_pos, uint32_t n_dim) {
    size_t row = kern_kv_row_bytes(type, n_dim);
    uint8_t *cache = room(n_pos * row, 1), *other = room(row, 1);
    float *x = random_floats(&t->rng, (size_t)n_pos * n_dim);
    for (uint32_t j = 0; j < n_pos; j++) {
        t->scalar->kv_store(type, cache + j * row, x + (size_t)j * n_dim, n_dim);
        t->ops->kv_store(type, other, x + (size_t)j * n_dim, n_dim);
        t->what = "kv_store";
        expect_cache_row(t, type, other, cache + j * row, n_dim);
    }
    free(x);
    free(other);
    return cache;
}

static void check_attend(struct trial *t) {
    static const enum dtype types[] = {DT_F32, DT_F16, DT_Q8_0};
    struct rng *rng = &t->rng;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        uint32_t step = types[i] == DT_Q8_0 ? 32 : 1;
        struct kern_attn a = {.kv_type = types[i], .n_q = between(rng, 1, 9), .scale = 0.125f};
        a.n_dim_k = step * between(rng, 1, 160 / step);
        a.n_dim_v = step * between(rng, 1, 160 / step);
        a.end = between(rng, 1, 300);
        a.first = pick(rng, 2) ? pick(rng, a.end) : 0;
        a.q_stride = a.n_dim_k + pick(rng, 9);
        a.out_stride = a.n_dim_v + pick(rng, 9);
        uint8_t *k = random_cache(t, types[i], a.end, a.n_dim_k);
        uint8_t *v = random_cache(t, types[i], a.end, a.n_dim_v);
        float *q = random_floats(rng, a.n_q * a.q_stride), *sinks = random_floats(rng, a.n_q);
        size_t n_out = a.n_q * a.out_stride;
        size_t n_scratch = kern_attn_scratch_floats(a.n_dim_k, a.n_dim_v, a.n_q);
        float *got = room(n_out, sizeof *got), *want = room(n_out, sizeof *want);
        a.k = k;
        a.v = v;
        a.q = q;
        a.sinks = pick(rng, 2) ? sinks : NULL;
        a.scratch = room(n_scratch, sizeof *a.scratch);
        a.out = want;
        t->scalar->attend(&a);
        a.out = got;
        t->ops->attend(&a);
        static const char *const what[] = {"attend f32", "attend f16", "attend q8_0"};
        t->what = what[i];
        expect_floats(t, got, want, n_out);
        free(k);
        free(v);
        free(q);
        free(sinks);
        free(got);
        free(want);
        free(a.scratch);
    }
}

static void attention_has_the_scalar_bits(void **state) {
    (void)state;
    for_every_table(check_attend);
}

/* ---- merging ------------------------------------------------------------------------------ */

static void check_merge(struct trial *t) {
    struct rng *rng = &t->rng;
    size_t n = between(rng, 1, 200);
    float *y = random_floats(rng, n), weight = random_float(rng, MOOD_PLAIN);
    int grid = (int)between(rng, 0, 218) - 118;
    if (pick(rng, 3)) grid = (int)between(rng, 0, 40) - 40; /* steps from few to over 2^31 */
    int64_t *got = room(n, sizeof *got), *want;
    for (size_t i = 0; i < n; i++)
        got[i] = (int64_t)(rng_next(rng) << (rng_below(rng, 2) * 20)) >> between(rng, 12, 60);
    want = copy_of(got, n, sizeof *got);

    t->what = "merge_add";
    bool fits = t->ops->merge_add(got, y, weight, grid, n);
    bool scalar_fits = t->scalar->merge_add(want, y, weight, grid, n);
    assert_int_equal(fits, scalar_fits);
    for (size_t i = 0; fits && i < n; i++)
        if (got[i] != want[i]) fail_at(t, i, (double)got[i], (double)want[i]);

    t->what = "merge_apply";
    float *x = random_floats(rng, n + 8), *x_want = copy_of(x, n + 8, sizeof *x);
    t->ops->merge_apply(x, want, grid, n);
    t->scalar->merge_apply(x_want, want, grid, n);
    expect_floats(t, x, x_want, n + 8);
    free(y);
    free(got);
    free(want);
    free(x);
    free(x_want);
}

/* Halves, ties and the limits of every width on the way to 64 bits. */
static void check_merge_edges(struct trial *t) {
    static const float steps[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0x1.fffffep+21f, 0x1.fffffep+22f,
            -0x1.000001p+22f, 0x1p23f, 0x1.fffffep+29f, 0x1p30f, 0x1.fffffep+30f, 0x1p31f, -0x1p31f,
            -0x1.000002p+31f, 0x1p32f, 0x1.fffffep+51f, -0x1.fffffep+51f};
    size_t n = between(&t->rng, 1, 64);
    float y[64];
    int64_t got[64] = {0}, want[64] = {0};
    bool over = pick(&t->rng, 4) == 0;
    for (size_t i = 0; i < n; i++)
        y[i] = steps[pick(&t->rng, ARRAY_LEN(steps))];
    if (over) y[n / 2] = pick(&t->rng, 2) ? 0x1p52f : -0x1p63f;
    t->what = "merge_add at the edges";
    assert_int_equal(t->ops->merge_add(got, y, 1.0f, 0, n), !over);
    assert_int_equal(t->scalar->merge_add(want, y, 1.0f, 0, n), !over);
    for (size_t i = 0; !over && i < n; i++)
        if (got[i] != want[i]) fail_at(t, i, (double)got[i], (double)want[i]);
}

static void merging_has_the_scalar_bits(void **state) {
    (void)state;
    for_every_table(check_merge);
    for_every_table(check_merge_edges);
}

/* ---- the layout --------------------------------------------------------------------------- */

static void interleaved_weights_take_hardly_more_bytes(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        for (uint64_t n_in = 256; n_in <= 8192; n_in += 256)
            for (uint64_t n_out = 1; n_out < 70; n_out += 7) {
                uint64_t rows = align_up(n_out, 16);
                uint64_t gguf = rows * dtype_row_bytes(formats[i].type, n_in);
                uint64_t bytes = r16_bytes(formats[i].type, n_in, n_out);
                assert_true(bytes >= gguf);
                assert_true(bytes <= gguf + gguf / 25 + rows / 16 * R16_ALIGN);
            }
}

static void sizes_of_interleaved_weights_do_not_overflow(void **state) {
    (void)state;
    assert_int_equal(r16_bytes(DT_Q4_K, 256, UINT64_MAX), 0);
    assert_int_equal(r16_bytes(DT_Q8_0, UINT64_MAX / 32 * 32, 1), 0);
    assert_int_equal(r16_bytes(DT_Q8_0, 33, 1), 0);
    assert_int_equal(r16_bytes(DT_F32, 32, 16), 0);
    assert_int_equal(r16_bytes(DT_Q4_0, 32, 17), 2 * (64 + 256));
}

int main(void) {
    printf("POTLUCK_SEED=%" PRIu64 ", tables:", base_seed());
    for (unsigned i = 0; kern_at(i) != NULL; i++)
        printf(" %s", kern_at(i)->name);
    printf("\n");
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(interleaved_weights_take_hardly_more_bytes),
            cmocka_unit_test(sizes_of_interleaved_weights_do_not_overflow),
            cmocka_unit_test(quantised_products_have_the_scalar_bits),
            cmocka_unit_test(float_products_have_the_scalar_bits),
            cmocka_unit_test(quantised_rows_have_the_scalar_bits),
            cmocka_unit_test(norms_have_the_scalar_bits),
            cmocka_unit_test(gates_and_softmax_have_the_scalar_bits),
            cmocka_unit_test(rotations_have_the_scalar_bits),
            cmocka_unit_test(attention_has_the_scalar_bits),
            cmocka_unit_test(merging_has_the_scalar_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
