/* kern_golden_test.c - the bits of every operation on seeded inputs, as hashes kept here.
 *
 * The same on every machine, compiler and instruction set: a difference means that the arithmetic
 * contract (docs/numerics.md) was changed or broken, and that two machines would not agree. */
#include "kernels/kern.h"

#include "proto/base/checked.h"
#include "proto/base/rng.h"
#include "proto/base/sha256.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_IN 512
#define N_OUT 40
#define N_ROWS 3

/* Name of the operation (a type: the matrix product) and the first 16 digits of its SHA-256. */
static const struct {
    const char *name, *hash;
} golden[] = {
        {"F32", "a3f983c713c6f64a"},
        {"F16", "3d7bad9ec9c068f0"},
        {"BF16", "bc23d59b328daa71"},
        {"Q4_0", "32bb64a55f159e1a"},
        {"Q4_1", "c61a6bddbb9852f5"},
        {"Q5_0", "d54c2303ce304569"},
        {"Q5_1", "1c3cc7dbd8a62bd8"},
        {"Q8_0", "da6a13f085bc9a4b"},
        {"IQ4_NL", "ea5e472ccfdaeda9"},
        {"MXFP4", "00b062c2ee347b5c"},
        {"Q2_K", "700ff71a312bfe52"},
        {"Q3_K", "8886db5b35aa3ebc"},
        {"Q4_K", "e30b8f528a843b81"},
        {"Q5_K", "bfcecaedd0461d6a"},
        {"Q6_K", "c39de8c4010dd1f1"},
        {"IQ4_XS", "d48099a59340a093"},
        {"quantise32", "3f2f321d51d837c7"},
        {"quantise256", "7d0fb18d3ab1d789"},
        {"exp", "2a27559561063a05"},
        {"log", "2a3682e1d4a1f43c"},
        {"rope", "b8b2d9e29ebb2e32"},
        {"rms_norm", "4578ef6ca8abae41"},
        {"glu", "6d09932341ab08c8"},
        {"softmax", "847b90d2ada9a57d"},
        {"sigmoid", "73609925d2592b7d"},
        {"attend_f32", "7a0360666022decb"},
        {"attend_f16", "8c89c4d6ba8c1674"},
        {"attend_q8_0", "32c8343911ee86c5"},
        {"merge", "659dcb03aca0c907"},
};

/* Fills n floats in (-scale, scale). */
static void fill(struct rng *rng, float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(rng_unit(rng) * 2 - 1) * scale;
}

/* One random block whose values are finite and not huge. */
static void random_block(struct rng *rng, enum dtype type, uint8_t *block) {
    const struct dtype_desc *desc = dtype_find(type);
    float values[256];
    bool sane;
    do {
        for (uint32_t i = 0; i < desc->block_bytes; i++)
            block[i] = (uint8_t)(rng_next(rng) >> 32);
        kern_dequantise(type, block, desc->block_elems, values);
        sane = true;
        for (uint32_t i = 0; i < desc->block_elems; i++)
            sane = sane && fabsf(values[i]) < 1e4f;
    } while (!sane);
}

static void hash_matmul(const struct kern_ops *ops, enum dtype type, struct sha256 *sha) {
    static float x[N_ROWS * N_IN], d[N_ROWS * N_IN / 32], y[N_ROWS * N_OUT];
    static int8_t q[N_ROWS * N_IN];
    static int16_t sum16[N_ROWS * N_IN / 16];
    const struct dtype_desc *desc = dtype_find(type);
    enum kern_layout layout = ops->layout_of(type);
    struct rng rng;
    rng_init(&rng, type);
    uint64_t n_bytes = kern_mat_bytes(type, KERN_NATIVE, N_IN, N_OUT);
    uint64_t n_repacked = kern_mat_bytes(type, layout, N_IN, N_OUT);
    uint8_t *gguf = malloc(n_bytes), *bytes = aligned_alloc(64, align_up(n_repacked, 64));
    assert_true(gguf && bytes);
    for (uint64_t at = 0; at < n_bytes; at += desc->block_bytes)
        random_block(&rng, type, gguf + at);
    kern_repack(type, layout, N_IN, N_OUT, 0, N_OUT, gguf, bytes);
    fill(&rng, x, ARRAY_LEN(x), 3.0f);
    if (desc->act != ACT_F32) ops->quantise(desc->act, x, N_IN, N_ROWS, N_IN, q, d, sum16);
    struct kern_mat mat = {type, layout, N_IN, N_OUT, bytes};
    struct kern_act act = {desc->act, N_IN, N_ROWS, x, q, d, sum16};
    ops->matmul(&mat, 0, N_OUT, &act, NULL, N_ROWS, y, N_OUT);
    sha256_update(sha, y, sizeof y);
    free(gguf);
    free(bytes);
}

static void hash_quantise(
        const struct kern_ops *ops, enum act_kind kind, struct rng *rng, struct sha256 *sha) {
    float x[N_IN], d[N_IN / 32];
    int8_t q[N_IN];
    int16_t sum16[N_IN / 16];
    for (int round = 0; round < 50; round++) {
        fill(rng, x, N_IN, ldexpf(1.0f, round * 4 - 110));
        ops->quantise(kind, x, N_IN, 1, N_IN, q, d, sum16);
        sha256_update(sha, q, sizeof q);
        sha256_update(sha, d, N_IN / (kind == ACT_Q8_32 ? 32 : 256) * sizeof *d);
        sha256_update(sha, sum16, sizeof sum16);
    }
}

static void hash_rows(
        const struct kern_ops *ops, const char *name, struct rng *rng, struct sha256 *sha) {
    float x[N_IN], y[N_IN], w[N_IN];
    for (size_t n = 1; n < N_IN; n += 51) {
        fill(rng, x, N_IN, 20.0f);
        fill(rng, w, N_IN, 2.0f);
        memset(y, 0, sizeof y);
        if (strcmp(name, "rms_norm") == 0) {
            ops->rms_norm(y, x, w, n, 1e-6f);
        } else if (strcmp(name, "glu") == 0) {
            ops->glu(KERN_GLU_SILU, y, x, w, n);
        } else {
            memcpy(y, x, sizeof y);
            if (strcmp(name, "softmax") == 0) {
                ops->softmax(y, n);
            } else {
                assert_string_equal(name, "sigmoid");
                ops->sigmoid(y, n);
            }
        }
        sha256_update(sha, y, sizeof y);
    }
}

static void hash_exp(struct sha256 *sha) {
    for (uint64_t bits = 0; bits < 1ULL << 32; bits += 10007) {
        uint32_t word = (uint32_t)bits;
        float x;
        memcpy(&x, &word, sizeof x);
        float y = kern_exp(x);
        if (y == y) sha256_update(sha, &y, sizeof y);
    }
}

static void hash_log(struct rng *rng, struct sha256 *sha) {
    for (int i = 0; i < 10000; i++) {
        double x = rng_unit(rng) + 0.5;
        double y = kern_log(ldexp(x, i % 200 - 100));
        sha256_update(sha, &y, sizeof y);
    }
}

static void hash_rope(const struct kern_ops *ops, struct rng *rng, struct sha256 *sha) {
    double inv_freq[32];
    float cos_row[32], sin_row[32], x[N_IN];
    for (uint32_t i = 0; i < 32; i++)
        inv_freq[i] = kern_rope_inv_freq(500000.0, i, 64);
    for (uint64_t position = 0; position < 2000000; position = position * 2 + 1) {
        kern_rope_angles(inv_freq, 32, position, 1.1f, cos_row, sin_row);
        fill(rng, x, N_IN, 3.0f);
        ops->rope(position % 4 == 1 ? KERN_ROPE_NORM : KERN_ROPE_NEOX, x, 6, 80, 64, cos_row,
                sin_row);
        sha256_update(sha, x, sizeof x);
    }
}

static void hash_attend(
        const struct kern_ops *ops, enum dtype kv_type, struct rng *rng, struct sha256 *sha) {
    enum { POS = 200, DIM_K = 96, DIM_V = 64, N_Q = 2 };
    static uint8_t k[POS * DIM_K * 4], v[POS * DIM_V * 4];
    float row[DIM_K], q[N_Q * DIM_K], out[N_Q * DIM_V];
    const float sinks[N_Q] = {0.5f, -1.5f};
    for (uint32_t j = 0; j < POS; j++) {
        fill(rng, row, DIM_K, 2.0f);
        ops->kv_store(kv_type, k + j * kern_kv_row_bytes(kv_type, DIM_K), row, DIM_K);
        fill(rng, row, DIM_V, 1.0f);
        ops->kv_store(kv_type, v + j * kern_kv_row_bytes(kv_type, DIM_V), row, DIM_V);
    }
    fill(rng, q, ARRAY_LEN(q), 2.0f);
    size_t n_scratch = kern_attn_scratch_floats(DIM_K, DIM_V, N_Q);
    struct kern_attn attn = {.kv_type = kv_type,
            .n_dim_k = DIM_K,
            .n_dim_v = DIM_V,
            .n_q = N_Q,
            .scale = 0.1f,
            .k = k,
            .v = v,
            .q = q,
            .q_stride = DIM_K,
            .out = out,
            .out_stride = DIM_V};
    attn.scratch = aligned_alloc(64, align_up(n_scratch * sizeof(float), 64));
    assert_non_null(attn.scratch);
    for (uint32_t end = 1; end <= POS; end += 37) {
        attn.first = end > 120 ? end - 100 : 0;
        attn.end = end;
        attn.sinks = end % 2 ? sinks : NULL;
        ops->attend(&attn);
        sha256_update(sha, out, sizeof out);
    }
    free(attn.scratch);
}

static void hash_merge(const struct kern_ops *ops, struct rng *rng, struct sha256 *sha) {
    float x[N_IN], y[N_IN];
    int64_t sum[N_IN] = {0};
    fill(rng, x, N_IN, 5.0f);
    int grid = kern_grid(ops->sum_squares(x, N_IN), N_IN, KERN_GRID_BITS);
    for (int expert = 0; expert < 8; expert++) {
        fill(rng, y, N_IN, ldexpf(1.0f, 3 * expert - 4));
        assert_true(ops->merge_add(sum, y, 0.123f * (float)(expert + 1), grid, N_IN));
    }
    ops->merge_apply(x, sum, grid, N_IN);
    sha256_update(sha, sum, sizeof sum);
    sha256_update(sha, x, sizeof x);
}

/* The hash of one line of the table above. */
static void hash_line(const struct kern_ops *ops, const char *name, char out_hex[65]) {
    struct rng rng;
    struct sha256 sha;
    rng_init(&rng, 1);
    sha256_init(&sha);
    if (strcmp(name, "quantise32") == 0)
        hash_quantise(ops, ACT_Q8_32, &rng, &sha);
    else if (strcmp(name, "quantise256") == 0)
        hash_quantise(ops, ACT_Q8_256, &rng, &sha);
    else if (strcmp(name, "exp") == 0)
        hash_exp(&sha);
    else if (strcmp(name, "log") == 0)
        hash_log(&rng, &sha);
    else if (strcmp(name, "rope") == 0)
        hash_rope(ops, &rng, &sha);
    else if (strcmp(name, "attend_f32") == 0)
        hash_attend(ops, DT_F32, &rng, &sha);
    else if (strcmp(name, "attend_f16") == 0)
        hash_attend(ops, DT_F16, &rng, &sha);
    else if (strcmp(name, "attend_q8_0") == 0)
        hash_attend(ops, DT_Q8_0, &rng, &sha);
    else if (strcmp(name, "merge") == 0)
        hash_merge(ops, &rng, &sha);
    else
        hash_rows(ops, name, &rng, &sha);
    sha256_final_hex(&sha, out_hex);
}

/* True if the name is a type's; then its product was hashed. */
static bool hash_type(const struct kern_ops *ops, const char *name, char out_hex[65]) {
    for (uint32_t type = 0; type < DT_COUNT; type++) {
        if (dtype_find(type) == NULL || strcmp(dtype_name(type), name) != 0) continue;
        struct sha256 sha;
        sha256_init(&sha);
        hash_matmul(ops, (enum dtype)type, &sha);
        sha256_final_hex(&sha, out_hex);
        return true;
    }
    return false;
}

static void operations_have_the_same_bits_everywhere(void **state) {
    (void)state;
    const struct kern_ops *ops;
    unsigned n_wrong = 0;
    for (unsigned t = 0; (ops = kern_at(t)) != NULL; t++)
        for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
            char hex[65];
            if (!hash_type(ops, golden[i].name, hex)) hash_line(ops, golden[i].name, hex);
            if (strncmp(hex, golden[i].hash, 16) == 0) continue;
            print_message("%s: {\"%s\", \"%.16s\"}\n", ops->name, golden[i].name, hex);
            n_wrong++;
        }
    assert_int_equal(n_wrong, 0);
}

/* A type that can be multiplied with must have a line. */
static void every_computable_type_has_a_hash(void **state) {
    (void)state;
    for (uint32_t type = 0; type < DT_COUNT; type++) {
        if (dtype_find(type) == NULL || !dtype_find(type)->computable) continue;
        bool found = false;
        for (size_t i = 0; i < ARRAY_LEN(golden); i++)
            found = found || strcmp(golden[i].name, dtype_name(type)) == 0;
        assert_true(found);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(operations_have_the_same_bits_everywhere),
            cmocka_unit_test(every_computable_type_has_a_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
