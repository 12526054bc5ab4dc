/* dequant_test.c - GGUF blocks as floats: the reference vectors, half-width floats, sizes. */
#include "kernels/kern.h"

#include "kernels/ref/blocks.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "proto/base/checked.h"

static json_t *load_vectors(void) {
    const char *shared = getenv("POTLUCK_SHARED");
    char path[1024];
    snprintf(path, sizeof path, "%s/reference/vectors/quants.json", shared ? shared : "../shared");
    json_error_t error;
    json_t *vectors = json_load_file(path, 0, &error);
    if (vectors == NULL) {
        print_message("%s: %s\n", path, error.text);
        skip();
    }
    return vectors;
}

/* Caller frees. */
static uint8_t *parse_hex(const char *hex, size_t *out_n) {
    size_t n = strlen(hex) / 2;
    uint8_t *bytes = malloc(n + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        bytes[i] = (uint8_t)byte;
    }
    *out_n = n;
    return bytes;
}

static bool same(float a, float b) {
    return a == b || (a != a && b != b);
}

/* Checks one type's row; returns how many values were compared. */
static size_t check_type(const char *name, json_t *entry) {
    enum dtype type = (enum dtype)json_integer_value(json_object_get(entry, "type_id"));
    const struct dtype_desc *desc = dtype_find(type);
    assert_non_null(desc);
    assert_string_equal(desc->name, name);
    assert_int_equal(desc->block_elems, json_integer_value(json_object_get(entry, "block_elems")));
    assert_int_equal(desc->block_bytes, json_integer_value(json_object_get(entry, "block_bytes")));
    if (!desc->computable) return 0;

    json_t *values = json_object_get(entry, "values");
    size_t n = json_array_size(values), n_bytes;
    uint8_t *bytes = parse_hex(json_string_value(json_object_get(entry, "block_hex")), &n_bytes);
    assert_int_equal(n_bytes, dtype_row_bytes(type, n));
    float *got = malloc(n * sizeof *got);
    assert_non_null(got);
    kern_dequantise(type, bytes, n, got);
    for (size_t i = 0; i < n; i++) {
        float expected = (float)json_number_value(json_array_get(values, i));
        if (!same(got[i], expected))
            fail_msg("%s element %zu: got %a, expected %a", name, i, (double)got[i],
                    (double)expected);
    }
    free(got);
    free(bytes);
    return n;
}

static void reference_blocks_decode_to_reference_values(void **state) {
    (void)state;
    json_t *vectors = load_vectors(), *entry;
    const char *name;
    unsigned n_types = 0, n_computable = 0;
    json_object_foreach(vectors, name, entry) n_types += check_type(name, entry) > 0;
    for (uint32_t id = 0; id < DT_COUNT; id++)
        n_computable += dtype_find(id) != NULL && dtype_find(id)->computable;
    print_message("%u types of %u computable ones\n", n_types, n_computable);
    /* F32 is the one type without vectors. */
    assert_true(n_types + 1 >= n_computable);
    json_decref(vectors);
}

/* The value of a finite half by the format's definition. */
static double half_value(uint16_t half) {
    int e = half >> 10 & 31, fraction = half & 1023;
    double magnitude = e ? ldexp(1024 + fraction, e - 25) : ldexp(fraction, -24);
    return half & 0x8000 ? -magnitude : magnitude;
}

static void every_half_widens_exactly(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float got = f16_to_f32((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00) {
            assert_true(got != got);
        } else if ((h & 0x7fff) == 0x7c00) {
            assert_true(got == (h & 0x8000 ? -INFINITY : INFINITY));
        } else {
            assert_true((double)got == half_value((uint16_t)h));
            assert_true(!signbit(got) == !(h & 0x8000));
            assert_int_equal(f16_from_f32(got), h);
        }
    }
}

/* Around the middle of every two neighbouring halves, the largest and infinity included. */
static void halves_round_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float middle = (float)((half_value((uint16_t)h) +
                                       (h == 0x7bff ? 65536.0 : half_value((uint16_t)(h + 1)))) /
                               2);
        uint32_t even = h % 2 ? h + 1 : h;
        assert_int_equal(f16_from_f32(middle), even);
        assert_int_equal(f16_from_f32(-middle), even | 0x8000);
        assert_int_equal(f16_from_f32(nextafterf(middle, 0.0f)), h);
        assert_int_equal(f16_from_f32(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(f16_from_f32(INFINITY), 0x7c00);
    assert_int_equal(f16_from_f32(-1e30f), 0xfc00);
    assert_int_equal(f16_from_f32(0x1p-149f), 0);
    assert_true((f16_from_f32(NAN) & 0x7fff) > 0x7c00);
    assert_true((f16_from_f32(f32_from_bits(0x7f800001)) & 0x7fff) > 0x7c00);
}

static void bfloat16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7f80; h++) {
        uint32_t even = h % 2 ? h + 1 : h;
        assert_int_equal(bf16_from_f32(f32_from_bits(h << 16)), h);
        assert_int_equal(bf16_from_f32(f32_from_bits(h << 16 | 0x8000)), even);
        assert_int_equal(bf16_from_f32(f32_from_bits(h << 16 | 0x7fff)), h);
        assert_int_equal(
                bf16_from_f32(f32_from_bits(h << 16 | 0x8001 | 1U << 31)), (h + 1) | 0x8000);
        assert_true(f32_bits(bf16_to_f32((uint16_t)h)) == h << 16);
    }
    float nan = f32_from_bits(0x7f800001);
    assert_true(bf16_to_f32(bf16_from_f32(nan)) != bf16_to_f32(bf16_from_f32(nan)));
}

static void mxfp4_scales_reach_from_subnormal_to_nan(void **state) {
    (void)state;
    for (int e = 0; e < 255; e++)
        assert_true((double)e8m0_half_to_f32((uint8_t)e) == ldexp(1.0, e - 128));
    uint8_t block[17] = {255, 0x21};
    float out[32];
    kern_dequantise(DT_MXFP4, block, 32, out);
    for (size_t i = 0; i < 32; i++)
        assert_true(out[i] != out[i]);
}

/* Activation blocks of the vectors taken apart: Q8_0 and Q8_1 have 32 quants, Q8_K 256. */
struct act_rows {
    int8_t q[1024];
    float d[32];
    int16_t sum16[64];
};

static void read_act(const char *type, const uint8_t *bytes, size_t n, struct act_rows *act) {
    bool is_k = strcmp(type, "Q8_K") == 0;
    size_t block = is_k ? 256 : 32, head = is_k || strcmp(type, "Q8_1") == 0 ? 4 : 2;
    memset(act, 0, sizeof *act);
    for (size_t i = 0; i < n; i += block, bytes += head + block + (is_k ? 32 : 0)) {
        act->d[i / block] = is_k ? f32_from_bits(load_u32(bytes)) : load_f16(bytes);
        memcpy(act->q + i, bytes + head, block);
        for (size_t j = i; j < i + block; j++)
            act->sum16[j / 16] = (int16_t)(act->sum16[j / 16] + act->q[j]);
    }
}

/* The scalar product of one type's vector row with its activation row; false where there is none. */
static bool check_dot(const char *name, json_t *entry) {
    enum dtype type = (enum dtype)json_integer_value(json_object_get(entry, "type_id"));
    json_t *dot = json_object_get(entry, "dot");
    if (!dtype_find(type)->computable || dot == NULL) return false;
    const char *act_type = json_string_value(json_object_get(dot, "act_type"));
    size_t n = json_array_size(json_object_get(entry, "values")), n_w, n_x;
    uint8_t *w = parse_hex(json_string_value(json_object_get(entry, "block_hex")), &n_w);
    uint8_t *x = parse_hex(json_string_value(json_object_get(dot, "act_hex")), &n_x);
    struct act_rows rows;
    assert_true(n <= sizeof rows.q);
    read_act(act_type, x, n, &rows);
    float wide[1024], y;
    double magnitude = 0;
    kern_dequantise(type, w, n, wide);
    size_t block = strcmp(act_type, "Q8_K") == 0 ? 256 : 32;
    for (size_t i = 0; i < n; i++)
        magnitude += fabs((double)wide[i] * rows.q[i] * (double)rows.d[i / block]);

    struct kern_mat mat = {type, KERN_NATIVE, (uint32_t)n, 1, w};
    struct kern_act act = {.kind = dtype_find(type)->act,
            .n_in = (uint32_t)n,
            .n_rows = 1,
            .q = rows.q,
            .d = rows.d,
            .sum16 = rows.sum16};
    kern_ops_scalar.matmul(&mat, 0, 1, &act, NULL, 1, &y, 1);
    /* Q8_1 rounds the sum that meets the minimum to binary16; we keep the exact sum. */
    double tolerance = (strcmp(act_type, "Q8_1") == 0 ? 1e-3 : 1e-5) * magnitude;
    double expected = json_number_value(json_object_get(dot, "result"));
    if (!(fabs((double)y - expected) <= tolerance))
        fail_msg("%s: got %.9g, expected %.9g within %.3g", name, (double)y, expected, tolerance);
    free(w);
    free(x);
    return true;
}

static void reference_dot_products_are_met(void **state) {
    (void)state;
    json_t *vectors = load_vectors(), *entry;
    const char *name;
    unsigned n_types = 0;
    json_object_foreach(vectors, name, entry) {
        n_types += check_dot(name, entry);
    }
    assert_int_equal(n_types, 13);
    json_decref(vectors);
}

/* Vectors of the quantisers F16 and BF16 hold roundings made elsewhere. */
static void half_roundings_agree_with_the_reference(void **state) {
    (void)state;
    json_t *vectors = load_vectors();
    const char *const names[] = {"F16", "BF16"};
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        json_t *made = json_object_get(json_object_get(vectors, names[k]), "quantize");
        assert_non_null(made);
        json_t *input = json_object_get(made, "input");
        size_t n_bytes;
        uint8_t *bytes = parse_hex(json_string_value(json_object_get(made, "hex")), &n_bytes);
        assert_int_equal(n_bytes, 2 * json_array_size(input));
        for (size_t i = 0; i < json_array_size(input); i++) {
            float x = (float)json_number_value(json_array_get(input, i));
            uint16_t got = k == 0 ? f16_from_f32(x) : bf16_from_f32(x);
            assert_int_equal(got, load_u16(bytes + 2 * i));
        }
        free(bytes);
    }
    json_decref(vectors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(reference_blocks_decode_to_reference_values),
            cmocka_unit_test(reference_dot_products_are_met),
            cmocka_unit_test(every_half_widens_exactly),
            cmocka_unit_test(halves_round_to_nearest_even),
            cmocka_unit_test(bfloat16_rounds_to_nearest_even),
            cmocka_unit_test(mxfp4_scales_reach_from_subnormal_to_nan),
            cmocka_unit_test(half_roundings_agree_with_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
