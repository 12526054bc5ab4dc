/* mbox.c - the bounded mailbox.
 * Owns: the queue and its lock. Does not: allocate, copy or free messages. Runs on: any thread. */
#include "proto/base/mbox.h"

#include "proto/base/cond.h"

#include <stdlib.h>

struct mbox { /* everything under the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t filled; /* a message, or a wake */
    pthread_cond_t room;   /* a message was taken out, or the box closed */
    struct mbox_item *first;
    struct mbox_item *last;
    uint32_t n_items;
    uint32_t max_items;
    uint64_t n_bytes;
    uint64_t max_bytes;
    uint32_t n_refs;
    uint32_t n_waiting; /* putters waiting for room */
    bool closed;
    bool woken;
};

int mbox_new(uint32_t max_items, uint64_t max_bytes, struct mbox **out_box, struct err *err) {
    struct mbox *box = calloc(1, sizeof *box);
    if (!box) return err_set(err, ERR_NO_MEMORY, "no memory for a mailbox");
    box->max_items = max_items;
    box->max_bytes = max_bytes;
    box->n_refs = 1;
    pthread_mutex_init(&box->mutex, NULL);
    cond_init(&box->filled);
    cond_init(&box->room);
    *out_box = box;
    return 0;
}

struct mbox *mbox_ref(struct mbox *box) {
    pthread_mutex_lock(&box->mutex);
    box->n_refs++;
    pthread_mutex_unlock(&box->mutex);
    return box;
}

void mbox_unref(struct mbox *box) {
    if (!box) return;

    pthread_mutex_lock(&box->mutex);
    bool last = --box->n_refs == 0;
    ASSERT(!last || !box->first);
    pthread_mutex_unlock(&box->mutex);
    if (!last) return;

    pthread_cond_destroy(&box->room);
    pthread_cond_destroy(&box->filled);
    pthread_mutex_destroy(&box->mutex);
    free(box);
}

static bool has_room(const struct mbox *box, uint64_t n_bytes) {
    if (box->n_items == 0) return true;
    return box->n_items < box->max_items && n_bytes <= box->max_bytes &&
           box->n_bytes <= box->max_bytes - n_bytes;
}

int mbox_put(struct mbox *box, struct mbox_item *item, uint64_t deadline_ns) {
    int rc = 0;

    pthread_mutex_lock(&box->mutex);
    while (!box->closed && !has_room(box, item->n_bytes) && rc == 0) {
        box->n_waiting++;
        if (!cond_wait_until(&box->room, &box->mutex, deadline_ns)) rc = ERR_TIMEOUT;
        box->n_waiting--;
    }
    if (box->closed) {
        rc = ERR_PEER_LOST;
    } else if (has_room(box, item->n_bytes)) {
        rc = 0;
        item->next = NULL;
        if (box->last)
            box->last->next = item;
        else
            box->first = item;
        box->last = item;
        box->n_items++;
        box->n_bytes += item->n_bytes;
        pthread_cond_signal(&box->filled);
    }
    pthread_mutex_unlock(&box->mutex);
    return rc;
}

int mbox_get(struct mbox *box, uint64_t deadline_ns, struct mbox_item **out_item) {
    bool in_time = true;
    int rc = 0;

    pthread_mutex_lock(&box->mutex);
    while (!box->first && !box->woken && in_time)
        in_time = cond_wait_until(&box->filled, &box->mutex, deadline_ns);
    if (box->woken) {
        box->woken = false;
        rc = ERR_INTERRUPTED;
    } else if (box->first) {
        struct mbox_item *item = box->first;
        box->first = item->next;
        if (!box->first) box->last = NULL;
        box->n_items--;
        box->n_bytes -= item->n_bytes;
        /* All of them: room for a small message need not be room for the one that waits longest. */
        if (box->n_waiting) pthread_cond_broadcast(&box->room);
        item->next = NULL;
        *out_item = item;
        rc = 1;
    }
    pthread_mutex_unlock(&box->mutex);
    return rc;
}

void mbox_wake(struct mbox *box) {
    pthread_mutex_lock(&box->mutex);
    box->woken = true;
    pthread_cond_signal(&box->filled);
    pthread_mutex_unlock(&box->mutex);
}

struct mbox_item *mbox_close(struct mbox *box) {
    pthread_mutex_lock(&box->mutex);
    struct mbox_item *left = box->first;
    box->first = box->last = NULL;
    box->n_items = 0;
    box->n_bytes = 0;
    box->closed = true;
    pthread_cond_broadcast(&box->room);
    pthread_mutex_unlock(&box->mutex);
    return left;
}

bool mbox_is_closed(struct mbox *box) {
    pthread_mutex_lock(&box->mutex);
    bool closed = box->closed;
    pthread_mutex_unlock(&box->mutex);
    return closed;
}
