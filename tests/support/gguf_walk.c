/* gguf_walk.c - touches everything an open GGUF file offers. Owns: nothing. Runs on: any thread. */
#include "tests/support/gguf_walk.h"

#include "proto/base/checked.h"

#include <stdlib.h>
#include <string.h>

static uint64_t sum(const void *bytes, uint64_t n) {
    const uint8_t *b = bytes;
    uint64_t s = n;
    for (uint64_t i = 0; i < n; i++)
        s = s * 31 + b[i];
    return s;
}

static uint64_t walk_array(const struct gguf_array *array) {
    uint64_t s = sum(array->bytes, array->n_bytes);
    uint64_t n_strings = 0, u = 0;
    int64_t i64 = 0;
    double f = 0;
    size_t cursor = 0;
    struct gguf_str str;
    while (gguf_array_next_str(array, &cursor, &str)) {
        s += sum(str.bytes, str.n);
        n_strings++;
    }
    ASSERT(array->type != GGUF_STRING || (n_strings == array->n && cursor == array->n_bytes));
    for (uint64_t i = 0; i < array->n; i++) {
        (void)gguf_array_u64(array, i, &u, NULL); /* what does not fit is refused: also a result */
        (void)gguf_array_i64(array, i, &i64, NULL);
        (void)gguf_array_f64(array, i, &f, NULL);
        s += u + (uint64_t)i64 + sum(&f, sizeof f);
    }
    ASSERT(gguf_array_u64(array, array->n, &u, NULL) == ERR_BAD_INPUT);
    return s;
}

static uint64_t walk_key(const struct gguf *gguf, const char *key) {
    uint64_t u = 0;
    double f = 0;
    bool b = false;
    struct gguf_str str = {"", 0};
    struct gguf_array array = {0};
    struct err err = ERR_INIT;
    int found = gguf_get_u64(gguf, key, &u, &err) != 0;
    found += gguf_get_f64(gguf, key, &f, &err) != 0;
    found += gguf_get_bool(gguf, key, &b, &err) != 0;
    found += gguf_get_str(gguf, key, &str, &err) != 0;
    bool is_array = gguf_get_array(gguf, key, &array, &err) == 1;
    ASSERT(found == 4); /* a key that is there is never "not there" */
    uint64_t s = u + b + sum(&f, sizeof f) + sum(str.bytes, str.n);
    return is_array ? s + walk_array(&array) : s;
}

uint64_t gguf_walk(const struct gguf *gguf) {
    uint64_t s = gguf_file_bytes(gguf) + gguf_version(gguf) + strlen(gguf_path(gguf));
    struct gguf_str key;
    enum gguf_type type;
    for (uint64_t i = 0; gguf_key_at(gguf, i, &key, &type); i++) {
        char *name = malloc(key.n + 1);
        if (!name) return s;
        memcpy(name, key.bytes, key.n);
        name[key.n] = 0;
        s += walk_key(gguf, name) + strlen(gguf_type_name(type));
        free(name);
    }
    for (uint64_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(gguf, i);
        ASSERT(gguf_find_tensor(gguf, t->name) == t);
        ASSERT(dtype_find(t->type) != NULL);
        uint64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
        ASSERT(t->n_bytes == rows * dtype_row_bytes(t->type, t->ne[0]));
        s += sum(t->bytes, t->n_bytes);
        gguf_release(gguf, t->bytes, t->n_bytes);
    }
    ASSERT(gguf_tensor_at(gguf, gguf_n_tensors(gguf)) == NULL);
    return s;
}
