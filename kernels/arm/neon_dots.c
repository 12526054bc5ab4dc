/* neon_dots.c - matrix products with F32, F16 and BF16 weights, by the sixteen lanes of rule 1.
 *
 * A tile is DOT_OUT output rows times DOT_ROWS activation rows, or four output rows times one, each
 * pair with four registers of lanes. Within a step of sixteen elements the tile is walked register by
 * register, so that what is loaded is used at once and 24 registers are left for sums.
 * Owns: nothing. Does not: quantised types. Runs on: any thread of an aarch64 CPU. */
#include "kernels/arm/neon_set.h"

#include "kernels/arm/neon_lanes.h"

#define DOT_OUT 2
#define DOT_ROWS 3
#define DOT_OUT_ONE_ROW 4

/* One tile: weight rows row_bytes apart, activation rows at x[r], results to y[r][o]. */
struct dots {
    const uint8_t *w;
    size_t row_bytes;
    size_t n_in;
    const float *x[EACH_MAX];
    float *y[EACH_MAX];
};

INLINE size_t elem_bytes(enum dtype type) {
    return type == DT_F32 ? 4 : 2;
}

/* Four weights, widened. */
INLINE float32x4_t load_weights(enum dtype type, const uint8_t *p) {
    if (type == DT_F32) return vreinterpretq_f32_u8(vld1q_u8(p));
    if (type == DT_F16) return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

/* The last n < 16 weights of a row; reads no byte past them. */
INLINE struct lanes load_last_weights(enum dtype type, const uint8_t *p, size_t n) {
    uint8_t padded[64] = {0};
    memcpy(padded, p, n * elem_bytes(type));
    LANES_OF(i, load_weights(type, padded + 4 * i * elem_bytes(type)));
}

/* acc[o][r] += the products of the last n_last < 16 elements, from element i. */
INLINE void add_last(enum dtype type, const struct dots *t, int n_out, int n_rows, size_t i,
        struct lanes (*acc)[EACH_MAX]) {
    size_t n_last = t->n_in - i;
    EACH_PART(o, n_out, {
        const uint8_t *p = t->w + o * t->row_bytes + i * elem_bytes(type);
        struct lanes w = load_last_weights(type, p, n_last);
        EACH_PART(r, n_rows, {
            struct lanes sum = ln_fma(w, ln_load_first(t->x[r] + i, n_last), acc[o][r]);
            acc[o][r] = ln_keep_after(sum, n_last, acc[o][r]);
        });
    });
}

INLINE void run_dots(enum dtype type, const struct dots *t, int n_out, int n_rows) {
    struct lanes acc[PARTS][EACH_MAX];
    EACH_PART(o, n_out, EACH_PART(r, n_rows, acc[o][r] = ln_zero()));
    size_t i = 0;
    for (; i + 16 <= t->n_in; i += 16)
        EACH_PART(quarter, 4, {
            float32x4_t x[PARTS];
            EACH_PART(r, n_rows, x[r] = vld1q_f32(t->x[r] + i + 4 * quarter));
            EACH_PART(o, n_out, {
                const uint8_t *p = t->w + o * t->row_bytes + (i + 4 * quarter) * elem_bytes(type);
                float32x4_t w = load_weights(type, p);
                EACH_PART(r, n_rows,
                        { acc[o][r].v[quarter] = vfmaq_f32(acc[o][r].v[quarter], w, x[r]); });
            });
        });
    if (i < t->n_in) add_last(type, t, n_out, n_rows, i, acc);
    if (n_out == 4) {
        EACH_PART(r, n_rows,
                { vst1q_f32(t->y[r], ln_sum4(acc[0][r], acc[1][r], acc[2][r], acc[3][r])); });
    } else {
        EACH_PART(r, n_rows, EACH_PART(o, n_out, t->y[r][o] = ln_sum(acc[o][r])));
    }
}

#define DOT_KERNELS(name, type)                                                                    \
    static void name##_full(const struct dots *t) {                                                \
        run_dots(type, t, DOT_OUT, DOT_ROWS);                                                      \
    }                                                                                              \
    static void name##_one_row(const struct dots *t) {                                             \
        run_dots(type, t, DOT_OUT_ONE_ROW, 1);                                                     \
    }                                                                                              \
    static void name##_one(const struct dots *t) {                                                 \
        run_dots(type, t, 1, 1);                                                                   \
    }

DOT_KERNELS(f32, DT_F32)
DOT_KERNELS(f16, DT_F16)
DOT_KERNELS(bf16, DT_BF16)

struct dot_kernels {
    void (*full)(const struct dots *);
    void (*one_row)(const struct dots *);
    void (*one)(const struct dots *);
};

static const struct dot_kernels *kernels_of(enum dtype type) {
    static const struct dot_kernels f32 = {f32_full, f32_one_row, f32_one};
    static const struct dot_kernels f16 = {f16_full, f16_one_row, f16_one};
    static const struct dot_kernels bf16 = {bf16_full, bf16_one_row, bf16_one};
    return type == DT_F32 ? &f32 : type == DT_F16 ? &f16 : &bf16;
}

/* Activation bytes of a panel that stays in L2 while weights stream past it. */
#define PANEL_BYTES (512 * 1024)

void neon_matmul_float(const struct kern_mat *w, uint32_t out0, uint32_t out1,
        const struct kern_act *x, const uint32_t *rows, uint32_t n_rows, float *y,
        size_t y_stride) {
    const struct dot_kernels *kernels = kernels_of(w->type);
    struct dots t = {.row_bytes = w->n_in * elem_bytes(w->type), .n_in = w->n_in};
    uint32_t panel = PANEL_BYTES / 4 / (w->n_in + 1) / DOT_ROWS * DOT_ROWS;
    if (panel < DOT_ROWS) panel = DOT_ROWS;

    for (uint32_t panel0 = 0; panel0 < n_rows; panel0 += panel) {
        uint32_t panel1 = n_rows - panel0 < panel ? n_rows : panel0 + panel;
        for (uint32_t out = out0, n_out; out < out1; out += n_out) {
            n_out = out1 - out < DOT_OUT_ONE_ROW ? 1 : DOT_OUT_ONE_ROW;
            for (uint32_t r0 = panel0, n; r0 < panel1; r0 += n) {
                n = n_out == 1 || panel1 - r0 < DOT_ROWS ? 1 : DOT_ROWS;
                for (uint32_t i = 0; i < n; i++) {
                    size_t row = rows == NULL ? r0 + i : rows[r0 + i];
                    t.x[i] = x->f32 + row * x->n_in;
                }
                /* DOT_OUT divides DOT_OUT_ONE_ROW: one or two tiles. */
                for (uint32_t o = 0; o < n_out; o += n == 1 ? n_out : DOT_OUT) {
                    t.w = (const uint8_t *)w->bytes + (out + o) * t.row_bytes;
                    for (uint32_t i = 0; i < n; i++)
                        t.y[i] = y + (r0 + i) * y_stride + out + o;
                    (n_out == 1 ? kernels->one : n == 1 ? kernels->one_row : kernels->full)(&t);
                }
            }
        }
    }
}
