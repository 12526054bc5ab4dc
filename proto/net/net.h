/* net.h - moving frames between a hub (the coordinator) and its peers (the workers).
 *
 * A hub listens on one or more addresses; peers dial it. Messages are short lists of frames; this
 * layer knows nothing of what they mean. An end is used by one thread only, the one that made it;
 * struct net may be shared. Nothing here blocks beyond the deadline it is given.
 *
 *   address            transport
 *   inproc://NAME      mailboxes inside this process (same struct net on both sides)
 *   ipc://PATH         ZeroMQ over a Unix socket
 *   tcp://HOST:PORT    ZeroMQ over TCP; port 0 lets the system choose, net_address() tells
 */
#pragma once

#include "proto/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_FRAMES_MAX 8
/* No message of ours is larger: what a peer sends beyond it is dropped with the peer. */
#define NET_MSG_BYTES_MAX (UINT64_C(1) << 30)

struct net_frame {
    const void *bytes;
    size_t n_bytes;
};

/* A received message: frames are borrowed and valid until the next net_recv() on the same end. */
struct net_msg {
    uint32_t peer; /* on a hub: who sent it; 0 on a dialled end */
    uint32_t n_frames;
    struct net_frame frames[NET_FRAMES_MAX];
};

struct net;     /* what the ends of one process share; thread-safe */
struct net_end; /* owner: the thread that made it */

/* A transport. One per file; net.c holds the list and chooses by the address's scheme. */
struct net_ops {
    const char *name; /* "inproc", "zmq" */
    bool (*takes)(const char *address);

    /* Makes an end that listens / dials. Any thread; the end then belongs to the calling thread.
     * dial() does not wait for the other side: it connects in the background and keeps trying. */
    int (*listen)(struct net *net, const char *address, struct net_end **out_end, struct err *err);
    int (*dial)(struct net *net, const char *address, struct net_end **out_end, struct err *err);

    /* Adds a further address to a hub. NULL: not possible with this transport. */
    int (*listen_also)(struct net_end *end, const char *address, struct err *err);

    /* Copies the frames out; on a hub to `peer`, on a dialled end `peer` is ignored. Waits until
     * deadline_ns for room. ERR_PEER_LOST when the peer is known to be gone, ERR_TIMEOUT. */
    int (*send)(struct net_end *end, uint32_t peer, const struct net_frame *frames,
            uint32_t n_frames, uint64_t deadline_ns, struct err *err);

    /* Waits until deadline_ns for a message: 1 with *out_msg, 0 when the time has passed,
     * ERR_INTERRUPTED when net_wake() was called or a signal came. A message with too many frames or
     * too many bytes is dropped and not returned. */
    int (*recv)(struct net_end *end, uint64_t deadline_ns, struct net_msg *out_msg, struct err *err);

    /* Lingers up to linger_ns for messages under way, then frees the end. */
    void (*close)(struct net_end *end, uint64_t linger_ns);
};

int net_new(struct net **out_net, struct err *err);
/* After all ends are closed. */
void net_free(struct net *net);

/* ERR_USAGE: an address no transport takes; ERR_IO: cannot bind (in use: says so) or resolve. */
int net_listen(struct net *net, const char *address, struct net_end **out_end, struct err *err);
int net_listen_also(struct net_end *end, const char *address, struct err *err);
int net_dial(struct net *net, const char *address, struct net_end **out_end, struct err *err);
int net_send(struct net_end *end, uint32_t peer, const struct net_frame *frames, uint32_t n_frames,
        uint64_t deadline_ns, struct err *err);
int net_recv(struct net_end *end, uint64_t deadline_ns, struct net_msg *out_msg, struct err *err);

/* The address the newest listen bound, with the real port; "" for a dialled end. */
const char *net_address(const struct net_end *end);
const char *net_transport_name(const struct net_end *end);
void net_close(struct net_end *end, uint64_t linger_ns); /* NULL is fine */

/* Turns HOST:PORT, HOST or :PORT into tcp://HOST:PORT (default_port where none is given); addresses with a
 * scheme stay as they are. ERR_USAGE for a bad port or an over-long host. */
int net_parse_address(const char *text, uint16_t default_port, char *out, size_t out_bytes,
        struct err *err);

/* What every implementation puts first in its end, and the list of implementations. */
struct net_end_head {
    const struct net_ops *ops;
    char address[256];
};
const struct net_ops *net_transport_at(unsigned index);
