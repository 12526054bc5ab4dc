/* gguf_parse.c - reads the head of one GGUF file and checks all of it.
 * Owns: nothing; fills a struct gguf_part. Does not: open files, or look at tensor data.
 * Runs on: any thread. Every length is compared with what is left before it is used, so that a
 * bad file costs at most a few times its own size in memory and one walk in time. */
#include "proto/format/gguf_internal.h"

#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF files and this program are little-endian"
#endif

#define MAGIC "GGUF"
#define VERSION_MIN 2
#define VERSION_MAX 3
#define KV_BYTES_MIN 14     /* length, a key of one byte, type, a value of one byte */
#define TENSOR_BYTES_MIN 25 /* length, a name of one byte, dimensions, type, offset */
#define ARRAY_BYTES_MIN 12  /* type and count */
#define ARRAY_DEPTH_MAX 4
#define KEY_BYTES_MAX 65535
#define NAME_BYTES_MAX 64
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MAX (64 << 10)

/* Real files have under a hundred keys and, with every expert a tensor of its own, under a hundred
 * thousand tensors; a file that claims more than these is not worth the memory. */
#define KVS_MAX (UINT64_C(1) << 16)
#define TENSORS_MAX (UINT64_C(1) << 20)

struct cursor {
    const uint8_t *bytes;
    size_t n_bytes;
    size_t at;
};

uint32_t gguf_load_u32(const uint8_t *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

uint64_t gguf_load_u64(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

int gguf_str_cmp(struct gguf_str a, struct gguf_str b) {
    int order = memcmp(a.bytes, b.bytes, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static size_t left(const struct cursor *c) {
    return c->n_bytes - c->at;
}

static void truncated_hint(struct err *err) {
    err_hint(err, "The download may be incomplete: compare its size with the original and fetch "
                  "it again");
}

static int cut(const struct cursor *c, const char *what, struct err *err) {
    err_set(err, ERR_BAD_INPUT, "the file ends inside %s at byte %zu of %zu", what, c->at,
            c->n_bytes);
    truncated_hint(err);
    return ERR_BAD_INPUT;
}

static int take(struct cursor *c, uint64_t n, const char *what, const uint8_t **out_bytes,
        struct err *err) {
    if (n > left(c)) return cut(c, what, err);
    *out_bytes = c->bytes + c->at;
    c->at += (size_t)n;
    return 0;
}

static int take_u32(struct cursor *c, const char *what, uint32_t *out_value, struct err *err) {
    const uint8_t *bytes;
    int rc = take(c, 4, what, &bytes, err);
    if (rc == 0) *out_value = gguf_load_u32(bytes);
    return rc;
}

static int take_u64(struct cursor *c, const char *what, uint64_t *out_value, struct err *err) {
    const uint8_t *bytes;
    int rc = take(c, 8, what, &bytes, err);
    if (rc == 0) *out_value = gguf_load_u64(bytes);
    return rc;
}

static int take_str(struct cursor *c, const char *what, struct gguf_str *out_str, struct err *err) {
    uint64_t n = 0;
    const uint8_t *bytes = NULL;
    int rc = take_u64(c, what, &n, err);
    if (rc == 0) rc = take(c, n, what, &bytes, err);
    if (rc == 0) *out_str = (struct gguf_str){(const char *)bytes, (size_t)n};
    return rc;
}

/* A key or a tensor's name: neither empty nor long, and printable in a message. */
static int take_name(struct cursor *c, const char *what, size_t max, struct gguf_str *out_name,
        struct err *err) {
    size_t at = c->at;
    int rc = take_str(c, what, out_name, err);
    if (rc < 0) return rc;
    if (out_name->n == 0 || out_name->n > max)
        return err_set(err, ERR_BAD_INPUT, "%s at byte %zu has %zu bytes; 1 to %zu are allowed",
                what, at, out_name->n, max);
    for (size_t i = 0; i < out_name->n; i++) {
        unsigned char b = (unsigned char)out_name->bytes[i];
        if (b < 0x20 || b == 0x7f)
            return err_set(err, ERR_BAD_INPUT, "%s at byte %zu has a control character (0x%02x)",
                    what, at, b);
    }
    return 0;
}

static int skip_value(struct cursor *c, uint32_t type, int depth, struct err *err);

static int skip_array(struct cursor *c, int depth, struct err *err) {
    size_t at = c->at;
    uint32_t type = 0;
    uint64_t n = 0;
    int rc = take_u32(c, "an array", &type, err);
    if (rc == 0) rc = take_u64(c, "an array", &n, err);
    if (rc < 0) return rc;
    if (type >= GGUF_TYPE_COUNT)
        return err_set(
                err, ERR_BAD_INPUT, "an array of unknown type %" PRIu32 " at byte %zu", type, at);
    if (type == GGUF_ARRAY && depth >= ARRAY_DEPTH_MAX)
        return err_set(err, ERR_BAD_INPUT, "arrays within arrays deeper than %d at byte %zu",
                ARRAY_DEPTH_MAX, at);

    size_t size = gguf_type_bytes(type);
    uint64_t least = size ? size : type == GGUF_STRING ? 8 : ARRAY_BYTES_MIN;
    if (n > left(c) / least) return cut(c, "an array", err);
    if (size) {
        c->at += (size_t)n * size;
        return 0;
    }
    for (uint64_t i = 0; rc == 0 && i < n; i++)
        rc = skip_value(c, type, depth, err);
    return rc;
}

static int skip_value(struct cursor *c, uint32_t type, int depth, struct err *err) {
    const uint8_t *bytes;
    struct gguf_str str;
    if (type == GGUF_STRING) return take_str(c, "a string", &str, err);
    if (type == GGUF_ARRAY) return skip_array(c, depth + 1, err);
    return take(c, gguf_type_bytes(type), "a value", &bytes, err);
}

static int parse_kv(struct cursor *c, struct gguf_kv *kv, struct err *err) {
    uint32_t type = 0;
    int rc = take_name(c, "a metadata key", KEY_BYTES_MAX, &kv->key, err);
    if (rc == 0) rc = take_u32(c, "a metadata entry", &type, err);
    if (rc < 0) return rc;

    int n = (int)min_u64(kv->key.n, 64);
    if (type >= GGUF_TYPE_COUNT)
        return err_set(err, ERR_BAD_INPUT, "metadata %.*s has unknown type %" PRIu32 " at byte %zu",
                n, kv->key.bytes, type, c->at - 4);
    kv->type = type;
    kv->value = c->bytes + c->at;
    size_t from = c->at;
    rc = skip_value(c, type, 0, err);
    kv->n_bytes = c->at - from;
    if (rc < 0) err_note(err, "metadata %.*s", n, kv->key.bytes);
    return rc;
}

static int by_key(const void *a, const void *b) {
    const struct gguf_kv *const *x = a;
    const struct gguf_kv *const *y = b;
    return gguf_str_cmp((*x)->key, (*y)->key);
}

static int parse_kvs(struct gguf_part *part, struct cursor *c, struct err *err) {
    part->kvs = calloc(part->n_kvs + 1, sizeof *part->kvs);
    part->by_key = calloc(part->n_kvs + 1, sizeof *part->by_key);
    if (!part->kvs || !part->by_key)
        return err_set(
                err, ERR_NO_MEMORY, "no memory for %" PRIu64 " metadata entries", part->n_kvs);

    for (uint64_t i = 0; i < part->n_kvs; i++) {
        int rc = parse_kv(c, &part->kvs[i], err);
        if (rc < 0) return rc;
        part->by_key[i] = &part->kvs[i];
    }
    qsort(part->by_key, part->n_kvs, sizeof *part->by_key, by_key);
    for (uint64_t i = 1; i < part->n_kvs; i++)
        if (by_key(&part->by_key[i - 1], &part->by_key[i]) == 0)
            return err_set(err, ERR_BAD_INPUT, "metadata %.*s is there twice",
                    (int)min_u64(part->by_key[i]->key.n, 64), part->by_key[i]->key.bytes);
    return 0;
}

const struct gguf_kv *gguf_part_find(const struct gguf_part *part, const char *key) {
    struct gguf_kv want = {.key = {key, strlen(key)}};
    const struct gguf_kv *ptr = &want;
    const struct gguf_kv **found =
            bsearch(&ptr, part->by_key, part->n_kvs, sizeof *part->by_key, by_key);
    return found ? *found : NULL;
}

static int find_alignment(const struct gguf_part *part, uint32_t *out_alignment, struct err *err) {
    const struct gguf_kv *kv = gguf_part_find(part, "general.alignment");
    *out_alignment = ALIGNMENT_DEFAULT;
    if (!kv) return 0;
    if (kv->type != GGUF_U32)
        return err_set(err, ERR_BAD_INPUT, "general.alignment has type %s, not u32",
                gguf_type_name(kv->type));
    uint32_t n = gguf_load_u32(kv->value);
    if (n == 0 || (n & (n - 1)) != 0 || n > ALIGNMENT_MAX)
        return err_set(err, ERR_BAD_INPUT,
                "general.alignment is %" PRIu32 "; powers of two up to %d are allowed", n,
                ALIGNMENT_MAX);
    *out_alignment = n;
    return 0;
}

static int check_type(const char *name, uint32_t type, struct err *err) {
    if (dtype_find(type)) return 0;
    if (type < DT_COUNT) {
        err_set(err, ERR_UNSUPPORTED,
                "tensor %s has type %s (%" PRIu32 "), which was removed from the format", name,
                dtype_name(type), type);
        err_hint(err, "Use a newer conversion of the model, for example Q4_K_M");
    } else {
        err_set(err, ERR_UNSUPPORTED,
                "tensor %s has type %" PRIu32 ", which the GGUF format does not know", name, type);
        err_hint(err,
                "Types above %d come from forks with formats of their own: use a file with "
                "standard types, for example Q4_K_M",
                DT_COUNT - 1);
    }
    return ERR_UNSUPPORTED;
}

/* Sizes from ne and type, with every product checked. */
static int size_tensor(struct gguf_tensor *t, struct err *err) {
    uint64_t n_elems = 1;
    for (uint32_t d = 0; d < 4; d++) {
        if (t->ne[d] == 0) return err_set(err, ERR_BAD_INPUT, "tensor %s has no elements", t->name);
        if (!mul_u64(n_elems, t->ne[d], &n_elems) || n_elems > INT64_MAX)
            return err_set(err, ERR_BAD_INPUT,
                    "tensor %s has too many elements (dimension %" PRIu32 " is %" PRIu64 ")",
                    t->name, d, t->ne[d]);
    }
    const struct dtype_desc *desc = dtype_find(t->type);
    if (t->ne[0] % desc->block_elems != 0)
        return err_set(err, ERR_BAD_INPUT,
                "tensor %s has rows of %" PRIu64 " elements, which is no multiple of the %" PRIu32
                " in a block of %s",
                t->name, t->ne[0], desc->block_elems, desc->name);
    if (!mul_u64(n_elems / desc->block_elems, desc->block_bytes, &t->n_bytes))
        return err_set(err, ERR_BAD_INPUT, "tensor %s is too large to address", t->name);
    return 0;
}

/* Leaves the offset within the data section in file_offset. */
static int parse_tensor(struct cursor *c, struct gguf_tensor *t, char *name, struct err *err) {
    size_t at = c->at;
    struct gguf_str str;
    int rc = take_name(c, "a tensor name", NAME_BYTES_MAX, &str, err);
    if (rc < 0) return rc;
    memcpy(name, str.bytes, str.n);
    name[str.n] = 0;
    t->name = name;

    rc = take_u32(c, "a tensor description", &t->n_dims, err);
    if (rc < 0) return rc;
    if (t->n_dims > 4)
        return err_set(err, ERR_BAD_INPUT,
                "tensor %s at byte %zu has %" PRIu32 " dimensions; 4 is the most", name, at,
                t->n_dims);
    for (uint32_t d = 0; d < 4; d++) {
        t->ne[d] = 1;
        if (d < t->n_dims) rc = take_u64(c, "a tensor description", &t->ne[d], err);
        if (rc < 0) return rc;
    }
    if (t->n_dims == 0) t->n_dims = 1;

    uint32_t type = 0;
    rc = take_u32(c, "a tensor description", &type, err);
    if (rc == 0) rc = take_u64(c, "a tensor description", &t->file_offset, err);
    if (rc == 0) rc = check_type(name, type, err);
    if (rc < 0) return rc;
    t->type = type;
    return size_tensor(t, err);
}

/* Turns offsets within the data section into places in the file. */
static int place_tensor(const struct gguf_part *part, struct gguf_tensor *t, uint64_t data_start,
        uint32_t alignment, struct err *err) {
    if (t->file_offset % alignment != 0)
        return err_set(err, ERR_BAD_INPUT,
                "tensor %s is at offset %" PRIu64 ", no multiple of the alignment %" PRIu32,
                t->name, t->file_offset, alignment);
    uint64_t end;
    if (!add_u64(data_start, t->file_offset, &t->file_offset) ||
            !add_u64(t->file_offset, t->n_bytes, &end) || end > part->n_bytes) {
        err_set(err, ERR_BAD_INPUT,
                "tensor %s needs %" PRIu64 " bytes at byte %" PRIu64 ", but the file has only %zu",
                t->name, t->n_bytes, t->file_offset, part->n_bytes);
        truncated_hint(err);
        return ERR_BAD_INPUT;
    }
    t->bytes = part->bytes + t->file_offset;
    return 0;
}

static int by_place(const void *a, const void *b) {
    const struct gguf_tensor *const *x = a;
    const struct gguf_tensor *const *y = b;
    return ((*x)->file_offset > (*y)->file_offset) - ((*x)->file_offset < (*y)->file_offset);
}

static int check_overlap(const struct gguf_part *part, struct err *err) {
    const struct gguf_tensor **order = calloc(part->n_tensors + 1, sizeof *order);
    if (!order)
        return err_set(err, ERR_NO_MEMORY, "no memory for %" PRIu64 " tensors", part->n_tensors);
    for (uint64_t i = 0; i < part->n_tensors; i++)
        order[i] = &part->tensors[i];
    qsort(order, part->n_tensors, sizeof *order, by_place);

    int rc = 0;
    for (uint64_t i = 1; rc == 0 && i < part->n_tensors; i++)
        if (order[i]->file_offset - order[i - 1]->file_offset < order[i - 1]->n_bytes)
            rc = err_set(err, ERR_BAD_INPUT, "tensors %s and %s overlap at byte %" PRIu64,
                    order[i - 1]->name, order[i]->name, order[i]->file_offset);
    free(order);
    return rc;
}

static int parse_tensors(struct gguf_part *part, struct cursor *c, struct err *err) {
    uint32_t alignment;
    int rc = find_alignment(part, &alignment, err);
    if (rc < 0) return rc;

    part->tensors = calloc(part->n_tensors + 1, sizeof *part->tensors);
    part->names = calloc(part->n_tensors + 1, NAME_BYTES_MAX + 1);
    if (!part->tensors || !part->names)
        return err_set(err, ERR_NO_MEMORY, "no memory for %" PRIu64 " tensors", part->n_tensors);
    char *name = part->names;
    for (uint64_t i = 0; i < part->n_tensors; i++) {
        rc = parse_tensor(c, &part->tensors[i], name, err);
        if (rc < 0) return rc;
        name += strlen(name) + 1;
    }
    uint64_t data_start = align_up(c->at, alignment);
    for (uint64_t i = 0; i < part->n_tensors; i++) {
        rc = place_tensor(part, &part->tensors[i], data_start, alignment, err);
        if (rc < 0) return rc;
    }
    return check_overlap(part, err);
}

/* Whether the header's count n of something can be true. */
static int check_claim(const struct cursor *c, uint64_t n, uint64_t max, size_t least_bytes,
        const char *what, struct err *err) {
    if (n <= max && n <= left(c) / least_bytes) return 0;
    err_set(err, ERR_BAD_INPUT, "the header claims %" PRIu64 " %s in a file of %zu bytes", n, what,
            c->n_bytes);
    if (n <= max) truncated_hint(err);
    return ERR_BAD_INPUT;
}

static int parse_header(struct gguf_part *part, struct cursor *c, struct err *err) {
    const uint8_t *magic;
    int rc = take(c, 4, "the header", &magic, err);
    if (rc < 0) return rc;
    if (memcmp(magic, MAGIC, 4) != 0) {
        err_set(err, ERR_BAD_INPUT, "not a GGUF file: it starts with %02x %02x %02x %02x", magic[0],
                magic[1], magic[2], magic[3]);
        err_hint(err, "Potluck reads models in GGUF format, usually named *.gguf");
        return ERR_BAD_INPUT;
    }
    rc = take_u32(c, "the header", &part->version, err);
    if (rc == 0) rc = take_u64(c, "the header", &part->n_tensors, err);
    if (rc == 0) rc = take_u64(c, "the header", &part->n_kvs, err);
    if (rc < 0) return rc;

    if ((part->version & 0xffff) == 0 && part->version != 0) {
        err_set(err, ERR_UNSUPPORTED, "a big-endian GGUF file");
        err_hint(err, "Use the little-endian file of the model");
        return ERR_UNSUPPORTED;
    }
    if (part->version < VERSION_MIN || part->version > VERSION_MAX) {
        err_set(err, ERR_UNSUPPORTED, "GGUF version %" PRIu32 "; %d and %d are supported",
                part->version, VERSION_MIN, VERSION_MAX);
        err_hint(err, part->version < VERSION_MIN ? "Use a newer conversion of the model"
                                                  : "A newer version of potluck may read it");
        return ERR_UNSUPPORTED;
    }
    rc = check_claim(c, part->n_kvs, KVS_MAX, KV_BYTES_MIN, "metadata entries", err);
    if (rc == 0)
        rc = check_claim(c, part->n_tensors, TENSORS_MAX, TENSOR_BYTES_MIN, "tensors", err);
    return rc;
}

int gguf_part_parse(struct gguf_part *part, struct err *err) {
    struct cursor c = {part->bytes, part->n_bytes, 0};
    int rc = parse_header(part, &c, err);
    if (rc == 0) rc = parse_kvs(part, &c, err);
    if (rc == 0) rc = parse_tensors(part, &c, err);
    return rc;
}
