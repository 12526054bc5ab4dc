/* npy_test.c - NumPy array files, written and read. */
#include "proto/format/npy.h"

#include "proto/base/buf.h"
#include "proto/base/checked.h"
#include "tests/support/tmpdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int make(void **state) {
    struct tmpdir *dir = calloc(1, sizeof *dir);
    *state = dir;
    return dir && tmpdir_new(dir) ? 0 : -1;
}

static int drop(void **state) {
    tmpdir_remove(*state);
    free(*state);
    return 0;
}

static void rows_written_one_by_one_are_read_as_one_array(void **state) {
    char path[512];
    tmpdir_file(*state, "a.npy", path);
    const uint64_t shape[] = {3, 2};
    struct npy *npy = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(npy_create(path, NPY_F32, 2, shape, &npy, &err), 0);
    for (int row = 0; row < 3; row++) {
        float values[] = {(float)row, (float)row + 0.5f};
        assert_int_equal(npy_write(npy, values, 2, &err), 0);
    }
    assert_int_equal(npy_close(npy, &err), 0);

    struct npy_array array;
    assert_int_equal(npy_read(path, &array, &err), 0);
    assert_int_equal(array.type, NPY_F32);
    assert_int_equal(array.n_dims, 2);
    assert_int_equal(array.shape[0], 3);
    assert_int_equal(array.shape[1], 2);
    assert_int_equal(array.shape[2], 1);
    assert_int_equal(array.n, 6);
    assert_memory_equal(array.elements, ((const float[]){0, 0.5f, 1, 1.5f, 2, 2.5f}), 24);
    npy_array_fini(&array);
}

static void the_bytes_are_those_of_the_format(void **state) {
    char path[512];
    tmpdir_file(*state, "b.npy", path);
    struct npy *npy = NULL;
    assert_int_equal(npy_create(path, NPY_I16, 1, (const uint64_t[]){3}, &npy, NULL), 0);
    assert_int_equal(npy_write(npy, (const int16_t[]){1, -2, 3}, 3, NULL), 0);
    assert_int_equal(npy_close(npy, NULL), 0);
    static const char text[] = "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }";
    struct buf bytes = {0};
    assert_int_equal(buf_read_file(&bytes, path, 1000, NULL), 0);
    assert_int_equal(bytes.n_bytes, 128 + 6);
    assert_memory_equal(bytes.bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_memory_equal(bytes.bytes + 10, text, sizeof text - 1);
    for (size_t i = 10 + sizeof text - 1; i < 127; i++)
        assert_int_equal(bytes.bytes[i], ' ');
    assert_int_equal(bytes.bytes[127], '\n');
    assert_memory_equal(bytes.bytes + 128, "\x01\x00\xfe\xff\x03\x00", 6);
    buf_fini(&bytes);
}

static void an_array_without_elements_is_fine(void **state) {
    char path[512];
    tmpdir_file(*state, "c.npy", path);
    struct npy *npy = NULL;
    struct npy_array array;
    assert_int_equal(npy_create(path, NPY_I16, 3, (const uint64_t[]){4, 0, 2}, &npy, NULL), 0);
    assert_int_equal(npy_close(npy, NULL), 0);
    assert_int_equal(npy_read(path, &array, NULL), 0);
    assert_int_equal(array.n_dims, 3);
    assert_int_equal(array.n, 0);
    npy_array_fini(&array);
}

static void too_many_and_too_few_numbers_are_noticed(void **state) {
    char path[512];
    tmpdir_file(*state, "d.npy", path);
    struct npy *npy = NULL;
    assert_int_equal(npy_create(path, NPY_F32, 1, (const uint64_t[]){2}, &npy, NULL), 0);
    assert_int_equal(npy_write(npy, (const float[]){1, 2, 3}, 3, NULL), ERR_BUG);
    assert_int_equal(npy_write(npy, (const float[]){1}, 1, NULL), 0);
    assert_int_equal(npy_close(npy, NULL), ERR_BUG);
    struct npy_array array;
    assert_int_equal(npy_read(path, &array, NULL), ERR_BAD_INPUT);

    assert_int_equal(npy_create(path, NPY_F32, 1, (const uint64_t[]){2}, &npy, NULL), 0);
    npy_free(npy);
    assert_int_equal(npy_read(path, &array, NULL), ERR_BAD_INPUT);
}

static void what_cannot_be_written_is_an_error(void **state) {
    char path[512];
    tmpdir_file(*state, "none/e.npy", path);
    struct npy *npy = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(npy_create(path, NPY_F32, 1, (const uint64_t[]){2}, &npy, &err), ERR_IO);
    assert_non_null(strstr(err.what, "e.npy"));
    const uint64_t huge[] = {UINT64_C(1) << 32, UINT64_C(1) << 31};
    assert_int_equal(npy_create(path, NPY_F32, 2, huge, &npy, NULL), ERR_LIMIT);
    assert_null(npy);
}

static void a_full_disk_is_an_error(void **state) {
    (void)state;
    struct npy *npy = NULL;
    if (npy_create("/dev/full", NPY_F32, 1, (const uint64_t[]){1}, &npy, NULL) < 0) skip();
    assert_int_equal(npy_write(npy, (const float[]){1}, 1, NULL), 0);
    assert_int_equal(npy_close(npy, NULL), ERR_IO);
}

static void wrong_files_are_refused(void **state) {
    char path[512];
    tmpdir_file(*state, "f.npy", path);
    static const struct {
        const char *header;
        size_t n_payload;
        int code;
    } cases[] = {
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24, 0},
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 23, ERR_BAD_INPUT},
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 28, ERR_BAD_INPUT},
            {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", 24, ERR_UNSUPPORTED},
            {"{'descr': '>f4', 'fortran_order': False, 'shape': (6,), }", 24, ERR_UNSUPPORTED},
            {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24, ERR_UNSUPPORTED},
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 6), }", 24,
                    ERR_BAD_INPUT},
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4, ERR_BAD_INPUT},
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (-6,), }", 24, ERR_BAD_INPUT},
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }", 24,
                    ERR_BAD_INPUT},
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0,
                    ERR_BAD_INPUT},
            {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,", 24, ERR_BAD_INPUT},
            {"{}", 24, ERR_BAD_INPUT},
            {"", 24, ERR_BAD_INPUT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char bytes[256] = "\x93NUMPY\x01";
        size_t n = strlen(cases[i].header);
        memcpy(bytes + 10, cases[i].header, n);
        if (n) bytes[10 + n++] = '\n';
        bytes[8] = (char)n;
        assert_true(tmpdir_write(path, bytes, 10 + n + cases[i].n_payload));
        struct npy_array array;
        struct err err = ERR_INIT;
        int rc = npy_read(path, &array, &err);
        if (rc != cases[i].code) fail_msg("case %zu: %d (%s)", i, rc, err.what);
        if (rc == 0) npy_array_fini(&array);
    }
}

static void a_file_cut_anywhere_is_refused(void **state) {
    char path[512];
    tmpdir_file(*state, "g.npy", path);
    struct npy *npy = NULL;
    assert_int_equal(npy_create(path, NPY_I16, 1, (const uint64_t[]){3}, &npy, NULL), 0);
    assert_int_equal(npy_write(npy, (const int16_t[]){1, -2, 3}, 3, NULL), 0);
    assert_int_equal(npy_close(npy, NULL), 0);
    struct buf bytes = {0};
    assert_int_equal(buf_read_file(&bytes, path, 1000, NULL), 0);
    for (size_t n = 0; n < bytes.n_bytes; n++) {
        struct npy_array array;
        assert_true(tmpdir_write(path, bytes.bytes, n));
        assert_int_equal(npy_read(path, &array, NULL), ERR_BAD_INPUT);
    }
    buf_fini(&bytes);
}

static const char *shared_file(const char *name, char out_path[512]) {
    const char *shared = getenv("POTLUCK_SHARED");
    snprintf(out_path, 512, "%s/models/tiny/%s", shared ? shared : "../shared", name);
    return out_path;
}

/* Reads what NumPy wrote, writes it again, and compares the files. */
static void copy_and_compare(const char *from, const char *to, struct npy_array *out_array) {
    struct npy *npy = NULL;
    struct buf a = {0}, b = {0};
    assert_int_equal(npy_read(from, out_array, NULL), 0);
    assert_int_equal(
            npy_create(to, out_array->type, out_array->n_dims, out_array->shape, &npy, NULL), 0);
    assert_int_equal(npy_write(npy, out_array->elements, out_array->n, NULL), 0);
    assert_int_equal(npy_close(npy, NULL), 0);
    assert_int_equal(buf_read_file(&a, from, 1 << 20, NULL), 0);
    assert_int_equal(buf_read_file(&b, to, 1 << 20, NULL), 0);
    assert_int_equal(a.n_bytes, b.n_bytes);
    assert_memory_equal(a.bytes, b.bytes, a.n_bytes);
    buf_fini(&a);
    buf_fini(&b);
}

static void files_of_numpy_come_out_byte_for_byte(void **state) {
    char from[512], to[512];
    struct npy_array array;
    tmpdir_file(*state, "h.npy", to);
    shared_file("glm4moe.logits.npy", from);
    if (npy_read(from, &array, NULL) == ERR_IO) skip();
    npy_array_fini(&array);

    copy_and_compare(from, to, &array);
    assert_int_equal(array.type, NPY_F32);
    assert_int_equal(array.n_dims, 2);
    assert_int_equal(array.shape[0], 32);
    assert_int_equal(array.shape[1], 320);
    npy_array_fini(&array);
    copy_and_compare(shared_file("glm4moe.routes.npy", from), to, &array);
    assert_int_equal(array.type, NPY_I16);
    assert_int_equal(array.n_dims, 3);
    npy_array_fini(&array);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(rows_written_one_by_one_are_read_as_one_array),
            cmocka_unit_test(the_bytes_are_those_of_the_format),
            cmocka_unit_test(an_array_without_elements_is_fine),
            cmocka_unit_test(too_many_and_too_few_numbers_are_noticed),
            cmocka_unit_test(what_cannot_be_written_is_an_error),
            cmocka_unit_test(a_full_disk_is_an_error),
            cmocka_unit_test(wrong_files_are_refused),
            cmocka_unit_test(a_file_cut_anywhere_is_refused),
            cmocka_unit_test(files_of_numpy_come_out_byte_for_byte),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
