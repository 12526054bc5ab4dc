/* npy.h - NumPy array files (.npy version 1.0): f32 or i16, up to three dimensions, C order.
 *
 * The writer knows the shape before the numbers: create, write rows as they are computed, close.
 * The reader takes what the writer and NumPy itself make of these types, whole, into memory.
 * Source of the layout: the NEP 1 description of the format. */
#pragma once

#include "proto/base/err.h"

#include <stdint.h>

#define NPY_DIMS_MAX 3

enum npy_type { NPY_F32, NPY_I16, NPY_TYPE_COUNT };

struct npy; /* opaque writer; owner: one thread */

/* Creates path, over what is there, and writes the header. shape[n_dims], the last one is
 * contiguous; n_dims 1..3; zeros are allowed. ERR_IO, ERR_LIMIT, ERR_NO_MEMORY. */
int npy_create(const char *path, enum npy_type type, uint32_t n_dims, const uint64_t *shape,
        struct npy **out_npy, struct err *err);

/* Appends n elements. May block on the disk. ERR_IO; ERR_BUG when there are more than the shape
 * has. */
int npy_write(struct npy *npy, const void *elements, uint64_t n, struct err *err);

/* Finishes the file and frees npy, whatever the result. ERR_IO; ERR_BUG when elements are
 * missing. */
int npy_close(struct npy *npy, struct err *err);

/* Gives up: frees npy and leaves the file as it is, too short to be read. NULL is fine. */
void npy_free(struct npy *npy);

struct npy_array {
    enum npy_type type;
    uint32_t n_dims;
    uint64_t shape[NPY_DIMS_MAX]; /* unused ones are 1 */
    uint64_t n;                   /* elements */
    void *elements;               /* owned: float or int16_t [shape[0], shape[1], ..] */
};

/* Reads a file of at most 1 GiB. Free with npy_array_fini. ERR_IO, ERR_BAD_INPUT, ERR_UNSUPPORTED
 * (another type or order), ERR_LIMIT. */
int npy_read(const char *path, struct npy_array *out_array, struct err *err);
void npy_array_fini(struct npy_array *array);
