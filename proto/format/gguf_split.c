/* gguf_split.c - models in several files, PREFIX-00001-of-00009.gguf and so on.
 * Owns: nothing; adds parts to a struct gguf. Does not: join tensors (gguf.c does).
 * Runs on: any thread. */
#include "proto/format/gguf_internal.h"

#include "proto/base/buf.h"
#include "proto/base/checked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 99999 /* five digits in the name */
#define SUFFIX_BYTES (sizeof "-00001-of-00009.gguf" - 1)

static void suffix_of(uint64_t number, uint64_t count, char out_suffix[64]) {
    snprintf(out_suffix, 64, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", number, count);
}

/* What a part says about itself; all zero when it is not split. */
static int split_keys(
        const struct gguf_part *part, uint64_t *out_no, uint64_t *out_count, struct err *err) {
    *out_no = *out_count = 0;
    int rc = gguf_part_get_u64(part, "split.count", out_count, err);
    if (rc >= 0) rc = gguf_part_get_u64(part, "split.no", out_no, err);
    return rc < 0 ? rc : 0;
}

/* Part 0 must be the first, under a name from which the others follow. */
static int check_first(const struct gguf_part *part, uint64_t no, uint64_t count, struct err *err) {
    if (count > PARTS_MAX)
        return err_set(
                err, ERR_BAD_INPUT, "split.count is %" PRIu64 "; %d is the most", count, PARTS_MAX);
    if (no >= count)
        return err_set(
                err, ERR_BAD_INPUT, "split.no is %" PRIu64 " of %" PRIu64 " parts", no, count);
    if (!part->path)
        return err_set(err, ERR_UNSUPPORTED, "one part of a split model, read from memory");

    char suffix[64];
    suffix_of(no + 1, count, suffix);
    size_t n = strlen(part->path);
    if (n < SUFFIX_BYTES || strcmp(part->path + n - SUFFIX_BYTES, suffix) != 0) {
        err_set(err, ERR_BAD_INPUT,
                "part %" PRIu64 " of %" PRIu64 " of a split model, but its name does not end in %s",
                no + 1, count, suffix);
        err_hint(err, "Give the parts their original names back, or merge them into one file");
        return ERR_BAD_INPUT;
    }
    if (no != 0) {
        err_set(err, ERR_BAD_INPUT, "part %" PRIu64 " of %" PRIu64 " of a split model", no + 1,
                count);
        suffix_of(1, count, suffix);
        err_hint(err, "Name the first part: %.*s%s", (int)(n - SUFFIX_BYTES), part->path, suffix);
        return ERR_BAD_INPUT;
    }
    return 0;
}

static int open_sibling(
        struct gguf *gguf, uint64_t no, uint64_t count, const char *path, struct err *err) {
    struct gguf_part *part = &gguf->parts[no];
    int rc = gguf_part_map(part, path, err);
    if (rc < 0) {
        err_note(err, "part %" PRIu64 " of %" PRIu64, no + 1, count);
        err_hint(err, "All parts of a split model must be in one folder: fetch %s", path);
        return rc;
    }
    gguf->n_parts++;
    rc = gguf_part_parse(part, err);
    uint64_t its_no, its_count;
    if (rc == 0) rc = split_keys(part, &its_no, &its_count, err);
    if (rc == 0 && (its_no != no || its_count != count)) {
        rc = err_set(err, ERR_BAD_INPUT,
                "it says that it is part %" PRIu64 " of %" PRIu64 ", not part %" PRIu64
                " of %" PRIu64,
                its_no + 1, its_count, no + 1, count);
        err_hint(err, "The file was renamed or belongs to another model: fetch it again");
    }
    if (rc < 0) err_note(err, "%s", path);
    return rc;
}

static int check_count(const struct gguf *gguf, struct err *err) {
    uint64_t want = 0, have = 0;
    int rc = gguf_part_get_u64(&gguf->parts[0], "split.tensors.count", &want, err);
    if (rc <= 0) return rc;
    for (uint32_t i = 0; i < gguf->n_parts; i++)
        have += gguf->parts[i].n_tensors;
    if (have != want)
        return err_set(err, ERR_BAD_INPUT,
                "the %" PRIu32 " parts have %" PRIu64
                " tensors, but split.tensors.count says %" PRIu64,
                gguf->n_parts, have, want);
    return 0;
}

int gguf_split_open(struct gguf *gguf, struct err *err) {
    uint64_t no, count;
    int rc = split_keys(&gguf->parts[0], &no, &count, err);
    if (rc < 0 || count <= 1) return rc;
    rc = check_first(&gguf->parts[0], no, count, err);
    if (rc < 0) return rc;

    struct gguf_part *parts = realloc(gguf->parts, count * sizeof *parts);
    if (!parts) return err_set(err, ERR_NO_MEMORY, "no memory for %" PRIu64 " parts", count);
    memset(parts + 1, 0, (count - 1) * sizeof *parts);
    gguf->parts = parts;

    struct buf path = {0};
    const char *first = parts[0].path;
    size_t n_prefix = strlen(first) - SUFFIX_BYTES;
    for (uint64_t i = 1; rc == 0 && i < count; i++) {
        char suffix[64];
        suffix_of(i + 1, count, suffix);
        buf_reset(&path);
        rc = buf_append(&path, first, n_prefix, err);
        if (rc == 0) rc = buf_append_str(&path, suffix, err);
        if (rc == 0) rc = open_sibling(gguf, i, count, path.bytes, err);
    }
    buf_fini(&path);
    return rc < 0 ? rc : check_count(gguf, err);
}
