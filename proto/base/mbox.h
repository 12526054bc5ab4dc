/* mbox.h - a bounded mailbox: any thread puts messages in, one thread takes them out.
 *
 * Messages are linked through their first member, so nothing is allocated here. Whoever takes a
 * message out sees everything that was written before it was put in. The box is counted: senders
 * hold references, so that it outlives its reader; a closed box refuses messages.
 *
 * 1. Messages come out in the order in which they went in.
 * 2. At most max_items messages, and at most max_bytes unless the box was empty before. */
#pragma once

#include "proto/base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct mbox; /* opaque; thread-safe */

/* First member of every message. */
struct mbox_item {
    struct mbox_item *next; /* the box's while inside */
    uint64_t n_bytes;       /* what it counts for */
};

/* One reference, the caller's. ERR_NO_MEMORY. */
int mbox_new(uint32_t max_items, uint64_t max_bytes, struct mbox **out_box, struct err *err);
struct mbox *mbox_ref(struct mbox *box);
/* NULL is fine. Before the last reference goes, the box is closed. */
void mbox_unref(struct mbox *box);

/* Takes item; waits until deadline_ns for room. ERR_TIMEOUT (full), ERR_PEER_LOST (closed): the
 * item stays the caller's. */
int mbox_put(struct mbox *box, struct mbox_item *item, uint64_t deadline_ns);

/* 1 and the oldest message, now the caller's; 0 when none came until deadline_ns; ERR_INTERRUPTED
 * once after mbox_wake(). */
int mbox_get(struct mbox *box, uint64_t deadline_ns, struct mbox_item **out_item);

/* Ends the present mbox_get(), or the next one. Any thread; not in a signal handler. */
void mbox_wake(struct mbox *box);

/* From now on puts fail, those that wait too. Returns the messages left, linked; the caller's. */
struct mbox_item *mbox_close(struct mbox *box);
bool mbox_is_closed(struct mbox *box);
