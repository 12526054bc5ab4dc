/* tok_text.c - numbered strings and their index.
 * Owns: the memory of a list and of an index. Does not: know what the strings mean.
 * Runs on: the loading thread while filled; any thread afterwards. */
#include "coordinator/text/tok_text.h"

#include "proto/base/checked.h"

#include <stdlib.h>
#include <string.h>

void text_list_fini(struct text_list *list) {
    free(list->bytes);
    free(list->starts);
    *list = (struct text_list){0};
}

/* The block, with room for need elements of the given size; NULL when there is no memory. */
static void *grow(void *block, size_t *capacity, size_t need, size_t size, struct err *err) {
    if (need <= *capacity) return block;
    size_t more = *capacity + *capacity / 2;
    if (more < need) more = need;
    if (more < 64) more = 64;
    size_t n_bytes;
    void *bigger = mul_size(more, size, &n_bytes) ? realloc(block, n_bytes) : NULL;
    if (!bigger) {
        err_set(err, ERR_NO_MEMORY, "no memory for a vocabulary's %zu texts", need);
        return NULL;
    }
    *capacity = more;
    return bigger;
}

int text_list_add(struct text_list *list, const char *bytes, size_t n, struct err *err) {
    if (n >= UINT32_MAX - list->n_bytes || list->n == UINT32_MAX - 1)
        return err_set(err, ERR_LIMIT, "a vocabulary of more than 4 GiB of text");

    char *bytes_room = grow(list->bytes, &list->bytes_capacity, list->n_bytes + n + 1, 1, err);
    if (!bytes_room) return ERR_NO_MEMORY;
    list->bytes = bytes_room;
    uint32_t *starts = grow(list->starts, &list->starts_capacity, (size_t)list->n + 2,
            sizeof *list->starts, err);
    if (!starts) return ERR_NO_MEMORY;
    list->starts = starts;

    if (n) memcpy(list->bytes + list->n_bytes, bytes, n);
    list->starts[list->n] = (uint32_t)list->n_bytes;
    list->n_bytes += n;
    list->starts[++list->n] = (uint32_t)list->n_bytes;
    return 0;
}

struct tok_text text_list_at(const struct text_list *list, uint32_t i) {
    if (i >= list->n || list->starts[i] == list->starts[i + 1]) return (struct tok_text){"", 0};
    return (struct tok_text){list->bytes + list->starts[i], list->starts[i + 1] - list->starts[i]};
}

uint64_t mix_u64(uint64_t x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

static uint32_t hash_bytes(uint64_t seed, const char *bytes, size_t n) {
    uint64_t h = mix_u64(seed ^ n);
    for (; n >= 8; bytes += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        h = mix_u64(h ^ word);
    }
    uint64_t tail = 0;
    if (n) memcpy(&tail, bytes, n);
    return (uint32_t)mix_u64(h ^ tail);
}

void text_index_fini(struct text_index *index) {
    free(index->slots);
    *index = (struct text_index){0};
}

/* The slot that holds the string, or the free slot where it belongs. */
static struct text_slot *find_slot(const struct text_index *index, const struct text_list *list,
        uint32_t hash, const char *bytes, size_t n) {
    for (size_t i = hash & (index->n_slots - 1);; i = (i + 1) & (index->n_slots - 1)) {
        struct text_slot *slot = &index->slots[i];
        if (slot->number == 0) return slot;
        if (slot->hash != hash) continue;
        struct tok_text have = text_list_at(list, slot->number - 1);
        if (have.n == n && memcmp(have.bytes, bytes, n) == 0) return slot;
    }
}

int text_index_reserve(struct text_index *index, const struct text_list *list, size_t n,
        struct err *err) {
    size_t n_slots = 64;
    while (n_slots / 4 * 3 < n) n_slots *= 2;
    if (n_slots <= index->n_slots) return 0;

    struct text_index bigger = {.n_slots = n_slots, .seed = index->seed};
    bigger.slots = calloc(n_slots, sizeof *bigger.slots);
    if (!bigger.slots)
        return err_set(err, ERR_NO_MEMORY, "no memory for an index of %zu texts", n);
    for (size_t i = 0; i < index->n_slots; i++)
        if (index->slots[i].number) text_index_add(&bigger, list, index->slots[i].number - 1);
    free(index->slots);
    *index = bigger;
    return 0;
}

uint32_t text_index_add(struct text_index *index, const struct text_list *list, uint32_t i) {
    struct tok_text text = text_list_at(list, i);
    uint32_t hash = hash_bytes(index->seed, text.bytes, text.n);
    struct text_slot *slot = find_slot(index, list, hash, text.bytes, text.n);
    if (slot->number) return slot->number - 1;
    ASSERT(index->n < index->n_slots / 4 * 3 + 1);
    *slot = (struct text_slot){.hash = hash, .number = i + 1};
    index->n++;
    return i;
}

uint32_t text_index_find(const struct text_index *index, const struct text_list *list,
        const char *bytes, size_t n) {
    if (index->n_slots == 0) return UINT32_MAX;
    struct text_slot *slot = find_slot(index, list, hash_bytes(index->seed, bytes, n), bytes, n);
    return slot->number ? slot->number - 1 : UINT32_MAX;
}
