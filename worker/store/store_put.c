/* store_put.c - taking experts in, in pieces or whole.
 * Owns: the staging of experts that are coming in. Does not: find room (store.c) or read files.
 * Runs on: the store's owner; whole experts are repacked on the pool.
 *
 * The matrices of an expert are repacked group by group as their rows arrive (a group of
 * KERN_OUT_STEP output rows is a unit of its own in every layout), so that beside the result at most
 * one group of rows per expert under way is kept. */
#include "worker/store/store.h"

#include "proto/base/aligned.h"
#include "proto/base/checked.h"
#include "worker/store/store_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a group times the widest row, for all experts under way together. */
#define STAGING_BYTES_MAX (UINT64_C(64) << 20)

/* Groups of output rows that one task of store_put_expert() repacks. */
#define TASK_GROUPS 4

/* ---------------------------------------------------------------- staging -- */

void store_drop_staging(struct store *store, struct entry *entry) {
    struct staging *staging = entry->staging;
    if (!staging) return;
    store->n_staging--;
    store->staging_bytes -= staging->n_bytes;
    free(staging->bytes);
    free(staging);
    entry->staging = NULL;
}

static int add_staging(struct store *store, const struct layer_slot *slot, uint32_t expert,
        struct entry *entry, struct err *err) {
    uint64_t widest = 0;
    for (int p = 0; p < PART_COUNT; p++)
        widest = max_u64(widest, slot->parts[p].row_bytes);
    uint64_t n_bytes = widest * KERN_OUT_STEP;

    struct staging *staging = calloc(1, sizeof *staging);
    if (staging) staging->bytes = aligned_new(n_bytes);
    if (!staging || !staging->bytes) {
        free(staging);
        return err_set(err, ERR_NO_MEMORY, "no memory to take in expert %u of layer %u", expert,
                slot->shape.layer);
    }
    staging->n_bytes = n_bytes;
    entry->staging = staging;
    store->n_staging++;
    store->staging_bytes += n_bytes;
    return 0;
}

/* Makes an entry that waits for byte 0. */
static int begin_expert(struct store *store, struct layer_slot *slot, uint32_t expert,
        struct entry **out_entry, struct err *err) {
    if (store->n_staging >= STORE_STAGING_MAX || store->staging_bytes >= STAGING_BYTES_MAX)
        return err_set(err, ERR_LIMIT,
                "%u experts are under way; finish some before sending expert "
                "%u of layer %u",
                store->n_staging, expert, slot->shape.layer);

    struct entry *entry = slot->entries[expert];
    int rc = entry ? 0 : store_take_room(store, slot, expert, &entry, err);
    if (rc == 0) rc = add_staging(store, slot, expert, entry, err);
    if (rc == 0) *out_entry = entry;
    return rc;
}

static void finish_expert(struct store *store, const struct layer_slot *slot, struct entry *entry) {
    store_drop_staging(store, entry);
    entry->complete = true;
    store->n_experts++;
    store->held_bytes += slot->held_bytes;
}

/* Where a group's rows go in the held matrix. */
static unsigned char *group_at(
        const struct part_shape *part, const struct entry *entry, int p, uint32_t row) {
    const struct kern_mat *mats[PART_COUNT] = {
            &entry->expert.gate, &entry->expert.up, &entry->expert.down};
    uint64_t at = row ? kern_mat_bytes(part->type, part->layout, part->n_in, row) : 0;
    /* the store owns these bytes; others see them as const */
    return (unsigned char *)(uintptr_t)mats[p]->bytes + at;
}

/* Takes bytes of one matrix, at most up to its end; repacks each group that they complete. `at` is
 * the offset within the matrix of the first of them. */
static void take_bytes(const struct part_shape *part, int p, struct entry *entry, uint64_t at,
        const unsigned char *bytes, uint64_t n_bytes) {
    struct staging *staging = entry->staging;
    uint64_t group_bytes = part->row_bytes * KERN_OUT_STEP;

    while (n_bytes > 0) {
        uint32_t row = (uint32_t)(at / group_bytes) * KERN_OUT_STEP;
        uint64_t group_end =
                min_u64((uint64_t)row * part->row_bytes + group_bytes, part->gguf_bytes);
        uint64_t n = min_u64(n_bytes, group_end - at);
        memcpy(staging->bytes + staging->filled, bytes, n);
        staging->filled += n;
        at += n;
        bytes += n;
        n_bytes -= n;
        if (at < group_end) return;

        uint32_t n_rows = (uint32_t)(staging->filled / part->row_bytes);
        kern_repack(part->type, part->layout, part->n_in, n_rows, 0, n_rows, staging->bytes,
                group_at(part, entry, p, row));
        staging->filled = 0;
    }
}

static int check_piece(const struct layer_slot *slot, uint32_t expert, const struct entry *entry,
        uint64_t offset, uint64_t n_bytes, struct err *err) {
    uint32_t layer = slot->shape.layer;
    uint64_t end;
    if (n_bytes == 0 || !add_u64(offset, n_bytes, &end) || end > slot->gguf_bytes)
        return err_set(err, ERR_BAD_INPUT,
                "expert %u of layer %u: a piece of %" PRIu64 " bytes at %" PRIu64
                "; the expert has %" PRIu64,
                expert, layer, n_bytes, offset, slot->gguf_bytes);

    uint64_t received = entry && entry->staging ? entry->staging->received : 0;
    if (!(entry && entry->complete) && offset != 0 && offset != received)
        return err_set(err, ERR_BAD_INPUT,
                "expert %u of layer %u: a piece at %" PRIu64 " where %" PRIu64 " comes next",
                expert, layer, offset, received);
    return 0;
}

int store_put(struct store *store, uint32_t layer, uint32_t expert, uint64_t offset,
        const void *bytes, uint64_t n_bytes, struct err *err) {
    struct layer_slot *slot;
    int rc = store_slot_of(store, layer, expert, &slot, err);
    if (rc < 0) return rc;
    struct entry *entry = slot->entries[expert];
    rc = check_piece(slot, expert, entry, offset, n_bytes, err);
    if (rc < 0) return rc;
    if (entry && entry->complete) return 0; /* held already */

    if (!entry || !entry->staging) {
        rc = begin_expert(store, slot, expert, &entry, err);
        if (rc < 0) return rc;
    }
    struct staging *staging = entry->staging;
    if (offset == 0) staging->filled = staging->received = 0; /* sent anew from the start */

    const unsigned char *from = bytes;
    for (int p = 0; p < PART_COUNT && n_bytes > 0; p++) {
        const struct part_shape *part = &slot->parts[p];
        uint64_t part_end = part->gguf_start + part->gguf_bytes;
        if (staging->received >= part_end) continue;
        uint64_t n = min_u64(n_bytes, part_end - staging->received);
        take_bytes(part, p, entry, staging->received - part->gguf_start, from, n);
        staging->received += n;
        from += n;
        n_bytes -= n;
    }
    if (staging->received == slot->gguf_bytes) finish_expert(store, slot, entry);
    return 0;
}

/* ---------------------------------------------------------- whole experts -- */

/* One expert cut into tasks of TASK_GROUPS groups, matrix after matrix. */
struct repack {
    const struct layer_slot *slot;
    const struct entry *entry;
    const void *gguf[PART_COUNT];
    uint32_t first_task[PART_COUNT + 1];
};

static void repack_task(void *arg, uint32_t task, uint32_t thread) {
    (void)thread;
    const struct repack *job = arg;
    int p = 0;
    while (task >= job->first_task[p + 1])
        p++;

    const struct part_shape *part = &job->slot->parts[p];
    uint32_t step = TASK_GROUPS * KERN_OUT_STEP;
    uint32_t row0 = (task - job->first_task[p]) * step;
    uint32_t row1 = (uint32_t)min_u64((uint64_t)row0 + step, part->n_out);
    kern_repack(part->type, part->layout, part->n_in, part->n_out, row0, row1, job->gguf[p],
            group_at(part, job->entry, p, 0));
}

int store_put_expert(struct store *store, uint32_t layer, uint32_t expert, const void *gate,
        const void *up, const void *down, struct pool *pool, struct err *err) {
    struct layer_slot *slot;
    int rc = store_slot_of(store, layer, expert, &slot, err);
    if (rc < 0) return rc;
    struct entry *entry = slot->entries[expert];
    if (entry && entry->complete) return 0;
    if (!entry) rc = store_take_room(store, slot, expert, &entry, err);
    if (rc < 0) return rc;

    struct repack job = {.slot = slot, .entry = entry, .gguf = {gate, up, down}};
    uint32_t step = TASK_GROUPS * KERN_OUT_STEP;
    for (int p = 0; p < PART_COUNT; p++)
        job.first_task[p + 1] = job.first_task[p] + (slot->parts[p].n_out + step - 1) / step;
    pool_run(pool, job.first_task[PART_COUNT], repack_task, &job);
    finish_expert(store, slot, entry);
    return 0;
}
