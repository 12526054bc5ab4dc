/* local_workers.h - workers on this machine, for trying things out: processes, or threads for the
 * inproc transport. They never outlive the coordinator. Owner: the main thread. */
#pragma once

#include "proto/base/err.h"
#include "proto/net/net.h"

#include <stdint.h>

struct local_workers; /* opaque */

#define LOCAL_WORKERS_MAX 63

struct local_workers_options {
    uint32_t n;
    const char *address; /* of the hub */
    const char *args;    /* --local-worker-args, split at blanks; may be NULL */
    const char *program; /* path of this program (run as `program join ...`) */
    struct net *net;     /* not NULL: threads of this process, over inproc:// */
    uint64_t ram_bytes;  /* room of each, where args do not say otherwise */
    uint32_t n_threads;   /* likewise: compute threads of each */
};

/* ERR_IO (cannot start), ERR_USAGE (too many, bad args). */
int local_workers_start(const struct local_workers_options *options,
        struct local_workers **out_workers, struct err *err);

/* 0 while all run; ERR_PEER_LOST names one that has ended (with its exit code or signal). */
int local_workers_check(struct local_workers *workers, struct err *err);

/* Asks them to leave, waits a moment, then ends those that are left. NULL is fine. */
void local_workers_stop(struct local_workers *workers);
