/* net_internal.h - what the transports of this folder share; only its own files include it. */
#pragma once

#include "proto/base/cond.h"
#include "proto/net/net.h"

#include <stdatomic.h>

struct net_end {
    struct net_end_head head;
    struct net *net;
};

struct inproc_hub; /* net_inproc.c: a name and the mailbox behind it */

struct net { /* thread-safe */
    pthread_mutex_t mutex;
    pthread_cond_t listening;  /* a new name in hubs */
    struct inproc_hub *hubs;   /* under the mutex */
    uint32_t last_inproc_peer; /* under the mutex */
    void *zmq_context;         /* under the mutex; made with the first end that needs it */

    /* A release increment before each hand-over to libzmq, an acquire load after each receipt: the
     * library orders our threads by its own means, which a thread sanitizer cannot see into. */
    atomic_uint handed_over;
    atomic_uint n_ends;
};

extern const struct net_ops net_inproc_ops;
extern const struct net_ops net_zmq_ops;

/* Waits for messages that linger. */
void net_zmq_fini(struct net *net);

/* Whether `address` starts with `scheme`, as "tcp://"; what follows goes to *out_rest. */
bool net_has_scheme(const char *address, const char *scheme, const char **out_rest);
