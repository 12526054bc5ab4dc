/* gguf.c - opens GGUF files: mapping, the list of all tensors, and closing.
 * Owns: the mappings and tables of a struct gguf. Does not: parse (gguf_parse.c) or know what the
 * metadata means. Runs on: any thread; a struct gguf does not change after it is opened. */
#include "proto/format/gguf_internal.h"

#include "proto/base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map_fd(struct gguf_part *part, int fd, const char *path, struct err *err) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_set(err, ERR_IO, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return err_set(err, ERR_BAD_INPUT, "%s is not a regular file", path);
    if (st.st_size <= 0) return err_set(err, ERR_BAD_INPUT, "%s is empty", path);
    if ((uint64_t)st.st_size > SIZE_MAX / 2)
        return err_set(err, ERR_LIMIT, "%s has too many bytes to map", path);

    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return err_set(err, ERR_IO, "cannot map %s: %s", path, strerror(errno));
    part->bytes = bytes;
    part->n_bytes = (size_t)st.st_size;
    part->mapped = true;
    return 0;
}

int gguf_part_map(struct gguf_part *part, const char *path, struct err *err) {
    *part = (struct gguf_part){0};
    /* O_NONBLOCK: a named pipe is refused instead of waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_set(err, ERR_IO, "cannot open %s: %s", path, strerror(errno));
    int rc = map_fd(part, fd, path, err);
    close(fd);
    if (rc < 0) return rc;
    part->path = strdup(path);
    if (part->path) return 0;
    gguf_part_fini(part);
    return err_set(err, ERR_NO_MEMORY, "no memory to open %s", path);
}

void gguf_part_fini(struct gguf_part *part) {
    if (part->mapped) munmap((void *)(uintptr_t)part->bytes, part->n_bytes);
    free(part->path);
    free(part->kvs);
    free(part->by_key);
    free(part->tensors);
    free(part->names);
    *part = (struct gguf_part){0};
}

static int by_name(const void *a, const void *b) {
    const struct gguf_tensor *const *x = a;
    const struct gguf_tensor *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Joins the tensors of all parts and sorts them by name. */
static int index_tensors(struct gguf *gguf, struct err *err) {
    for (uint32_t p = 0; p < gguf->n_parts; p++)
        gguf->n_tensors += gguf->parts[p].n_tensors;
    gguf->tensors = calloc(gguf->n_tensors + 1, sizeof *gguf->tensors);
    gguf->by_name = calloc(gguf->n_tensors + 1, sizeof *gguf->by_name);
    if (!gguf->tensors || !gguf->by_name)
        return err_set(err, ERR_NO_MEMORY, "no memory for %" PRIu64 " tensors", gguf->n_tensors);

    uint64_t n = 0;
    for (uint32_t p = 0; p < gguf->n_parts; p++) {
        struct gguf_part *part = &gguf->parts[p];
        for (uint64_t i = 0; i < part->n_tensors; i++, n++) {
            gguf->tensors[n] = part->tensors[i];
            gguf->tensors[n].part = p;
            gguf->by_name[n] = &gguf->tensors[n];
        }
        free(part->tensors);
        part->tensors = NULL;
    }
    qsort(gguf->by_name, gguf->n_tensors, sizeof *gguf->by_name, by_name);
    for (uint64_t i = 1; i < gguf->n_tensors; i++)
        if (by_name(&gguf->by_name[i - 1], &gguf->by_name[i]) == 0)
            return err_set(err, ERR_BAD_INPUT, "tensor %s is there twice", gguf->by_name[i]->name);
    return 0;
}

/* Takes over part, whatever comes of it. */
static int open_part(struct gguf_part *part, struct gguf **out_gguf, struct err *err) {
    struct gguf *gguf = calloc(1, sizeof *gguf);
    struct gguf_part *parts = calloc(1, sizeof *parts);
    if (!gguf || !parts) {
        free(gguf);
        free(parts);
        gguf_part_fini(part);
        return err_set(err, ERR_NO_MEMORY, "no memory to open a model file");
    }
    parts[0] = *part;
    gguf->parts = parts;
    gguf->n_parts = 1;

    int rc = gguf_part_parse(&gguf->parts[0], err);
    if (rc < 0) err_note(err, "%s", gguf_path(gguf));
    if (rc == 0) rc = gguf_split_open(gguf, err);
    if (rc == 0) rc = index_tensors(gguf, err);
    if (rc < 0) {
        gguf_free(gguf);
        return rc;
    }
    *out_gguf = gguf;
    return 0;
}

int gguf_open(const char *path, struct gguf **out_gguf, struct err *err) {
    struct gguf_part part;
    int rc = gguf_part_map(&part, path, err);
    return rc < 0 ? rc : open_part(&part, out_gguf, err);
}

int gguf_open_bytes(const void *bytes, size_t n, struct gguf **out_gguf, struct err *err) {
    struct gguf_part part = {.bytes = bytes, .n_bytes = n};
    return open_part(&part, out_gguf, err);
}

void gguf_free(struct gguf *gguf) {
    if (!gguf) return;
    for (uint32_t p = 0; p < gguf->n_parts; p++)
        gguf_part_fini(&gguf->parts[p]);
    free(gguf->parts);
    free(gguf->tensors);
    free(gguf->by_name);
    free(gguf);
}

const char *gguf_path(const struct gguf *gguf) {
    return gguf_part_path(gguf, 0);
}

uint32_t gguf_n_parts(const struct gguf *gguf) {
    return gguf->n_parts;
}

const char *gguf_part_path(const struct gguf *gguf, uint32_t part) {
    ASSERT(part < gguf->n_parts);
    return gguf->parts[part].path ? gguf->parts[part].path : "(memory)";
}

uint32_t gguf_version(const struct gguf *gguf) {
    return gguf->parts[0].version;
}

uint64_t gguf_file_bytes(const struct gguf *gguf) {
    uint64_t n = 0;
    for (uint32_t p = 0; p < gguf->n_parts; p++)
        n += gguf->parts[p].n_bytes;
    return n;
}

uint64_t gguf_n_tensors(const struct gguf *gguf) {
    return gguf->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, uint64_t index) {
    return index < gguf->n_tensors ? &gguf->tensors[index] : NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name) {
    struct gguf_tensor want = {.name = name};
    const struct gguf_tensor *ptr = &want;
    const struct gguf_tensor **found =
            bsearch(&ptr, gguf->by_name, gguf->n_tensors, sizeof *gguf->by_name, by_name);
    return found ? *found : NULL;
}

/* Only whole pages inside the range, and only of a mapped part: in ordinary memory the advice
 * would destroy what is there. */
void gguf_release(const struct gguf *gguf, const void *bytes, uint64_t n_bytes) {
    uintptr_t from = (uintptr_t)bytes;
    const struct gguf_part *part = NULL;
    for (uint32_t p = 0; p < gguf->n_parts; p++) {
        uintptr_t base = (uintptr_t)gguf->parts[p].bytes;
        if (from >= base && from - base <= gguf->parts[p].n_bytes &&
                n_bytes <= gguf->parts[p].n_bytes - (from - base))
            part = &gguf->parts[p];
    }
    if (!part || !part->mapped) return;

#ifdef MADV_DONTNEED
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = align_up(from, page);
    uintptr_t end = (from + (size_t)n_bytes) / page * page;
    /* Advice only: when it is refused, nothing is lost but memory. */
    if (end > first) (void)madvise((void *)first, end - first, MADV_DONTNEED);
#endif
}
