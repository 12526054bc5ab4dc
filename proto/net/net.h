/* net.h - moving frames between a hub (the coordinator) and its peers (the workers).
 *
 * A hub listens on one or more addresses; peers dial it. Messages are short lists of frames; this
 * layer knows nothing of what they mean. An end is used by one thread only, the one that made it
 * (but for net_wake); struct net may be shared. Nothing blocks beyond the deadline it is given.
 *
 * Promises of every transport (tests/conform/net_conform_test.c):
 * 1. Messages of one end to another arrive whole, once, in order, or not at all.
 * 2. A peer is one connection: an end that lost it and dialled anew comes back under another
 *    number. Numbers are never 0 and not reused within reason. A hub meets a peer by its first
 *    message.
 * 3. What a hub sends to a peer that has gone is lost; soon after, sending says ERR_PEER_LOST.
 * 4. A dialled end waits for its hub: a send while there is none takes until its deadline.
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
/* No message of ours is larger. A longer frame from a peer ends its connection; a longer message of
 * several frames is dropped. */
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
     * ERR_INTERRUPTED when net_wake() was called or a signal came (inproc does not notice signals).
     * A message with too many frames or too many bytes is dropped and not returned. */
    int (*recv)(
            struct net_end *end, uint64_t deadline_ns, struct net_msg *out_msg, struct err *err);

    /* Makes the present recv, or the next one, return ERR_INTERRUPTED. Any thread. */
    void (*wake)(struct net_end *end);

    /* Frees the end. Messages under way go on being sent behind it for up to linger_ns; net_free()
     * waits for them. */
    void (*close)(struct net_end *end, uint64_t linger_ns);
};

int net_new(struct net **out_net, struct err *err);
/* After all ends are closed. */
void net_free(struct net *net);

/* ERR_USAGE: an address no transport takes or that is malformed; ERR_IO: cannot bind (in use: says
 * so) or, for listening, resolve. A name that is dialled is resolved at each attempt to connect, so
 * it may appear later. What the calls do: struct net_ops. */
int net_listen(struct net *net, const char *address, struct net_end **out_end, struct err *err);
int net_listen_also(struct net_end *end, const char *address, struct err *err);
int net_dial(struct net *net, const char *address, struct net_end **out_end, struct err *err);
int net_send(struct net_end *end, uint32_t peer, const struct net_frame *frames, uint32_t n_frames,
        uint64_t deadline_ns, struct err *err);
int net_recv(struct net_end *end, uint64_t deadline_ns, struct net_msg *out_msg, struct err *err);

/* The address the newest listen bound, with the real port; "" for a dialled end. */
const char *net_address(const struct net_end *end);
const char *net_transport_name(const struct net_end *end);

/* Makes the present net_recv() of that end, or the next one, return ERR_INTERRUPTED. Any thread
 * while the end is open; not in a signal handler. */
void net_wake(struct net_end *end);
void net_close(struct net_end *end, uint64_t linger_ns); /* NULL is fine */

/* Turns HOST:PORT, HOST or :PORT into tcp://HOST:PORT (default_port where none is given, * for no
 * HOST: listening on every address of the machine, dialling this machine). IPv6 with a port is
 * [ADDR]:PORT. Addresses with a scheme stay as they are. ERR_USAGE for a bad port or host. */
int net_parse_address(
        const char *text, uint16_t default_port, char *out, size_t out_bytes, struct err *err);

/* What every implementation puts first in its end, and the list of implementations. */
struct net_end_head {
    const struct net_ops *ops;
    char address[256];
};
const struct net_ops *net_transport_at(unsigned index);
