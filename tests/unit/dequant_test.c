/* dequant_test.c - GGUF blocks as floats: the reference vectors, half-width floats, sizes. */
#include "kernels/kern.h"

#include "kernels/ref/blocks.h"

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
    json_object_foreach(vectors, name, entry)
        n_types += check_type(name, entry) > 0;
    for (uint32_t id = 0; id < DT_COUNT; id++)
        n_computable += dtype_find(id) != NULL && dtype_find(id)->computable;
    print_message("%u types of %u computable ones\n", n_types, n_computable);
    /* F32 is the one type without vectors. */
    assert_true(n_types + 1 >= n_computable);
    json_decref(vectors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(reference_blocks_decode_to_reference_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
