/* store.c - the layers a worker knows and the memory its experts lie in.
 * Owns: layer table, slabs, limits. Does not: receive bytes (store_put.c) or multiply.
 * Runs on: its owner's thread. */
#include "worker/store/store.h"

#include "proto/base/aligned.h"
#include "proto/base/checked.h"
#include "worker/store/store_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Kernels read the start of a matrix as vectors of 64 bytes. */
#define MAT_ALIGN 64

/* Experts are cut from slabs, so that the system can back them with large pages. A slab's end that
 * fits no further expert is never touched; what its last large page costs beyond the experts is small
 * against a slab of a sixteenth of the limit, kept between these. */
#define SLAB_BYTES_MIN (UINT64_C(32) << 20)
#define SLAB_BYTES_MAX (UINT64_C(1) << 30)
#define LARGE_PAGE (UINT64_C(2) << 20)

/* ----------------------------------------------------------------- shapes -- */

/* Cuts an expert of that layer into its three matrices. False when a size overflows. */
static bool cut_parts(const struct kern_ops *kern, const struct store_layer *layer,
        struct part_shape parts[PART_COUNT]) {
    const enum dtype types[PART_COUNT] = {layer->gate_type, layer->up_type, layer->down_type};
    uint64_t gguf = 0, held = 0;

    for (int p = 0; p < PART_COUNT; p++) {
        struct part_shape *part = &parts[p];
        *part = (struct part_shape){.type = types[p],
                .layout = kern->layout_of(types[p]),
                .n_in = p == PART_DOWN ? layer->n_ff : layer->n_embd,
                .n_out = p == PART_DOWN ? layer->n_embd : layer->n_ff,
                .gguf_start = gguf,
                .held_start = held};
        part->row_bytes = dtype_row_bytes(part->type, part->n_in);
        part->held_bytes = kern_mat_bytes(part->type, part->layout, part->n_in, part->n_out);
        if (part->held_bytes == 0 || part->held_bytes > SIZE_MAX / 8) return false;
        part->held_bytes = align_up(part->held_bytes, MAT_ALIGN);
        if (!mul_u64(part->row_bytes, part->n_out, &part->gguf_bytes)) return false;
        if (!add_u64(gguf, part->gguf_bytes, &gguf)) return false;
        if (!add_u64(held, part->held_bytes, &held)) return false;
    }
    return true;
}

uint64_t store_expert_gguf_bytes(const struct store_layer *layer) {
    return dtype_row_bytes(layer->gate_type, layer->n_embd) * layer->n_ff +
           dtype_row_bytes(layer->up_type, layer->n_embd) * layer->n_ff +
           dtype_row_bytes(layer->down_type, layer->n_ff) * layer->n_embd;
}

uint64_t store_expert_held_bytes(const struct kern_ops *kern, const struct store_layer *layer) {
    struct part_shape parts[PART_COUNT];
    if (!cut_parts(kern, layer, parts)) return UINT64_MAX;
    return parts[PART_DOWN].held_start + parts[PART_DOWN].held_bytes;
}

static int check_part(
        uint32_t layer, const char *name, uint32_t type, uint32_t n_in, struct err *err) {
    const struct dtype_desc *desc = dtype_find(type);
    if (!desc || !desc->computable)
        return err_set(err, ERR_UNSUPPORTED, "layer %u: experts of type %s (%u) cannot be computed",
                layer, dtype_name(type), type);

    uint32_t block = desc->block_elems;
    if (n_in % block)
        return err_set(err, ERR_BAD_INPUT,
                "layer %u: rows of %u elements in %s are not a multiple "
                "of %s's block of %u",
                layer, n_in, name, desc->name, block);
    return 0;
}

static int check_layer(const struct store_layer *l, struct err *err) {
    if (l->layer >= STORE_LAYERS_MAX)
        return err_set(err, ERR_BAD_INPUT, "layer %u is over the limit of %d layers", l->layer,
                STORE_LAYERS_MAX);
    if (l->n_expert == 0 || l->n_expert > STORE_EXPERTS_MAX)
        return err_set(err, ERR_BAD_INPUT, "layer %u: %u experts; 1 to %d are possible", l->layer,
                l->n_expert, STORE_EXPERTS_MAX);
    if (l->n_embd == 0 || l->n_embd > STORE_WIDTH_MAX || l->n_ff == 0 || l->n_ff > STORE_WIDTH_MAX)
        return err_set(err, ERR_BAD_INPUT,
                "layer %u: experts of %u x %u; widths of 1 to %u are possible", l->layer, l->n_ff,
                l->n_embd, STORE_WIDTH_MAX);
    if (l->glu != KERN_GLU_SILU)
        return err_set(err, ERR_UNSUPPORTED, "layer %u: unknown activation function %d", l->layer,
                (int)l->glu);

    int rc = check_part(l->layer, "gate", l->gate_type, l->n_embd, err);
    if (rc == 0) rc = check_part(l->layer, "up", l->up_type, l->n_embd, err);
    if (rc == 0) rc = check_part(l->layer, "down", l->down_type, l->n_ff, err);
    return rc;
}

static bool same_layer(const struct store_layer *a, const struct store_layer *b) {
    return a->layer == b->layer && a->n_expert == b->n_expert && a->n_embd == b->n_embd &&
           a->n_ff == b->n_ff && a->gate_type == b->gate_type && a->up_type == b->up_type &&
           a->down_type == b->down_type && a->glu == b->glu;
}

/* ------------------------------------------------------------------- life -- */

int store_new(const struct kern_ops *kern, uint64_t limit_bytes, struct store **out_store,
        struct err *err) {
    struct store *store = calloc(1, sizeof *store);
    if (!store) return err_set(err, ERR_NO_MEMORY, "no memory for a store of experts");
    store->kern = kern;
    store->limit_bytes = limit_bytes;
    *out_store = store;
    return 0;
}

static void free_slot(struct store *store, struct layer_slot *slot) {
    if (!slot) return;
    for (uint32_t e = 0; slot->entries && e < slot->shape.n_expert; e++) {
        if (!slot->entries[e]) continue;
        store_drop_staging(store, slot->entries[e]);
        free(slot->entries[e]);
    }
    free(slot->entries);
    free(slot);
}

void store_free(struct store *store) {
    if (!store) return;
    for (uint32_t l = 0; l < STORE_LAYERS_MAX; l++)
        free_slot(store, store->layers[l]);
    while (store->slabs) {
        struct slab *slab = store->slabs;
        store->slabs = slab->next;
        free(slab->bytes);
        free(slab);
    }
    free(store);
}

int store_add_layer(struct store *store, const struct store_layer *layer, struct err *err) {
    int rc = check_layer(layer, err);
    if (rc < 0) return rc;

    struct layer_slot *slot = store->layers[layer->layer];
    if (slot)
        return same_layer(&slot->shape, layer)
                       ? 0
                       : err_set(err, ERR_BAD_INPUT,
                                 "layer %u is announced again with other shapes", layer->layer);

    slot = calloc(1, sizeof *slot);
    if (slot) slot->entries = calloc(layer->n_expert, sizeof(struct entry *));
    if (!slot || !slot->entries) {
        free(slot);
        return err_set(err, ERR_NO_MEMORY, "no memory for the table of layer %u", layer->layer);
    }
    slot->shape = *layer;
    if (!cut_parts(store->kern, layer, slot->parts)) {
        free_slot(store, slot);
        return err_set(err, ERR_BAD_INPUT, "layer %u: experts of %u x %u are too large",
                layer->layer, layer->n_ff, layer->n_embd);
    }
    slot->gguf_bytes = store_expert_gguf_bytes(layer);
    slot->held_bytes = slot->parts[PART_DOWN].held_start + slot->parts[PART_DOWN].held_bytes;
    store->layers[layer->layer] = slot;
    return 0;
}

/* ------------------------------------------------------------------- room -- */

/* A block of at least n_bytes. Pages are touched only as experts fill them. */
static struct slab *new_slab(uint64_t n_bytes) {
    struct slab *slab = calloc(1, sizeof *slab);
    if (!slab) return NULL;
    slab->n_bytes = n_bytes;
    slab->bytes = aligned_new(n_bytes);
    if (!slab->bytes) {
        free(slab);
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    uintptr_t start = align_up((uintptr_t)slab->bytes, LARGE_PAGE);
    uintptr_t end = ((uintptr_t)slab->bytes + n_bytes) & ~(uintptr_t)(LARGE_PAGE - 1);
    if (start < end)
        (void)madvise((void *)start, end - start, MADV_HUGEPAGE); /* only ever a matter of speed */
#endif
    return slab;
}

static unsigned char *cut_from_slab(struct store *store, uint64_t n_bytes) {
    struct slab *slab = store->slabs;
    if (!slab || slab->n_bytes - slab->used < n_bytes) {
        uint64_t n = min_u64(max_u64(store->limit_bytes / 16, SLAB_BYTES_MIN), SLAB_BYTES_MAX);
        slab = new_slab(max_u64(n_bytes, min_u64(n, store->limit_bytes)));
        if (!slab) return NULL;
        slab->next = store->slabs;
        store->slabs = slab;
    }
    unsigned char *bytes = slab->bytes + slab->used;
    slab->used += n_bytes;
    return bytes;
}

int store_take_room(struct store *store, struct layer_slot *slot, uint32_t expert,
        struct entry **out_entry, struct err *err) {
    uint32_t layer = slot->shape.layer;
    if (slot->held_bytes > store->limit_bytes - store->taken_bytes) {
        int rc = err_set(err, ERR_LIMIT,
                "expert %u of layer %u needs %" PRIu64 " bytes; %" PRIu64 " of %" PRIu64
                " are left for experts",
                expert, layer, slot->held_bytes, store->limit_bytes - store->taken_bytes,
                store->limit_bytes);
        err_hint(err, "give this worker more memory (--ram), or add another one");
        return rc;
    }

    struct entry *entry = calloc(1, sizeof *entry);
    unsigned char *bytes = entry ? cut_from_slab(store, slot->held_bytes) : NULL;
    if (!bytes) {
        free(entry);
        return err_set(err, ERR_NO_MEMORY,
                "no memory for expert %u of layer %u (%" PRIu64 " bytes)", expert, layer,
                slot->held_bytes);
    }
    struct kern_mat *mats[PART_COUNT] = {
            &entry->expert.gate, &entry->expert.up, &entry->expert.down};
    for (int p = 0; p < PART_COUNT; p++) {
        const struct part_shape *part = &slot->parts[p];
        *mats[p] = (struct kern_mat){.type = part->type,
                .layout = part->layout,
                .n_in = part->n_in,
                .n_out = part->n_out,
                .bytes = bytes + part->held_start};
    }
    slot->entries[expert] = entry;
    store->taken_bytes += slot->held_bytes;
    *out_entry = entry;
    return 0;
}

/* ---------------------------------------------------------------- looking -- */

int store_slot_of(const struct store *store, uint32_t layer, uint32_t expert,
        struct layer_slot **out_slot, struct err *err) {
    struct layer_slot *slot = layer < STORE_LAYERS_MAX ? store->layers[layer] : NULL;
    if (!slot) return err_set(err, ERR_NOT_FOUND, "layer %u was not announced", layer);
    if (expert >= slot->shape.n_expert)
        return err_set(err, ERR_BAD_INPUT, "layer %u has no expert %u, only %u", layer, expert,
                slot->shape.n_expert);
    *out_slot = slot;
    return 0;
}

const struct store_layer *store_find_layer(const struct store *store, uint32_t layer) {
    const struct layer_slot *slot = layer < STORE_LAYERS_MAX ? store->layers[layer] : NULL;
    return slot ? &slot->shape : NULL;
}

const struct store_expert *store_find(const struct store *store, uint32_t layer, uint32_t expert) {
    const struct layer_slot *slot = layer < STORE_LAYERS_MAX ? store->layers[layer] : NULL;
    if (!slot || expert >= slot->shape.n_expert) return NULL;
    const struct entry *entry = slot->entries[expert];
    return entry && entry->complete ? &entry->expert : NULL;
}

uint64_t store_n_experts(const struct store *store) {
    return store->n_experts;
}

uint64_t store_held_bytes(const struct store *store) {
    return store->held_bytes;
}
