/* gguf_split_test.c - models in several files. */
#include "proto/format/gguf.h"

#include "tests/support/gguf_walk.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tmpdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Three parts: metadata alone, two tensors, one tensor. What a test gets wrong, it sets. */
struct model {
    struct tmpdir dir;
    uint64_t no[3];       /* split.no of each part */
    uint64_t count[3];    /* split.count */
    int32_t n_tensors;    /* split.tensors.count */
    const char *names[3]; /* of the tensors */
};

static int make(void **state) {
    struct model *m = calloc(1, sizeof *m);
    if (!m || !tmpdir_new(&m->dir)) return -1;
    for (int i = 0; i < 3; i++) {
        m->no[i] = (uint64_t)i;
        m->count[i] = 3;
    }
    m->n_tensors = 3;
    m->names[0] = "x";
    m->names[1] = "y";
    m->names[2] = "z";
    *state = m;
    return 0;
}

static int drop(void **state) {
    struct model *m = *state;
    tmpdir_remove(&m->dir);
    free(m);
    return 0;
}

static void part_path(const struct model *m, int part, char out_path[512]) {
    char name[64];
    snprintf(name, sizeof name, "m-0000%d-of-00003.gguf", part + 1);
    tmpdir_file(&m->dir, name, out_path);
}

static void write_parts(const struct model *m) {
    for (int p = 0; p < 3; p++) {
        struct gguf_writer w;
        char path[512];
        gguf_writer_begin(&w);
        gguf_writer_u16(&w, "split.no", (uint16_t)m->no[p]);
        gguf_writer_u16(&w, "split.count", (uint16_t)m->count[p]);
        gguf_writer_i32(&w, "split.tensors.count", m->n_tensors);
        if (p == 0) {
            gguf_writer_str(&w, "general.architecture", "toy");
            gguf_writer_u32(&w, "general.alignment", 64); /* of this part alone */
        }
        float value[] = {10.0f + (float)p, 20.0f + (float)p};
        for (int t = 0; t < 3; t++)
            if ((t < 2 ? 1 : 2) == p)
                gguf_writer_tensor(
                        &w, m->names[t], DT_F32, 1, (const uint64_t[]){1}, &value[t % 2]);
        part_path(m, p, path);
        assert_int_equal(gguf_writer_finish_file(&w, path, NULL), 0);
        gguf_writer_fini(&w);
    }
}

static int open_part(const struct model *m, int part, struct gguf **out_gguf, struct err *err) {
    char path[512];
    part_path(m, part, path);
    return gguf_open(path, out_gguf, err);
}

#define EXPECT_ERR(m, part, code, text) expect_err((m), (part), (code), (text), __LINE__)

static void expect_err(const struct model *m, int part, int code, const char *text, int line) {
    struct gguf *gguf = NULL;
    struct err err = ERR_INIT;
    int rc = open_part(m, part, &gguf, &err);
    if (rc != code || !strstr(err.what, text))
        fail_msg("line %d: got %d (%s), want %d (...%s...)", line, rc, err.what, code, text);
    assert_null(gguf);
}

static void all_parts_open_as_one(void **state) {
    struct model *m = *state;
    write_parts(m);
    struct gguf *gguf = NULL;
    struct err err = ERR_INIT;
    if (open_part(m, 0, &gguf, &err) < 0) fail_msg("%s: %s", err.where, err.what);
    assert_int_equal(gguf_n_parts(gguf), 3);
    assert_int_equal(gguf_n_tensors(gguf), 3);
    static const float want[] = {11, 21, 12};
    for (int t = 0; t < 3; t++) {
        const struct gguf_tensor *tensor = gguf_find_tensor(gguf, m->names[t]);
        assert_non_null(tensor);
        assert_ptr_equal(tensor, gguf_tensor_at(gguf, (uint64_t)t));
        assert_memory_equal(tensor->bytes, &want[t], 4);
        assert_int_equal(tensor->part, t < 2 ? 1 : 2);
    }
    char path[512];
    part_path(m, 2, path);
    assert_string_equal(gguf_part_path(gguf, 2), path);
    struct gguf_str arch;
    assert_int_equal(gguf_get_str(gguf, "general.architecture", &arch, NULL), 1);
    gguf_walk(gguf);
    gguf_free(gguf);
}

static void a_missing_part_is_named(void **state) {
    struct model *m = *state;
    write_parts(m);
    char path[512];
    part_path(m, 2, path);
    assert_int_equal(unlink(path), 0);
    EXPECT_ERR(m, 0, ERR_IO, "m-00003-of-00003.gguf");
}

static void opening_another_than_the_first_names_the_first(void **state) {
    struct model *m = *state;
    write_parts(m);
    struct gguf *gguf = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(open_part(m, 1, &gguf, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.what, "part 2 of 3"));
    assert_non_null(strstr(err.hint, "m-00001-of-00003.gguf"));
}

static void parts_in_the_wrong_order_are_refused(void **state) {
    struct model *m = *state;
    m->no[1] = 2;
    m->no[2] = 1;
    write_parts(m);
    EXPECT_ERR(m, 0, ERR_BAD_INPUT, "it says that it is part 3 of 3, not part 2 of 3");
}

static void a_part_of_another_model_is_refused(void **state) {
    struct model *m = *state;
    m->count[2] = 4;
    write_parts(m);
    EXPECT_ERR(m, 0, ERR_BAD_INPUT, "part 3 of 4, not part 3 of 3");
}

static void a_wrong_total_of_tensors_is_refused(void **state) {
    struct model *m = *state;
    m->n_tensors = 4;
    write_parts(m);
    EXPECT_ERR(m, 0, ERR_BAD_INPUT, "split.tensors.count says 4");
    m->n_tensors = -1;
    write_parts(m);
    EXPECT_ERR(m, 0, ERR_BAD_INPUT, "split.tensors.count is -1");
}

static void a_tensor_in_two_parts_is_refused(void **state) {
    struct model *m = *state;
    m->names[2] = "x";
    write_parts(m);
    EXPECT_ERR(m, 0, ERR_BAD_INPUT, "tensor x is there twice");
}

static void a_renamed_first_part_is_refused(void **state) {
    struct model *m = *state;
    write_parts(m);
    char from[512], to[512];
    part_path(m, 0, from);
    assert_int_equal(rename(from, tmpdir_file(&m->dir, "model.gguf", to)), 0);
    struct gguf *gguf = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(gguf_open(to, &gguf, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.what, "-00001-of-00003.gguf"));
}

static void a_truncated_part_is_named(void **state) {
    struct model *m = *state;
    write_parts(m);
    char path[512];
    part_path(m, 1, path);
    assert_int_equal(truncate(path, 150), 0);
    struct gguf *gguf = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(open_part(m, 0, &gguf, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.where, "m-00002-of-00003.gguf"));
}

static void hostile_split_keys_are_refused(void **state) {
    struct model *m = *state;
    m->no[0] = 7;
    write_parts(m);
    EXPECT_ERR(m, 0, ERR_BAD_INPUT, "split.no is 7 of 3 parts");
    m->no[0] = 0;
    m->count[0] = 65535;
    write_parts(m);
    EXPECT_ERR(m, 0, ERR_BAD_INPUT, "does not end in -00001-of-65535.gguf");
}

static void one_part_of_one_is_not_split(void **state) {
    struct model *m = *state;
    for (unsigned count = 0; count < 2; count++) {
        struct gguf_writer w;
        char path[512];
        gguf_writer_begin(&w);
        gguf_writer_u16(&w, "split.no", 0);
        gguf_writer_u16(&w, "split.count", (uint16_t)count);
        gguf_writer_i32(&w, "split.tensors.count", 0);
        tmpdir_file(&m->dir, "whole.gguf", path);
        assert_int_equal(gguf_writer_finish_file(&w, path, NULL), 0);
        gguf_writer_fini(&w);
        struct gguf *gguf = NULL;
        assert_int_equal(gguf_open(path, &gguf, NULL), 0);
        assert_int_equal(gguf_n_parts(gguf), 1);
        gguf_free(gguf);
    }
}

static void a_part_from_memory_is_not_supported(void **state) {
    (void)state;
    struct gguf_writer w;
    struct buf out = {0};
    gguf_writer_begin(&w);
    gguf_writer_u16(&w, "split.no", 0);
    gguf_writer_u64(&w, "split.count", 2);
    assert_int_equal(gguf_writer_finish(&w, &out, NULL), 0);
    struct gguf *gguf = NULL;
    assert_int_equal(gguf_open_bytes(out.bytes, out.n_bytes, &gguf, NULL), ERR_UNSUPPORTED);
    gguf_writer_fini(&w);
    gguf_writer_begin(&w);
    buf_reset(&out);
    gguf_writer_u64(&w, "split.count", UINT64_MAX);
    assert_int_equal(gguf_writer_finish(&w, &out, NULL), 0);
    assert_int_equal(gguf_open_bytes(out.bytes, out.n_bytes, &gguf, NULL), ERR_BAD_INPUT);
    gguf_writer_fini(&w);
    buf_fini(&out);
}

int main(void) {
#define SPLIT_TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
            SPLIT_TEST(all_parts_open_as_one),
            SPLIT_TEST(a_missing_part_is_named),
            SPLIT_TEST(opening_another_than_the_first_names_the_first),
            SPLIT_TEST(parts_in_the_wrong_order_are_refused),
            SPLIT_TEST(a_part_of_another_model_is_refused),
            SPLIT_TEST(a_wrong_total_of_tensors_is_refused),
            SPLIT_TEST(a_tensor_in_two_parts_is_refused),
            SPLIT_TEST(a_renamed_first_part_is_refused),
            SPLIT_TEST(a_truncated_part_is_named),
            SPLIT_TEST(hostile_split_keys_are_refused),
            SPLIT_TEST(one_part_of_one_is_not_split),
            SPLIT_TEST(a_part_from_memory_is_not_supported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
