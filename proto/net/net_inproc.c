/* net_inproc.c - the transport inside one process, and the one the others are measured by.
 * Owns: the mailbox of each end and a copy of every message under way. Does not: leave the
 * process.
 * Runs on: each end on its owner's thread; names are looked up under the lock of struct net.
 *
 * A dialled end has a number and a mailbox. Each of its messages brings a reference to that
 * mailbox, from which the hub learns whom to answer, so nobody ever writes into another thread's
 * table. */
#include "proto/net/net_internal.h"

#include "proto/base/checked.h"
#include "proto/base/mbox.h"

#include <stdlib.h>
#include <string.h>

/* What may wait in front of one end: more than any flow control of ours leaves under way. */
#define INBOX_ITEMS_MAX 1024
#define INBOX_BYTES_MAX (UINT64_C(512) << 20)

#define FRAME_ALIGN 64

struct inproc_msg {
    struct mbox_item item; /* first: the mailbox links it */
    uint32_t peer;
    struct mbox *from; /* to a hub: where answers go; a reference */
    uint32_t n_frames;
    struct net_frame frames[NET_FRAMES_MAX]; /* in this allocation, each aligned */
};

struct inproc_hub { /* in the list of struct net, under its mutex */
    struct inproc_hub *next;
    char address[sizeof((struct net_end_head *)0)->address];
    struct mbox *inbox; /* borrowed from the end */
};

struct inproc_peer {
    uint32_t peer;
    struct mbox *inbox; /* a reference */
};

struct inproc_end { /* owner: the thread that made it */
    struct net_end end;
    struct mbox *inbox;
    struct inproc_msg *held; /* what the last recv returned */

    bool hub;
    struct inproc_peer *peers; /* hub: ascending by number */
    uint32_t n_peers;
    uint32_t peers_capacity;

    uint32_t number;      /* dialled: ours, as the hub knows it */
    struct mbox *hub_box; /* dialled: a reference, NULL while there is no hub */
    char hub_address[sizeof((struct net_end_head *)0)->address];
};

static bool takes(const char *address) {
    return net_has_scheme(address, "inproc://", NULL);
}

static void free_msg(struct inproc_msg *msg) {
    if (!msg) return;
    mbox_unref(msg->from);
    free(msg);
}

static void free_msgs(struct mbox_item *item) {
    while (item) {
        struct mbox_item *next = item->next;
        free_msg((struct inproc_msg *)item);
        item = next;
    }
}

static int new_end(
        struct net *net, const char *address, struct inproc_end **out_end, struct err *err) {
    const char *name = NULL;
    if (!net_has_scheme(address, "inproc://", &name) || !*name)
        return err_set(err, ERR_USAGE, "\"%s\" has no name after inproc://", address);

    struct inproc_end *end = calloc(1, sizeof *end);
    if (!end) return err_set(err, ERR_NO_MEMORY, "no memory for the address %s", address);
    end->end.head.ops = &net_inproc_ops;
    end->end.net = net;
    int rc = mbox_new(INBOX_ITEMS_MAX, INBOX_BYTES_MAX, &end->inbox, err);
    if (rc < 0) {
        free(end);
        return rc;
    }
    *out_end = end;
    return 0;
}

static void free_end(struct inproc_end *end) {
    free_msg(end->held);
    free_msgs(mbox_close(end->inbox));
    mbox_unref(end->inbox);
    mbox_unref(end->hub_box);
    for (uint32_t i = 0; i < end->n_peers; i++)
        mbox_unref(end->peers[i].inbox);
    free(end->peers);
    free(end);
}

/* Puts a name into the list. */
static int add_name(struct inproc_end *end, const char *address, struct err *err) {
    struct net *net = end->end.net;
    struct inproc_hub *hub = calloc(1, sizeof *hub);
    if (!hub) return err_set(err, ERR_NO_MEMORY, "no memory for the address %s", address);
    snprintf(hub->address, sizeof hub->address, "%s", address);
    hub->inbox = end->inbox;

    pthread_mutex_lock(&net->mutex);
    bool taken = false;
    for (const struct inproc_hub *h = net->hubs; h; h = h->next)
        taken = taken || strcmp(h->address, address) == 0;
    if (!taken) {
        hub->next = net->hubs;
        net->hubs = hub;
        pthread_cond_broadcast(&net->listening);
    }
    pthread_mutex_unlock(&net->mutex);

    if (taken) {
        free(hub);
        err_set(err, ERR_IO, "the address %s is in use", address);
        err_hint(err, "choose another name");
        return ERR_IO;
    }
    snprintf(end->end.head.address, sizeof end->end.head.address, "%s", address);
    return 0;
}

static void remove_names(struct inproc_end *end) {
    struct net *net = end->end.net;
    pthread_mutex_lock(&net->mutex);
    for (struct inproc_hub **at = &net->hubs; *at;) {
        struct inproc_hub *hub = *at;
        if (hub->inbox == end->inbox) {
            *at = hub->next;
            free(hub);
        } else {
            at = &hub->next;
        }
    }
    pthread_mutex_unlock(&net->mutex);
}

static int inproc_listen(
        struct net *net, const char *address, struct net_end **out_end, struct err *err) {
    struct inproc_end *end = NULL;
    int rc = new_end(net, address, &end, err);
    if (rc < 0) return rc;
    end->hub = true;
    rc = add_name(end, address, err);
    if (rc < 0) {
        free_end(end);
        return rc;
    }
    *out_end = &end->end;
    return 0;
}

static int inproc_listen_also(struct net_end *base, const char *address, struct err *err) {
    struct inproc_end *end = (struct inproc_end *)base;
    ASSERT(end->hub);
    if (strcmp(address, "inproc://") == 0)
        return err_set(err, ERR_USAGE, "\"%s\" has no name after inproc://", address);
    return add_name(end, address, err);
}

static int inproc_dial(
        struct net *net, const char *address, struct net_end **out_end, struct err *err) {
    struct inproc_end *end = NULL;
    int rc = new_end(net, address, &end, err);
    if (rc < 0) return rc;
    snprintf(end->hub_address, sizeof end->hub_address, "%s", address);
    *out_end = &end->end;
    return 0;
}

/* The entry of a peer or where it belongs; *out_found says which. */
static uint32_t find_peer(const struct inproc_end *end, uint32_t peer, bool *out_found) {
    uint32_t low = 0, high = end->n_peers;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (end->peers[middle].peer < peer)
            low = middle + 1;
        else
            high = middle;
    }
    *out_found = low < end->n_peers && end->peers[low].peer == peer;
    return low;
}

static void forget_closed_peers(struct inproc_end *end) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < end->n_peers; i++) {
        if (mbox_is_closed(end->peers[i].inbox))
            mbox_unref(end->peers[i].inbox);
        else
            end->peers[n++] = end->peers[i];
    }
    end->n_peers = n;
}

/* Remembers where answers to a message go; takes its reference. */
static int remember_peer(struct inproc_end *end, struct inproc_msg *msg, struct err *err) {
    bool found = false;
    uint32_t at = find_peer(end, msg->peer, &found);
    if (found) return 0;

    if (end->n_peers == end->peers_capacity) {
        forget_closed_peers(end);
        at = find_peer(end, msg->peer, &found);
    }
    if (end->n_peers == end->peers_capacity) {
        uint32_t capacity = end->peers_capacity ? 2 * end->peers_capacity : 8;
        struct inproc_peer *grown = realloc(end->peers, capacity * sizeof *grown);
        if (!grown) return err_set(err, ERR_NO_MEMORY, "no memory for a peer");
        end->peers = grown;
        end->peers_capacity = capacity;
    }
    memmove(&end->peers[at + 1], &end->peers[at], (end->n_peers - at) * sizeof end->peers[0]);
    end->peers[at].peer = msg->peer;
    end->peers[at].inbox = msg->from;
    end->n_peers++;
    msg->from = NULL;
    return 0;
}

/* Finds the hub's mailbox, waiting for one to appear. */
static int find_hub(struct inproc_end *end, uint64_t deadline_ns, struct err *err) {
    struct net *net = end->end.net;
    mbox_unref(end->hub_box);
    end->hub_box = NULL;

    pthread_mutex_lock(&net->mutex);
    for (bool in_time = true; !end->hub_box;) {
        for (const struct inproc_hub *h = net->hubs; h && !end->hub_box; h = h->next)
            if (strcmp(h->address, end->hub_address) == 0) end->hub_box = mbox_ref(h->inbox);
        if (end->hub_box || !in_time) break;
        in_time = cond_wait_until(&net->listening, &net->mutex, deadline_ns);
    }
    /* A hub that came back meets us as a new peer. */
    if (end->hub_box) end->number = ++net->last_inproc_peer;
    pthread_mutex_unlock(&net->mutex);

    if (!end->hub_box) return err_set(err, ERR_TIMEOUT, "nobody listens on %s", end->hub_address);
    return 0;
}

static struct inproc_msg *copy_msg(const struct net_frame *frames, uint32_t n_frames) {
    size_t n_bytes = align_up(sizeof(struct inproc_msg), FRAME_ALIGN);
    uint64_t content = 0;
    for (uint32_t i = 0; i < n_frames; i++) {
        n_bytes += align_up(frames[i].n_bytes, FRAME_ALIGN);
        content += frames[i].n_bytes;
    }

    struct inproc_msg *msg = aligned_alloc(FRAME_ALIGN, n_bytes);
    if (!msg) return NULL;
    memset(msg, 0, sizeof *msg);
    msg->item.n_bytes = content;
    msg->n_frames = n_frames;
    unsigned char *at = (unsigned char *)msg + align_up(sizeof *msg, FRAME_ALIGN);
    for (uint32_t i = 0; i < n_frames; i++) {
        if (frames[i].n_bytes) memcpy(at, frames[i].bytes, frames[i].n_bytes);
        msg->frames[i].bytes = at;
        msg->frames[i].n_bytes = frames[i].n_bytes;
        at += align_up(frames[i].n_bytes, FRAME_ALIGN);
    }
    return msg;
}

static int send_to_peer(struct inproc_end *end, uint32_t peer, struct inproc_msg *msg,
        uint64_t deadline_ns, struct err *err) {
    bool found = false;
    uint32_t at = find_peer(end, peer, &found);
    int rc = found ? mbox_put(end->peers[at].inbox, &msg->item, deadline_ns) : ERR_PEER_LOST;
    if (rc == ERR_TIMEOUT) return err_set(err, rc, "peer %u takes no more messages", peer);
    if (rc == ERR_PEER_LOST) return err_set(err, rc, "peer %u has gone", peer);
    return rc;
}

static int send_to_hub(
        struct inproc_end *end, struct inproc_msg *msg, uint64_t deadline_ns, struct err *err) {
    for (;;) {
        if (!end->hub_box || mbox_is_closed(end->hub_box)) {
            int rc = find_hub(end, deadline_ns, err);
            if (rc < 0) return rc;
        }
        msg->peer = end->number;
        msg->from = mbox_ref(end->inbox);
        int rc = mbox_put(end->hub_box, &msg->item, deadline_ns);
        if (rc == 0) return 0;
        mbox_unref(msg->from);
        msg->from = NULL;
        if (rc == ERR_TIMEOUT)
            return err_set(err, rc, "%s takes no more messages", end->hub_address);
    }
}

static int inproc_send(struct net_end *base, uint32_t peer, const struct net_frame *frames,
        uint32_t n_frames, uint64_t deadline_ns, struct err *err) {
    struct inproc_end *end = (struct inproc_end *)base;
    struct inproc_msg *msg = copy_msg(frames, n_frames);
    if (!msg) return err_set(err, ERR_NO_MEMORY, "no memory for a message");
    int rc = end->hub ? send_to_peer(end, peer, msg, deadline_ns, err)
                      : send_to_hub(end, msg, deadline_ns, err);
    if (rc < 0) free_msg(msg);
    return rc;
}

static int inproc_recv(
        struct net_end *base, uint64_t deadline_ns, struct net_msg *out_msg, struct err *err) {
    struct inproc_end *end = (struct inproc_end *)base;
    free_msg(end->held);
    end->held = NULL;

    struct mbox_item *item = NULL;
    int rc = mbox_get(end->inbox, deadline_ns, &item);
    if (rc == ERR_INTERRUPTED) return err_set(err, rc, "woken while waiting for a message");
    if (rc <= 0) return rc;

    end->held = (struct inproc_msg *)item;
    if (end->hub) {
        rc = remember_peer(end, end->held, err);
        if (rc < 0) return rc;
    }
    out_msg->peer = end->hub ? end->held->peer : 0;
    out_msg->n_frames = end->held->n_frames;
    memcpy(out_msg->frames, end->held->frames, sizeof out_msg->frames);
    return 1;
}

static void inproc_wake(struct net_end *base) {
    mbox_wake(((struct inproc_end *)base)->inbox);
}

static void inproc_close(struct net_end *base, uint64_t linger_ns) {
    struct inproc_end *end = (struct inproc_end *)base;
    (void)linger_ns; /* what was sent is in the receiver's mailbox already */
    if (end->hub) remove_names(end);
    free_end(end);
}

const struct net_ops net_inproc_ops = {
        .name = "inproc",
        .takes = takes,
        .listen = inproc_listen,
        .dial = inproc_dial,
        .listen_also = inproc_listen_also,
        .send = inproc_send,
        .recv = inproc_recv,
        .wake = inproc_wake,
        .close = inproc_close,
};
