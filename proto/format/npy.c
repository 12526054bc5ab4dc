/* npy.c - NumPy array files. Owns: the file while it is written. Does not: convert types or byte
 * order. Runs on: the owner's thread. */
#include "proto/format/npy.h"

#include "proto/base/buf.h"
#include "proto/base/checked.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "\x93NUMPY\x01\x00"
#define MAGIC_BYTES 8
#define HEADER_AT (MAGIC_BYTES + 2) /* after the length of the header */
#define ALIGN 64
#define READ_BYTES_MAX (UINT64_C(1) << 30)

struct npy {
    FILE *file;
    char *path;
    size_t element_bytes;
    uint64_t n_left; /* elements still to come */
};

static const struct {
    const char *descr;
    size_t n_bytes;
} types[NPY_TYPE_COUNT] = {
        [NPY_F32] = {"<f4", 4},
        [NPY_I16] = {"<i2", 2},
};

/* The product of the shape; false when its bytes cannot be counted. */
static bool count(uint32_t n_dims, const uint64_t *shape, size_t element_bytes, uint64_t *out_n) {
    uint64_t n = 1, n_bytes;
    for (uint32_t d = 0; d < n_dims; d++)
        if (!mul_u64(n, shape[d], &n)) return false;
    *out_n = n;
    return mul_u64(n, element_bytes, &n_bytes) && n_bytes <= INT64_MAX;
}

static int write_header(struct npy *npy, enum npy_type type, uint32_t n_dims, const uint64_t *shape,
        struct err *err) {
    struct buf head = {0};
    int rc = buf_append(&head, MAGIC "\0", HEADER_AT, err);
    if (rc == 0)
        rc = buf_printf(&head, err, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                types[type].descr);
    for (uint32_t d = 0; rc == 0 && d < n_dims; d++)
        rc = buf_printf(&head, err, "%s%" PRIu64, d ? ", " : "", shape[d]);
    if (rc == 0) rc = buf_append_str(&head, n_dims == 1 ? ",), }" : "), }", err);
    while (rc == 0 && (head.n_bytes + 1) % ALIGN != 0)
        rc = buf_append_str(&head, " ", err);
    if (rc == 0) rc = buf_append_str(&head, "\n", err);

    if (rc == 0) {
        size_t n = head.n_bytes - HEADER_AT;
        head.bytes[MAGIC_BYTES] = (char)(n & 0xff);
        head.bytes[MAGIC_BYTES + 1] = (char)(n >> 8);
        if (fwrite(head.bytes, 1, head.n_bytes, npy->file) != head.n_bytes)
            rc = err_set(err, ERR_IO, "cannot write %s: %s", npy->path, strerror(errno));
    }
    buf_fini(&head);
    return rc;
}

int npy_create(const char *path, enum npy_type type, uint32_t n_dims, const uint64_t *shape,
        struct npy **out_npy, struct err *err) {
    ASSERT((unsigned)type < NPY_TYPE_COUNT);
    ASSERT(n_dims >= 1 && n_dims <= NPY_DIMS_MAX);
    uint64_t n;
    if (!count(n_dims, shape, types[type].n_bytes, &n))
        return err_set(err, ERR_LIMIT, "%s would have too many numbers", path);

    struct npy *npy = calloc(1, sizeof *npy);
    if (npy) npy->path = strdup(path);
    if (!npy || !npy->path) {
        npy_free(npy);
        return err_set(err, ERR_NO_MEMORY, "no memory to write %s", path);
    }
    npy->element_bytes = types[type].n_bytes;
    npy->n_left = n;
    npy->file = fopen(path, "wb");
    int rc = npy->file ? write_header(npy, type, n_dims, shape, err)
                       : err_set(err, ERR_IO, "cannot create %s: %s", path, strerror(errno));
    if (rc < 0) {
        npy_free(npy);
        return rc;
    }
    *out_npy = npy;
    return 0;
}

int npy_write(struct npy *npy, const void *elements, uint64_t n, struct err *err) {
    if (n > npy->n_left)
        return err_set(err, ERR_BUG, "%" PRIu64 " numbers for %s where %" PRIu64 " are left", n,
                npy->path, npy->n_left);
    if (fwrite(elements, npy->element_bytes, (size_t)n, npy->file) != n)
        return err_set(err, ERR_IO, "cannot write %s: %s", npy->path, strerror(errno));
    npy->n_left -= n;
    return 0;
}

int npy_close(struct npy *npy, struct err *err) {
    int rc = 0;
    if (npy->n_left)
        rc = err_set(err, ERR_BUG, "%" PRIu64 " numbers are missing in %s", npy->n_left, npy->path);
    if (fclose(npy->file) != 0 && rc == 0)
        rc = err_set(err, ERR_IO, "cannot write %s: %s", npy->path, strerror(errno));
    npy->file = NULL;
    npy_free(npy);
    return rc;
}

void npy_free(struct npy *npy) {
    if (!npy) return;
    if (npy->file) fclose(npy->file);
    free(npy->path);
    free(npy);
}

/* Moves *at past a text when it stands there. */
static bool eat(const char **at, const char *text) {
    size_t n = strlen(text);
    if (strncmp(*at, text, n) != 0) return false;
    *at += n;
    return true;
}

static bool eat_shape(const char **at, struct npy_array *array) {
    array->shape[0] = array->shape[1] = array->shape[2] = 1;
    for (array->n_dims = 0; array->n_dims < NPY_DIMS_MAX;) {
        if (!isdigit((unsigned char)**at)) return false;
        char *end;
        errno = 0;
        array->shape[array->n_dims++] = strtoull(*at, &end, 10);
        *at = end;
        if (errno) return false;
        if (array->n_dims == 1 && eat(at, ",)")) return true;
        if (array->n_dims > 1 && eat(at, ")")) return true;
        if (!eat(at, ", ")) return false;
    }
    return false;
}

/* text: the header, terminated. NumPy always writes the three keys in this order. */
static int parse_header(const char *text, struct npy_array *array, struct err *err) {
    const char *at = text;
    if (!eat(&at, "{'descr': '"))
        return err_set(err, ERR_BAD_INPUT, "the header is not NumPy's: %.60s", text);
    array->type = NPY_TYPE_COUNT;
    for (int t = 0; array->type == NPY_TYPE_COUNT && t < NPY_TYPE_COUNT; t++)
        if (eat(&at, types[t].descr)) array->type = (enum npy_type)t;
    if (array->type == NPY_TYPE_COUNT)
        return err_set(err, ERR_UNSUPPORTED, "numbers of type %.8s; <f4 and <i2 are read", at);
    if (!eat(&at, "', 'fortran_order': False, 'shape': ("))
        return err_set(err, ERR_UNSUPPORTED, "not a plain array in C order: %.60s", text);
    if (!eat_shape(&at, array) || !eat(&at, ", }"))
        return err_set(err, ERR_BAD_INPUT, "a shape that is not understood: %.60s", text);
    return 0;
}

/* Checks the file in bytes and moves its numbers to the front. */
static int parse(struct buf *bytes, struct npy_array *array, struct err *err) {
    if (bytes->n_bytes < HEADER_AT || memcmp(bytes->bytes, MAGIC, MAGIC_BYTES) != 0)
        return err_set(err, ERR_BAD_INPUT, "not a NumPy array file of version 1.0");
    size_t n_header = (unsigned char)bytes->bytes[MAGIC_BYTES] |
                      (size_t)(unsigned char)bytes->bytes[MAGIC_BYTES + 1] << 8;
    if (n_header == 0 || n_header > bytes->n_bytes - HEADER_AT)
        return err_set(err, ERR_BAD_INPUT, "the file ends inside its header");
    char *header = bytes->bytes + HEADER_AT;
    header[n_header - 1] = 0; /* the line end */
    int rc = parse_header(header, array, err);
    if (rc < 0) return rc;

    size_t size = types[array->type].n_bytes;
    size_t have = bytes->n_bytes - HEADER_AT - n_header;
    if (!count(array->n_dims, array->shape, size, &array->n) || have != array->n * size)
        return err_set(err, ERR_BAD_INPUT, "%zu bytes of numbers do not fit the shape", have);
    memmove(bytes->bytes, header + n_header, have);
    return 0;
}

int npy_read(const char *path, struct npy_array *out_array, struct err *err) {
    struct buf bytes = {0};
    struct npy_array array = {0};
    int rc = buf_read_file(&bytes, path, READ_BYTES_MAX, err);
    if (rc == 0) {
        rc = parse(&bytes, &array, err);
        if (rc < 0) err_note(err, "%s", path);
    }
    if (rc < 0) {
        buf_fini(&bytes);
        return rc;
    }
    array.elements = bytes.bytes;
    *out_array = array;
    return 0;
}

void npy_array_fini(struct npy_array *array) {
    free(array->elements);
    *array = (struct npy_array){0};
}
