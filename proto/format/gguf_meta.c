/* gguf_meta.c - typed access to metadata.
 * Owns: nothing. Does not: check lengths again (gguf_parse.c did), but for arrays, which are public
 * structs. Runs on: any thread. */
#include "proto/format/gguf_internal.h"

#include "proto/base/checked.h"

#include <inttypes.h>
#include <string.h>

static const struct {
    const char *name;
    size_t n_bytes;
} types[GGUF_TYPE_COUNT] = {
        [GGUF_U8] = {"u8", 1},
        [GGUF_I8] = {"i8", 1},
        [GGUF_U16] = {"u16", 2},
        [GGUF_I16] = {"i16", 2},
        [GGUF_U32] = {"u32", 4},
        [GGUF_I32] = {"i32", 4},
        [GGUF_F32] = {"f32", 4},
        [GGUF_BOOL] = {"bool", 1},
        [GGUF_STRING] = {"string", 0},
        [GGUF_ARRAY] = {"array", 0},
        [GGUF_U64] = {"u64", 8},
        [GGUF_I64] = {"i64", 8},
        [GGUF_F64] = {"f64", 8},
};

size_t gguf_type_bytes(enum gguf_type type) {
    return types[type].n_bytes;
}

const char *gguf_type_name(enum gguf_type type) {
    return (unsigned)type < ARRAY_LEN(types) ? types[type].name : "unknown";
}

/* A scalar of any type, widened. */
struct number {
    enum { NUMBER_NONE, NUMBER_UNSIGNED, NUMBER_NEGATIVE, NUMBER_FLOAT } kind;
    uint64_t u; /* NUMBER_UNSIGNED */
    int64_t i;  /* NUMBER_NEGATIVE */
    double f;   /* NUMBER_FLOAT */
};

static struct number from_signed(int64_t i) {
    return i < 0 ? (struct number){.kind = NUMBER_NEGATIVE, .i = i}
                 : (struct number){.kind = NUMBER_UNSIGNED, .u = (uint64_t)i};
}

static struct number load(enum gguf_type type, const uint8_t *bytes) {
    struct number n = {.kind = NUMBER_UNSIGNED};
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    float f32;

    switch (type) {
    case GGUF_BOOL:
        n.u = bytes[0] != 0;
        return n;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        memcpy(&n.u, bytes, types[type].n_bytes);
        return n;
    case GGUF_I8:
        memcpy(&i8, bytes, sizeof i8);
        return from_signed(i8);
    case GGUF_I16:
        memcpy(&i16, bytes, sizeof i16);
        return from_signed(i16);
    case GGUF_I32:
        memcpy(&i32, bytes, sizeof i32);
        return from_signed(i32);
    case GGUF_I64:
        memcpy(&i64, bytes, sizeof i64);
        return from_signed(i64);
    case GGUF_F32:
        memcpy(&f32, bytes, sizeof f32);
        return (struct number){.kind = NUMBER_FLOAT, .f = (double)f32};
    case GGUF_F64:
        memcpy(&n.f, bytes, sizeof n.f);
        n.kind = NUMBER_FLOAT;
        return n;
    default:
        return (struct number){.kind = NUMBER_NONE};
    }
}

static double as_f64(struct number n) {
    if (n.kind == NUMBER_FLOAT) return n.f;
    return n.kind == NUMBER_NEGATIVE ? (double)n.i : (double)n.u;
}

static int wrong_type(
        const char *key, const struct gguf_kv *kv, const char *want, struct err *err) {
    return err_set(err, ERR_BAD_INPUT, "metadata %s has type %s where %s is expected", key,
            gguf_type_name(kv->type), want);
}

int gguf_part_get_u64(
        const struct gguf_part *part, const char *key, uint64_t *value, struct err *err) {
    const struct gguf_kv *kv = gguf_part_find(part, key);
    if (!kv) return 0;
    struct number n = load(kv->type, kv->value);
    if (n.kind == NUMBER_NEGATIVE)
        return err_set(err, ERR_BAD_INPUT, "metadata %s is %" PRId64 ", below zero", key, n.i);
    if (n.kind != NUMBER_UNSIGNED) return wrong_type(key, kv, "an integer", err);
    *value = n.u;
    return 1;
}

int gguf_get_u64(const struct gguf *gguf, const char *key, uint64_t *value, struct err *err) {
    return gguf_part_get_u64(&gguf->parts[0], key, value, err);
}

int gguf_get_f64(const struct gguf *gguf, const char *key, double *value, struct err *err) {
    const struct gguf_kv *kv = gguf_part_find(&gguf->parts[0], key);
    if (!kv) return 0;
    struct number n = load(kv->type, kv->value);
    if (n.kind == NUMBER_NONE) return wrong_type(key, kv, "a number", err);
    *value = as_f64(n);
    return 1;
}

int gguf_get_bool(const struct gguf *gguf, const char *key, bool *value, struct err *err) {
    const struct gguf_kv *kv = gguf_part_find(&gguf->parts[0], key);
    if (!kv) return 0;
    struct number n = load(kv->type, kv->value);
    if (n.kind != NUMBER_UNSIGNED || n.u > 1) return wrong_type(key, kv, "true or false", err);
    *value = n.u != 0;
    return 1;
}

int gguf_get_str(
        const struct gguf *gguf, const char *key, struct gguf_str *value, struct err *err) {
    const struct gguf_kv *kv = gguf_part_find(&gguf->parts[0], key);
    if (!kv) return 0;
    if (kv->type != GGUF_STRING) return wrong_type(key, kv, "a string", err);
    *value = (struct gguf_str){(const char *)kv->value + 8, kv->n_bytes - 8};
    return 1;
}

int gguf_get_array(
        const struct gguf *gguf, const char *key, struct gguf_array *value, struct err *err) {
    const struct gguf_kv *kv = gguf_part_find(&gguf->parts[0], key);
    if (!kv) return 0;
    if (kv->type != GGUF_ARRAY) return wrong_type(key, kv, "an array", err);
    uint32_t type = gguf_load_u32(kv->value);
    if (type == GGUF_ARRAY)
        return err_set(err, ERR_BAD_INPUT,
                "metadata %s is an array of arrays where a plain array "
                "is expected",
                key);
    *value = (struct gguf_array){
            .type = type,
            .n = gguf_load_u64(kv->value + 4),
            .bytes = kv->value + 12,
            .n_bytes = kv->n_bytes - 12,
    };
    return 1;
}

static int element(
        const struct gguf_array *array, uint64_t i, struct number *out_number, struct err *err) {
    if (i >= array->n)
        return err_set(
                err, ERR_BAD_INPUT, "element %" PRIu64 " of an array of %" PRIu64, i, array->n);
    size_t size = (unsigned)array->type < ARRAY_LEN(types) ? types[array->type].n_bytes : 0;
    if (size == 0 || i >= array->n_bytes / size)
        return err_set(err, ERR_BAD_INPUT, "an array of type %s where numbers are expected",
                gguf_type_name(array->type));
    *out_number = load(array->type, array->bytes + i * size);
    return 0;
}

int gguf_array_u64(const struct gguf_array *array, uint64_t i, uint64_t *value, struct err *err) {
    struct number n = {0};
    int rc = element(array, i, &n, err);
    if (rc < 0) return rc;
    if (n.kind == NUMBER_NEGATIVE)
        return err_set(err, ERR_BAD_INPUT,
                "element %" PRIu64 " of an array is %" PRId64 ", below zero", i, n.i);
    if (n.kind != NUMBER_UNSIGNED)
        return err_set(err, ERR_BAD_INPUT, "an array of type %s where integers are expected",
                gguf_type_name(array->type));
    *value = n.u;
    return 0;
}

int gguf_array_i64(const struct gguf_array *array, uint64_t i, int64_t *value, struct err *err) {
    struct number n = {0};
    int rc = element(array, i, &n, err);
    if (rc < 0) return rc;
    if (n.kind == NUMBER_FLOAT)
        return err_set(err, ERR_BAD_INPUT, "an array of type %s where integers are expected",
                gguf_type_name(array->type));
    if (n.kind == NUMBER_UNSIGNED && n.u > INT64_MAX)
        return err_set(err, ERR_BAD_INPUT,
                "element %" PRIu64 " of an array is %" PRIu64 ", too large", i, n.u);
    *value = n.kind == NUMBER_NEGATIVE ? n.i : (int64_t)n.u;
    return 0;
}

int gguf_array_f64(const struct gguf_array *array, uint64_t i, double *value, struct err *err) {
    struct number n = {0};
    int rc = element(array, i, &n, err);
    if (rc == 0) *value = as_f64(n);
    return rc;
}

bool gguf_array_next_str(const struct gguf_array *array, size_t *cursor, struct gguf_str *value) {
    if (array->type != GGUF_STRING || *cursor > array->n_bytes || array->n_bytes - *cursor < 8)
        return false;
    uint64_t n = gguf_load_u64(array->bytes + *cursor);
    if (n > array->n_bytes - *cursor - 8) return false;
    *value = (struct gguf_str){(const char *)array->bytes + *cursor + 8, (size_t)n};
    *cursor += 8 + (size_t)n;
    return true;
}

bool gguf_key_at(
        const struct gguf *gguf, uint64_t index, struct gguf_str *key, enum gguf_type *type) {
    const struct gguf_part *part = &gguf->parts[0];
    if (index >= part->n_kvs) return false;
    *key = part->kvs[index].key;
    *type = part->kvs[index].type;
    return true;
}
