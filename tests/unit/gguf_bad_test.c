/* gguf_bad_test.c - what bad GGUF files give: an error that says what is wrong, and nothing else.
 * Run it under the address sanitizer: every file is opened from a block of exactly its size. */
#include "proto/format/gguf.h"

#include "proto/base/checked.h"
#include "tests/support/gguf_example.h"
#include "tests/support/gguf_walk.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tmpdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* Opens a copy of exactly n bytes and uses what opens. Returns the code. */
static int try_open(const void *bytes, size_t n, struct err *err) {
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    struct gguf *gguf = NULL;
    int rc = gguf_open_bytes(copy, n, &gguf, err);
    if (rc == 0) {
        (void)gguf_walk(gguf);
        gguf_free(gguf);
    } else {
        assert_null(gguf);
        assert_int_equal(err->code, rc);
        assert_true(err->what[0] != 0);
    }
    free(copy);
    return rc;
}

#define EXPECT(bytes, n, code, text) expect((bytes), (n), (code), (text), __LINE__)

static void expect(const void *bytes, size_t n, int code, const char *text, int line) {
    struct err err = ERR_INIT;
    int rc = try_open(bytes, n, &err);
    if (rc != code || (!strstr(err.what, text)))
        fail_msg("line %d: got %d (%s), want %d (...%s...)", line, rc, err.what, code, text);
}

/* The file that w holds must be refused; w is used up. */
#define EXPECT_WRITTEN(w, code, text) expect_written((w), (code), (text), __LINE__)

static void expect_written(struct gguf_writer *w, int code, const char *text, int line) {
    struct buf out = {0};
    assert_int_equal(gguf_writer_finish(w, &out, NULL), 0);
    expect(out.bytes, out.n_bytes, code, text, line);
    buf_fini(&out);
    gguf_writer_fini(w);
    gguf_writer_begin(w);
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    uint8_t bytes[GGUF_EXAMPLE_BYTES];
    gguf_example(bytes);
    for (size_t n = 0; n < GGUF_EXAMPLE_END; n++) {
        struct err err = ERR_INIT;
        assert_int_equal(try_open(bytes, n, &err), ERR_BAD_INPUT);
        assert_non_null(strstr(err.hint, "incomplete"));
    }
    /* Padding after the last tensor may be missing. */
    for (size_t n = GGUF_EXAMPLE_END; n <= GGUF_EXAMPLE_BYTES; n++)
        EXPECT(bytes, n, 0, "");
}

static void a_file_on_disk_cut_anywhere_is_refused(void **state) {
    (void)state;
    struct tmpdir dir;
    char path[512];
    uint8_t bytes[GGUF_EXAMPLE_BYTES];
    gguf_example(bytes);
    assert_true(tmpdir_new(&dir));
    tmpdir_file(&dir, "cut.gguf", path);
    for (size_t n = 0; n < GGUF_EXAMPLE_END; n += 7) {
        struct gguf *gguf = NULL;
        struct err err = ERR_INIT;
        assert_true(tmpdir_write(path, bytes, n));
        assert_int_equal(gguf_open(path, &gguf, &err), ERR_BAD_INPUT);
        assert_non_null(strstr(n ? err.where : err.what, "cut.gguf"));
    }
    tmpdir_remove(&dir);
}

/* A file with every kind of entry, for the sweeps. */
static void make_varied(struct buf *out) {
    struct gguf_writer w;
    static const uint8_t nested[] = {9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, /* array[1] */
            8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,                          /* string[1] */
            2, 0, 0, 0, 0, 0, 0, 0, 'h', 'i'};
    gguf_writer_begin(&w);
    gguf_writer_u32(&w, "general.alignment", 32);
    gguf_writer_u16(&w, "split.count", 0);
    gguf_writer_bool(&w, "b", true);
    gguf_writer_f64(&w, "d", 1.5);
    gguf_writer_str(&w, "s", "text");
    gguf_writer_array(&w, "a", GGUF_U16, 3, (const uint16_t[]){1, 2, 3});
    gguf_writer_str_array(&w, "t", 3, (const char *const[]){"", "one", "two"});
    gguf_writer_raw(&w, "n", GGUF_ARRAY, nested, sizeof nested);
    gguf_writer_tensor(&w, "x", DT_Q4_K, 2, (const uint64_t[]){256, 2}, NULL);
    gguf_writer_tensor(&w, "y", DT_F16, 4, (const uint64_t[]){2, 2, 2, 1}, NULL);
    gguf_writer_tensor(&w, "z", DT_I32, 0, NULL, NULL);
    assert_int_equal(gguf_writer_finish(&w, out, NULL), 0);
    gguf_writer_fini(&w);
}

static void hostile_numbers_anywhere_do_no_harm(void **state) {
    (void)state;
    static const uint64_t hostile[] = {0, 1, 4, 8, 9, 13, 31, 0x7fff, 0x10000, 0x7fffffff,
            0x80000000, 0xffffffff, UINT64_C(0x100000000), UINT64_C(0x1fffffffffffffff),
            UINT64_C(0x2000000000000000), INT64_MAX, UINT64_C(0x8000000000000000),
            UINT64_C(0xffffffffffffffe0), UINT64_MAX};
    struct buf file = {0};
    make_varied(&file);
    EXPECT(file.bytes, file.n_bytes, 0, "");
    struct gguf *gguf = NULL;
    assert_int_equal(gguf_open_bytes(file.bytes, file.n_bytes, &gguf, NULL), 0);
    size_t head = gguf_tensor_at(gguf, 0)->file_offset;
    gguf_free(gguf);

    /* Every position, so that every field is hit whatever its place; both widths. */
    uint8_t saved[8];
    for (size_t at = 0; at + 8 <= head; at++) {
        memcpy(saved, file.bytes + at, 8);
        for (size_t v = 0; v < ARRAY_LEN(hostile); v++)
            for (size_t width = 4; width <= 8; width += 4) {
                struct err err = ERR_INIT;
                memcpy(file.bytes + at, &hostile[v], width);
                (void)try_open(file.bytes, file.n_bytes, &err); /* either way, but no crash */
                memcpy(file.bytes + at, saved, 8);
            }
    }
    buf_fini(&file);
}

static void every_changed_byte_does_no_harm(void **state) {
    (void)state;
    struct buf file = {0};
    make_varied(&file);
    for (size_t at = 0; at < file.n_bytes; at++) {
        uint8_t saved = (uint8_t)file.bytes[at];
        for (unsigned bit = 0; bit < 8; bit++) {
            struct err err = ERR_INIT;
            file.bytes[at] = (char)(saved ^ 1u << bit);
            (void)try_open(file.bytes, file.n_bytes, &err);
        }
        file.bytes[at] = (char)saved;
    }
    buf_fini(&file);
}

static void wrong_headers_are_named(void **state) {
    (void)state;
    uint8_t good[GGUF_EXAMPLE_BYTES], bad[GGUF_EXAMPLE_BYTES];
    gguf_example(good);
    static const struct {
        size_t at;
        uint64_t value;
        size_t width;
        int code;
        const char *text;
    } cases[] = {
            {0, 0x4c4d4747, 4, ERR_BAD_INPUT, "not a GGUF file"},
            {4, 0, 4, ERR_UNSUPPORTED, "version 0"},
            {4, 1, 4, ERR_UNSUPPORTED, "version 1"},
            {4, 4, 4, ERR_UNSUPPORTED, "version 4"},
            {4, 0x03000000, 4, ERR_UNSUPPORTED, "big-endian"},
            {8, UINT64_MAX, 8, ERR_BAD_INPUT, "claims 18446744073709551615 tensors"},
            {8, 3, 8, ERR_BAD_INPUT, ""},
            {16, 1000, 8, ERR_BAD_INPUT, "claims 1000 metadata"},
            {16, UINT64_C(1) << 60, 8, ERR_BAD_INPUT, "metadata"},
            {24, 0, 8, ERR_BAD_INPUT, "key"},
            {24, UINT64_MAX, 8, ERR_BAD_INPUT, "ends inside a metadata key"},
            {52, 13, 4, ERR_BAD_INPUT, "general.architecture has unknown type 13"},
            {56, UINT64_MAX - 7, 8, ERR_BAD_INPUT, "ends inside a string"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        memcpy(bad, good, sizeof bad);
        memcpy(bad + cases[i].at, &cases[i].value, cases[i].width);
        EXPECT(bad, sizeof bad, cases[i].code, cases[i].text);
    }
    EXPECT("", 0, ERR_BAD_INPUT, "ends inside the header");
}

static void wrong_metadata_is_named(void **state) {
    (void)state;
    struct gguf_writer w;
    gguf_writer_begin(&w);
    gguf_writer_u8(&w, "twice", 1);
    gguf_writer_u8(&w, "other", 1);
    gguf_writer_str(&w, "twice", "again");
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "twice is there twice");

    gguf_writer_u16(&w, "", 1);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "a metadata key at byte 24 has 0 bytes");
    gguf_writer_u8(&w, "a\x1b[31m", 1);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "control character (0x1b)");
    char *long_key = calloc(1, 65537);
    assert_non_null(long_key);
    memset(long_key, 'k', 65535);
    gguf_writer_u8(&w, long_key, 1);
    EXPECT_WRITTEN(&w, 0, "");
    long_key[65535] = 'k';
    gguf_writer_u8(&w, long_key, 1);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "65536 bytes");
    free(long_key);

    gguf_writer_raw(&w, "a", GGUF_ARRAY, (const uint8_t[12]){13}, 12);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "unknown type 13");
    static const uint8_t many[12] = {4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40};
    gguf_writer_raw(&w, "a", GGUF_ARRAY, many, sizeof many); /* 2^62 * 4 bytes wraps to 0 */
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "ends inside an array");
    uint8_t deep[12 * 5] = {0};
    for (int i = 0; i < 5; i++) {
        deep[12 * i] = 9;
        deep[12 * i + 4] = 1;
    }
    gguf_writer_raw(&w, "a", GGUF_ARRAY, deep, sizeof deep);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "arrays within arrays");
}

static void wrong_alignments_are_named(void **state) {
    (void)state;
    struct gguf_writer w;
    gguf_writer_begin(&w);
    static const uint32_t bad[] = {0, 3, 48, 131072, 0x80000000};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        gguf_writer_u32(&w, "general.alignment", bad[i]);
        EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "general.alignment is");
    }
    gguf_writer_u64(&w, "general.alignment", 32);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "has type u64");
    gguf_writer_str(&w, "general.alignment", "32");
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "has type string");
}

/* A tensor description with every field free. */
static void raw_tensor(struct gguf_writer *w, const char *name, uint32_t n_dims, const uint64_t *ne,
        uint32_t type, uint64_t offset) {
    uint64_t n = strlen(name);
    (void)buf_append(&w->tensors, &n, 8, &w->err);
    (void)buf_append(&w->tensors, name, n, &w->err);
    (void)buf_append(&w->tensors, &n_dims, 4, &w->err);
    (void)buf_append(&w->tensors, ne, 8 * (n_dims < 8 ? n_dims : 8), &w->err);
    (void)buf_append(&w->tensors, &type, 4, &w->err);
    (void)buf_append(&w->tensors, &offset, 8, &w->err);
    w->n_tensors++;
}

static void wrong_shapes_are_named(void **state) {
    (void)state;
    static const struct {
        uint32_t n_dims;
        uint64_t ne[8];
        uint32_t type;
        int code;
        const char *text;
    } cases[] = {
            {5, {1, 1, 1, 1, 1}, DT_F32, ERR_BAD_INPUT, "5 dimensions"},
            {1, {0}, DT_F32, ERR_BAD_INPUT, "no elements"},
            {3, {32, 0, 2}, DT_F32, ERR_BAD_INPUT, "no elements"},
            {2, {UINT64_C(1) << 32, UINT64_C(1) << 32}, DT_F32, ERR_BAD_INPUT, "too many elements"},
            {2, {UINT64_C(1) << 62, 2}, DT_I8, ERR_BAD_INPUT, "too many elements"},
            {1, {UINT64_MAX}, DT_I8, ERR_BAD_INPUT, "too many elements"},
            {1, {UINT64_C(1) << 62}, DT_F32, ERR_BAD_INPUT, "too large"},
            {4, {2147483648, 2147483648, 1, 1}, DT_I8, ERR_BAD_INPUT, "but the file has only"},
            {1, {33}, DT_Q8_0, ERR_BAD_INPUT, "no multiple of the 32 in a block of Q8_0"},
            {2, {128, 2}, DT_Q4_K, ERR_BAD_INPUT, "no multiple of the 256"},
            {1, {256}, 4, ERR_UNSUPPORTED, "Q4_2"},
            {1, {256}, 31, ERR_UNSUPPORTED, "Q4_0_4_4"},
            {1, {256}, 43, ERR_UNSUPPORTED, "type 43"},
            {1, {256}, 137, ERR_UNSUPPORTED, "type 137"},
            {1, {256}, UINT32_MAX, ERR_UNSUPPORTED, "type 4294967295"},
    };
    struct gguf_writer w;
    gguf_writer_begin(&w);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        raw_tensor(&w, "weird", cases[i].n_dims, cases[i].ne, cases[i].type, 0);
        EXPECT_WRITTEN(&w, cases[i].code, cases[i].text);
    }
}

static void wrong_places_are_named(void **state) {
    (void)state;
    struct gguf_writer w;
    const uint64_t eight[] = {8};
    gguf_writer_begin(&w);
    gguf_writer_tensor(&w, "a", DT_F32, 1, eight, NULL);
    raw_tensor(&w, "b", 1, eight, DT_F32, 0);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "overlap");
    gguf_writer_tensor(&w, "a", DT_F32, 1, (const uint64_t[]){24}, NULL);
    raw_tensor(&w, "b", 1, eight, DT_F32, 32);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "tensors a and b overlap");
    gguf_writer_tensor(&w, "a", DT_F32, 1, (const uint64_t[]){24}, NULL);
    raw_tensor(&w, "b", 1, eight, DT_F32, 16);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "no multiple of the alignment 32");
    gguf_writer_tensor(&w, "a", DT_F32, 1, eight, NULL);
    raw_tensor(&w, "b", 1, eight, DT_F32, 32);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "tensor b needs 32 bytes");
    gguf_writer_tensor(&w, "a", DT_F32, 1, eight, NULL);
    raw_tensor(&w, "b", 1, eight, DT_F32, UINT64_MAX - 31); /* wraps to before the data */
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "tensor b needs");
    gguf_writer_tensor(&w, "a", DT_F32, 1, eight, NULL);
    raw_tensor(&w, "b", 1, eight, DT_F32, UINT64_C(1) << 63);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "tensor b needs");

    /* The order in the list need not be that of the data. */
    raw_tensor(&w, "late", 1, eight, DT_F32, 32);
    raw_tensor(&w, "early", 1, eight, DT_F32, 0);
    assert_int_equal(buf_append(&w.payload, (const uint8_t[64]){0}, 64, NULL), 0);
    EXPECT_WRITTEN(&w, 0, "");
}

static void wrong_tensor_names_are_named(void **state) {
    (void)state;
    struct gguf_writer w;
    const uint64_t one[] = {1};
    gguf_writer_begin(&w);
    gguf_writer_tensor(&w, "same", DT_F32, 1, one, NULL);
    gguf_writer_tensor(&w, "between", DT_F32, 1, one, NULL);
    gguf_writer_tensor(&w, "same", DT_F32, 1, one, NULL);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "tensor same is there twice");
    gguf_writer_tensor(&w, "", DT_F32, 1, one, NULL);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "a tensor name");
    char name[66] = {0};
    memset(name, 'n', 64);
    gguf_writer_tensor(&w, name, DT_F32, 1, one, NULL);
    EXPECT_WRITTEN(&w, 0, "");
    name[64] = 'n';
    gguf_writer_tensor(&w, name, DT_F32, 1, one, NULL);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "65 bytes");
    gguf_writer_tensor(&w, "new\nline", DT_F32, 1, one, NULL);
    EXPECT_WRITTEN(&w, ERR_BAD_INPUT, "control character");

    uint8_t bytes[GGUF_EXAMPLE_BYTES]; /* NUL in the middle of a.weight */
    gguf_example(bytes);
    uint8_t *at = memmem(bytes, sizeof bytes, "a.weight", 8);
    at[1] = 0;
    EXPECT(bytes, sizeof bytes, ERR_BAD_INPUT, "control character (0x00)");
}

static void what_is_no_file_is_refused(void **state) {
    (void)state;
    struct tmpdir dir;
    char path[512];
    struct gguf *gguf = NULL;
    struct err err = ERR_INIT;
    assert_true(tmpdir_new(&dir));
    assert_int_equal(gguf_open(dir.path, &gguf, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.what, "not a regular file"));

    err_reset(&err);
    assert_int_equal(gguf_open(tmpdir_file(&dir, "none", path), &gguf, &err), ERR_IO);
    assert_non_null(strstr(err.what, path));

    err_reset(&err);
    assert_true(tmpdir_write(tmpdir_file(&dir, "empty", path), "", 0));
    assert_int_equal(gguf_open(path, &gguf, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.what, "empty"));

    err_reset(&err);
    assert_int_equal(mkfifo(tmpdir_file(&dir, "pipe", path), 0600), 0);
    assert_int_equal(gguf_open(path, &gguf, &err), ERR_BAD_INPUT); /* and it does not wait */
    assert_int_equal(gguf_open(path, &gguf, NULL), ERR_BAD_INPUT);
    assert_null(gguf);
    tmpdir_remove(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_file_cut_anywhere_is_refused),
            cmocka_unit_test(a_file_on_disk_cut_anywhere_is_refused),
            cmocka_unit_test(hostile_numbers_anywhere_do_no_harm),
            cmocka_unit_test(every_changed_byte_does_no_harm),
            cmocka_unit_test(wrong_headers_are_named),
            cmocka_unit_test(wrong_metadata_is_named),
            cmocka_unit_test(wrong_alignments_are_named),
            cmocka_unit_test(wrong_shapes_are_named),
            cmocka_unit_test(wrong_places_are_named),
            cmocka_unit_test(wrong_tensor_names_are_named),
            cmocka_unit_test(what_is_no_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
