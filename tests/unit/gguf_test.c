/* gguf_test.c - what good GGUF files give. */
#include "proto/format/gguf.h"

#include "tests/support/gguf_example.h"
#include "tests/support/gguf_walk.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tmpdir.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OPEN(bytes, n) open_bytes((bytes), (n), __LINE__)

static struct gguf *open_bytes(const void *bytes, size_t n, int line) {
    struct err err = ERR_INIT;
    struct gguf *gguf = NULL;
    if (gguf_open_bytes(bytes, n, &gguf, &err) < 0) fail_msg("line %d: %s", line, err.what);
    return gguf;
}

static struct gguf *open_writer(struct gguf_writer *w, struct buf *out) {
    struct err err = ERR_INIT;
    assert_int_equal(gguf_writer_finish(w, out, &err), 0);
    return OPEN(out->bytes, out->n_bytes);
}

static void check_example(const struct gguf *gguf) {
    struct err err = ERR_INIT;
    struct gguf_str str;
    assert_int_equal(gguf_get_str(gguf, "general.architecture", &str, &err), 1);
    assert_int_equal(str.n, 3);
    assert_memory_equal(str.bytes, "toy", 3);
    uint64_t n = 0;
    assert_int_equal(gguf_get_u64(gguf, "toy.n", &n, &err), 1);
    assert_int_equal(n, 7);
    bool flag = false;
    assert_int_equal(gguf_get_bool(gguf, "toy.flag", &flag, &err), 1);
    assert_true(flag);

    struct gguf_array arr;
    assert_int_equal(gguf_get_array(gguf, "toy.arr", &arr, &err), 1);
    assert_int_equal(arr.n, 3);
    int64_t second = 0;
    assert_int_equal(gguf_array_i64(&arr, 1, &second, &err), 0);
    assert_int_equal(second, -2);
    assert_int_equal(gguf_array_u64(&arr, 1, &n, NULL), ERR_BAD_INPUT);
    assert_int_equal(gguf_array_u64(&arr, 3, &n, NULL), ERR_BAD_INPUT);

    assert_int_equal(gguf_get_array(gguf, "toy.names", &arr, &err), 1);
    size_t cursor = 0;
    assert_true(gguf_array_next_str(&arr, &cursor, &str));
    assert_memory_equal(str.bytes, "a", 1);
    assert_true(gguf_array_next_str(&arr, &cursor, &str));
    assert_int_equal(str.n, 2);
    assert_memory_equal(str.bytes, "bc", 2);
    assert_false(gguf_array_next_str(&arr, &cursor, &str));

    assert_int_equal(gguf_n_tensors(gguf), 2);
    const struct gguf_tensor *a = gguf_find_tensor(gguf, "a.weight");
    assert_non_null(a);
    assert_int_equal(a->type, DT_F32);
    assert_int_equal(a->n_dims, 2);
    assert_int_equal(a->ne[0], 3);
    assert_int_equal(a->ne[1], 2);
    assert_int_equal(a->ne[2], 1);
    assert_int_equal(a->n_bytes, 24);
    assert_int_equal(a->file_offset, GGUF_EXAMPLE_DATA);
    float last;
    memcpy(&last, a->bytes + 20, sizeof last);
    assert_true(last == 6.0f);
    const struct gguf_tensor *q = gguf_tensor_at(gguf, 1);
    assert_string_equal(q->name, "q");
    assert_int_equal(q->type, DT_Q8_0);
    assert_int_equal(q->n_bytes, 34);
    assert_int_equal((int8_t)q->bytes[2], -16);
    assert_null(gguf_find_tensor(gguf, "b"));
    assert_null(gguf_find_tensor(gguf, ""));
}

static void the_example_file_reads_right(void **state) {
    (void)state;
    uint8_t bytes[GGUF_EXAMPLE_BYTES];
    gguf_example(bytes);
    struct gguf *gguf = OPEN(bytes, sizeof bytes);
    check_example(gguf);
    assert_int_equal(gguf_version(gguf), 3);
    assert_int_equal(gguf_n_parts(gguf), 1);
    assert_int_equal(gguf_file_bytes(gguf), GGUF_EXAMPLE_BYTES);
    gguf_walk(gguf);
    gguf_free(gguf);
}

static void version_2_reads_the_same(void **state) {
    (void)state;
    uint8_t bytes[GGUF_EXAMPLE_BYTES];
    gguf_example(bytes);
    bytes[4] = 2;
    struct gguf *gguf = OPEN(bytes, sizeof bytes);
    check_example(gguf);
    assert_int_equal(gguf_version(gguf), 2);
    gguf_free(gguf);
}

static void a_file_on_disk_reads_like_memory(void **state) {
    (void)state;
    struct tmpdir dir;
    char path[512];
    uint8_t bytes[GGUF_EXAMPLE_BYTES];
    gguf_example(bytes);
    assert_true(tmpdir_new(&dir));
    assert_true(tmpdir_write(tmpdir_file(&dir, "toy.gguf", path), bytes, sizeof bytes));
    struct gguf *gguf = NULL;
    assert_int_equal(gguf_open(path, &gguf, NULL), 0);
    check_example(gguf);
    assert_string_equal(gguf_path(gguf), path);
    gguf_free(gguf);
    tmpdir_remove(&dir);
}

static void the_writer_makes_the_example_byte_for_byte(void **state) {
    (void)state;
    uint8_t want[GGUF_EXAMPLE_BYTES];
    gguf_example(want);
    struct gguf_writer w;
    gguf_writer_begin(&w);
    gguf_writer_str(&w, "general.architecture", "toy");
    gguf_writer_u32(&w, "toy.n", 7);
    gguf_writer_bool(&w, "toy.flag", true);
    gguf_writer_array(&w, "toy.arr", GGUF_I32, 3, (const int32_t[]){1, -2, 3});
    gguf_writer_str_array(&w, "toy.names", 2, (const char *const[]){"a", "bc"});
    gguf_writer_tensor(
            &w, "a.weight", DT_F32, 2, (const uint64_t[]){3, 2}, (const float[]){1, 2, 3, 4, 5, 6});
    gguf_writer_tensor(&w, "q", DT_Q8_0, 1, (const uint64_t[]){32}, want + 320);
    struct buf out = {0};
    assert_int_equal(gguf_writer_finish(&w, &out, NULL), 0);
    assert_int_equal(out.n_bytes, sizeof want);
    assert_memory_equal(out.bytes, want, sizeof want);
    buf_fini(&out);
    gguf_writer_fini(&w);
}

static void add_one_of_each(struct gguf_writer *w) {
    gguf_writer_u8(w, "u8", 200);
    gguf_writer_i8(w, "i8", -100);
    gguf_writer_u16(w, "u16", 60000);
    gguf_writer_i16(w, "i16", 30000);
    gguf_writer_u32(w, "u32", 4000000000u);
    gguf_writer_i32(w, "i32", 2000000000);
    gguf_writer_u64(w, "u64", UINT64_MAX);
    gguf_writer_i64(w, "i64", INT64_MIN);
    gguf_writer_f32(w, "f32", 0.25f);
    gguf_writer_f64(w, "f64", 0.1);
    gguf_writer_bool(w, "true", true);
    gguf_writer_u8(w, "one", 1);
    gguf_writer_str(w, "str", "");
}

static void integers_of_every_width_read_as_u64(void **state) {
    (void)state;
    struct gguf_writer w;
    struct buf out = {0};
    gguf_writer_begin(&w);
    add_one_of_each(&w);
    struct gguf *gguf = open_writer(&w, &out);

    static const struct {
        const char *key;
        int rc;
        uint64_t value;
    } cases[] = {
            {"u8", 1, 200},
            {"i8", ERR_BAD_INPUT, 0},
            {"u16", 1, 60000},
            {"i16", 1, 30000},
            {"u32", 1, 4000000000u},
            {"i32", 1, 2000000000},
            {"u64", 1, UINT64_MAX},
            {"i64", ERR_BAD_INPUT, 0},
            {"f32", ERR_BAD_INPUT, 0},
            {"f64", ERR_BAD_INPUT, 0},
            {"true", 1, 1},
            {"str", ERR_BAD_INPUT, 0},
            {"none", 0, 0},
            {"u", 0, 0},
            {"", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t value = 42;
        struct err err = ERR_INIT;
        assert_int_equal(gguf_get_u64(gguf, cases[i].key, &value, &err), cases[i].rc);
        assert_true(value == (cases[i].rc == 1 ? cases[i].value : 42));
        if (cases[i].rc < 0) assert_non_null(strstr(err.what, cases[i].key));
    }
    gguf_walk(gguf);
    gguf_free(gguf);
    buf_fini(&out);
    gguf_writer_fini(&w);
}

static void numbers_read_as_f64_and_bools_as_bool(void **state) {
    (void)state;
    struct gguf_writer w;
    struct buf out = {0};
    gguf_writer_begin(&w);
    add_one_of_each(&w);
    struct gguf *gguf = open_writer(&w, &out);

    double f = 0;
    assert_int_equal(gguf_get_f64(gguf, "f32", &f, NULL), 1);
    assert_true(f == 0.25);
    assert_int_equal(gguf_get_f64(gguf, "f64", &f, NULL), 1);
    assert_true(f == 0.1);
    assert_int_equal(gguf_get_f64(gguf, "i8", &f, NULL), 1);
    assert_true(f == -100);
    assert_int_equal(gguf_get_f64(gguf, "str", &f, NULL), ERR_BAD_INPUT);
    bool b = false;
    assert_int_equal(gguf_get_bool(gguf, "true", &b, NULL), 1);
    assert_true(b);
    b = false;
    assert_int_equal(gguf_get_bool(gguf, "one", &b, NULL), 1);
    assert_true(b);
    assert_int_equal(gguf_get_bool(gguf, "u8", &b, NULL), ERR_BAD_INPUT);
    assert_int_equal(gguf_get_bool(gguf, "f32", &b, NULL), ERR_BAD_INPUT);
    struct gguf_str str;
    assert_int_equal(gguf_get_str(gguf, "str", &str, NULL), 1);
    assert_int_equal(str.n, 0);
    assert_int_equal(gguf_get_str(gguf, "u8", &str, NULL), ERR_BAD_INPUT);
    struct gguf_array array;
    assert_int_equal(gguf_get_array(gguf, "u8", &array, NULL), ERR_BAD_INPUT);
    assert_int_equal(gguf_get_array(gguf, "none", &array, NULL), 0);
    gguf_free(gguf);
    buf_fini(&out);
    gguf_writer_fini(&w);
}

static void keys_come_in_file_order(void **state) {
    (void)state;
    struct gguf_writer w;
    struct buf out = {0};
    gguf_writer_begin(&w);
    gguf_writer_u8(&w, "z", 1);
    gguf_writer_u8(&w, "aa", 2);
    gguf_writer_u8(&w, "a", 3);
    struct gguf *gguf = open_writer(&w, &out);
    struct gguf_str key;
    enum gguf_type type;
    static const char *const want[] = {"z", "aa", "a"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(gguf_key_at(gguf, i, &key, &type));
        assert_int_equal(key.n, strlen(want[i]));
        assert_memory_equal(key.bytes, want[i], key.n);
        assert_int_equal(type, GGUF_U8);
    }
    assert_false(gguf_key_at(gguf, 3, &key, &type));
    assert_int_equal(gguf_n_tensors(gguf), 0);
    gguf_free(gguf);
    buf_fini(&out);
    gguf_writer_fini(&w);
}

static void every_known_tensor_type_opens(void **state) {
    (void)state;
    struct gguf_writer w;
    struct buf out = {0};
    gguf_writer_begin(&w);
    uint32_t n = 0, n_computable = 0;
    for (uint32_t id = 0; id < 64; id++) {
        const struct dtype_desc *desc = dtype_find(id);
        if (!desc) continue;
        char name[16];
        snprintf(name, sizeof name, "t%u", id);
        gguf_writer_tensor(&w, name, id, 3, (const uint64_t[]){256, 3, 2}, NULL);
        n++;
        n_computable += desc->computable;
    }
    assert_int_equal(n, 35);
    assert_int_equal(n_computable, 16);
    struct gguf *gguf = open_writer(&w, &out);
    assert_int_equal(gguf_n_tensors(gguf), n);
    const struct gguf_tensor *t = gguf_find_tensor(gguf, "t16");
    assert_int_equal(t->type, DT_IQ2_XXS);
    assert_int_equal(t->n_bytes, 6 * 66);
    gguf_walk(gguf);
    gguf_free(gguf);
    buf_fini(&out);
    gguf_writer_fini(&w);
}

static void another_alignment_is_followed(void **state) {
    (void)state;
    struct gguf_writer w;
    struct buf out = {0};
    gguf_writer_begin(&w);
    w.alignment = 4096;
    gguf_writer_u32(&w, "general.alignment", 4096);
    gguf_writer_tensor(&w, "x", DT_F32, 0, NULL, (const float[]){2.5f});
    gguf_writer_tensor(&w, "y", DT_F32, 1, (const uint64_t[]){1}, (const float[]){7.5f});
    struct gguf *gguf = open_writer(&w, &out);
    const struct gguf_tensor *y = gguf_find_tensor(gguf, "y");
    assert_int_equal(y->file_offset, 8192);
    assert_memory_equal(y->bytes, (const float[]){7.5f}, 4);
    const struct gguf_tensor *x = gguf_find_tensor(gguf, "x");
    assert_int_equal(x->n_dims, 1); /* a scalar shows as one element */
    assert_int_equal(x->ne[0], 1);
    gguf_free(gguf);
    buf_fini(&out);
    gguf_writer_fini(&w);
}

/* Put together by hand: one array holding an empty array and an array of two u8. */
static void arrays_within_arrays_open_but_are_not_plain_arrays(void **state) {
    (void)state;
    struct gguf_writer w;
    struct buf out = {0};
    static const uint8_t nested[] = {9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, /* array[2] */
            4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                          /* u32[0] */
            0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 6};                   /* u8[2] */
    gguf_writer_begin(&w);
    gguf_writer_raw(&w, "nested", GGUF_ARRAY, nested, sizeof nested);
    gguf_writer_array(&w, "empty", GGUF_F32, 0, NULL);
    gguf_writer_u8(&w, "after", 9);
    struct gguf *gguf = open_writer(&w, &out);
    struct gguf_array array;
    uint64_t n = 0;
    assert_int_equal(gguf_get_array(gguf, "nested", &array, NULL), ERR_BAD_INPUT);
    assert_int_equal(gguf_get_array(gguf, "empty", &array, NULL), 1);
    assert_int_equal(array.n, 0);
    assert_int_equal(gguf_get_u64(gguf, "after", &n, NULL), 1);
    assert_int_equal(n, 9);
    gguf_free(gguf);
    buf_fini(&out);
    gguf_writer_fini(&w);
}

static void released_pages_can_be_read_again(void **state) {
    (void)state;
    enum { N = 64 << 10 };
    struct tmpdir dir;
    char path[512];
    assert_true(tmpdir_new(&dir));
    tmpdir_file(&dir, "big.gguf", path);
    uint8_t *bytes = malloc(N);
    assert_non_null(bytes);
    for (size_t i = 0; i < N; i++)
        bytes[i] = (uint8_t)(i * 7 >> 3);
    struct gguf_writer w;
    gguf_writer_begin(&w);
    gguf_writer_tensor(&w, "x", DT_I8, 1, (const uint64_t[]){N}, bytes);
    assert_int_equal(gguf_writer_finish_file(&w, path, NULL), 0);

    struct gguf *gguf = NULL;
    assert_int_equal(gguf_open(path, &gguf, NULL), 0);
    const struct gguf_tensor *x = gguf_find_tensor(gguf, "x");
    assert_memory_equal(x->bytes, bytes, N);
    gguf_release(gguf, x->bytes, x->n_bytes);
    gguf_release(gguf, x->bytes + 10, 20);    /* less than a page */
    gguf_release(gguf, bytes, N);             /* not ours: nothing happens */
    gguf_release(gguf, x->bytes, UINT64_MAX); /* past the end: nothing happens */
    assert_memory_equal(x->bytes, bytes, N);
    gguf_free(gguf);

    /* In borrowed memory nothing may be thrown away. */
    struct buf out = {0};
    gguf = open_writer(&w, &out);
    x = gguf_find_tensor(gguf, "x");
    gguf_release(gguf, x->bytes, x->n_bytes);
    assert_memory_equal(x->bytes, bytes, N);
    gguf_free(gguf);
    buf_fini(&out);
    gguf_writer_fini(&w);
    free(bytes);
    tmpdir_remove(&dir);
}

static void a_large_vocabulary_walks_to_its_end(void **state) {
    (void)state;
    enum { N = 200000 };
    struct gguf_writer w;
    struct buf out = {0};
    const char **words = calloc(N, sizeof *words);
    char *text = malloc(N * 8);
    assert_true(words && text);
    for (int i = 0; i < N; i++) {
        words[i] = text + 8 * i;
        snprintf(text + 8 * i, 8, "%d", i);
    }
    gguf_writer_begin(&w);
    gguf_writer_str_array(&w, "tokenizer.ggml.tokens", N, words);
    struct gguf *gguf = open_writer(&w, &out);
    struct gguf_array array;
    assert_int_equal(gguf_get_array(gguf, "tokenizer.ggml.tokens", &array, NULL), 1);
    size_t cursor = 0;
    struct gguf_str str;
    int n = 0;
    while (gguf_array_next_str(&array, &cursor, &str)) {
        assert_int_equal(str.n, strlen(words[n]));
        assert_memory_equal(str.bytes, words[n], str.n);
        n++;
    }
    assert_int_equal(n, N);
    gguf_free(gguf);
    buf_fini(&out);
    gguf_writer_fini(&w);
    free(words);
    free(text);
}

static const char *shared(void) {
    const char *path = getenv("POTLUCK_SHARED");
    return path ? path : "../shared";
}

/* What every model of ours has, whatever its architecture. */
static void check_model(const char *path) {
    struct err err = ERR_INIT;
    struct gguf *gguf = NULL;
    if (gguf_open(path, &gguf, &err) < 0) fail_msg("%s: %s", path, err.what);
    struct gguf_str arch;
    assert_int_equal(gguf_get_str(gguf, "general.architecture", &arch, &err), 1);
    char key[128];
    uint64_t n_layer = 0, n_embd = 0;
    snprintf(key, sizeof key, "%.*s.block_count", (int)arch.n, arch.bytes);
    assert_int_equal(gguf_get_u64(gguf, key, &n_layer, &err), 1);
    snprintf(key, sizeof key, "%.*s.embedding_length", (int)arch.n, arch.bytes);
    assert_int_equal(gguf_get_u64(gguf, key, &n_embd, &err), 1);

    struct gguf_array tokens, kinds;
    assert_int_equal(gguf_get_array(gguf, "tokenizer.ggml.tokens", &tokens, &err), 1);
    assert_int_equal(gguf_get_array(gguf, "tokenizer.ggml.token_type", &kinds, &err), 1);
    assert_int_equal(tokens.n, kinds.n);
    const struct gguf_tensor *embd = gguf_find_tensor(gguf, "token_embd.weight");
    assert_non_null(embd);
    assert_int_equal(embd->ne[0], n_embd);
    assert_int_equal(embd->ne[1], tokens.n);
    snprintf(key, sizeof key, "blk.%d.attn_norm.weight", (int)n_layer - 1);
    const struct gguf_tensor *norm = gguf_find_tensor(gguf, key);
    assert_non_null(norm);
    assert_int_equal(norm->type, DT_F32);
    assert_int_equal(norm->ne[0], n_embd);
    gguf_walk(gguf);
    gguf_free(gguf);
}

static void every_tiny_model_opens(void **state) {
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/models/tiny", shared());
    DIR *dir = opendir(path);
    if (!dir) skip();
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".gguf") != 0) continue;
        snprintf(path, sizeof path, "%s/models/tiny/%s", shared(), entry->d_name);
        check_model(path);
        n++;
    }
    closedir(dir);
    assert_true(n >= 25);
}

static void the_demo_model_has_its_experts_in_one_tensor(void **state) {
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/models/demo/potluck-demo.gguf", shared());
    struct err err = ERR_INIT;
    struct gguf *gguf = NULL;
    int rc = gguf_open(path, &gguf, &err);
    if (rc == ERR_IO) skip();
    assert_int_equal(rc, 0);
    assert_int_equal(gguf_n_tensors(gguf), 121);
    assert_int_equal(gguf_file_bytes(gguf), 15325632);
    uint64_t n_expert = 0;
    assert_int_equal(gguf_get_u64(gguf, "glm4moe.expert_count", &n_expert, &err), 1);
    assert_int_equal(n_expert, 16);
    const struct gguf_tensor *experts = gguf_find_tensor(gguf, "blk.1.ffn_gate_exps.weight");
    assert_non_null(experts);
    assert_int_equal(experts->n_dims, 3);
    assert_int_equal(experts->ne[2], n_expert);
    assert_int_equal(experts->n_bytes, n_expert * 256 * dtype_row_bytes(experts->type, 256));
    gguf_free(gguf);
    check_model(path);
}

static void types_have_the_sizes_of_the_format(void **state) {
    (void)state;
    assert_int_equal(dtype_row_bytes(DT_Q4_K, 512), 288);
    assert_int_equal(dtype_row_bytes(DT_MXFP4, 64), 34);
    assert_int_equal(dtype_row_bytes(DT_F32, 3), 12);
    assert_int_equal(dtype_row_bytes(DT_BF16, 0), 0);
    assert_string_equal(dtype_name(DT_IQ4_XS), "IQ4_XS");
    assert_string_equal(dtype_name(4), "Q4_2");
    assert_string_equal(dtype_name(43), "unknown");
    assert_string_equal(dtype_name(UINT32_MAX), "unknown");
    assert_null(dtype_find(4));
    assert_null(dtype_find(36));
    assert_null(dtype_find(43));
    assert_null(dtype_find(UINT32_MAX));
    for (uint32_t id = 0; id < DT_COUNT; id++) {
        const struct dtype_desc *desc = dtype_find(id);
        if (!desc || !desc->computable) continue;
        enum act_kind want = desc->block_elems == 1    ? ACT_F32
                             : desc->block_elems == 32 ? ACT_Q8_32
                                                       : ACT_Q8_256;
        assert_int_equal(desc->act, want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_example_file_reads_right),
            cmocka_unit_test(version_2_reads_the_same),
            cmocka_unit_test(a_file_on_disk_reads_like_memory),
            cmocka_unit_test(the_writer_makes_the_example_byte_for_byte),
            cmocka_unit_test(integers_of_every_width_read_as_u64),
            cmocka_unit_test(numbers_read_as_f64_and_bools_as_bool),
            cmocka_unit_test(keys_come_in_file_order),
            cmocka_unit_test(every_known_tensor_type_opens),
            cmocka_unit_test(another_alignment_is_followed),
            cmocka_unit_test(arrays_within_arrays_open_but_are_not_plain_arrays),
            cmocka_unit_test(released_pages_can_be_read_again),
            cmocka_unit_test(a_large_vocabulary_walks_to_its_end),
            cmocka_unit_test(every_tiny_model_opens),
            cmocka_unit_test(the_demo_model_has_its_experts_in_one_tensor),
            cmocka_unit_test(types_have_the_sizes_of_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
