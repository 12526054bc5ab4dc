/* host.h - a worker's life: dial, say hello, take experts in, answer dispatches, leave.
 *
 * host_run() is the whole program of a worker; the lean potluck-worker, `potluck join` and the worker
 * threads of --transport inproc all call it. It runs on the calling thread, which owns the store, the
 * executor and the connection; a second thread sends beats on a connection of its own, so that a
 * long computation is not mistaken for death. Everything the coordinator sends is checked. */
#pragma once

#include "proto/base/err.h"
#include "proto/net/net.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct host_options {
    const char *address; /* of the coordinator, as net_dial takes it */
    const char *name;    /* NULL: host name and process id */
    const char *isa;     /* NULL: auto */
    uint32_t n_threads;  /* 0: physical cores */
    uint64_t ram_bytes;  /* room for experts; 0: what is free, less a tenth */
    bool once;           /* end when the coordinator goes, instead of waiting for it again */
    bool quiet;          /* no lines for people on stderr ("joined ...") */
    long parent_pid;     /* > 0: end when this process is no longer the parent (local workers) */
    const atomic_bool *stop; /* asked for every 100 ms; set: leave and return. May be NULL */
};

/* Returns 0 after leaving on request (stop, parent gone; with `once` also the coordinator's BYE), or a
 * negative code: ERR_PEER_LOST (once: no coordinator, or gone), ERR_PROTOCOL (refused with once,
 * another version, nonsense instead of a WELCOME; the text says why), ERR_USAGE (address, isa). A
 * refusal that may pass (no room, name taken) is tried again unless `once`. A lost connection is
 * noticed within 4 s or so; one that is there but silent counts as a busy coordinator for 10 minutes. */
int host_run(struct net *net, const struct host_options *options, struct err *err);
