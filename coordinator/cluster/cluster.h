/* cluster.h - the workers of one coordinator: who they are, what they hold, rows out, sums back.
 *
 * Workers dial in; each gets exactly the experts that the placement gives it, pushed with flow
 * control. A step then sends one message to each worker concerned per layer and merges one reply from
 * each; the coordinator's own experts run here, in between, through the same executor. Worker 0 is
 * always the coordinator's own. Owner: the engine's thread; every wait has a deadline. */
#pragma once

#include "coordinator/model/model.h"
#include "coordinator/moe/rows.h"
#include "coordinator/plan/plan.h"
#include "kernels/kern.h"
#include "proto/base/err.h"
#include "proto/base/pool.h"
#include "proto/net/net.h"

#include <stdbool.h>
#include <stdint.h>

struct cluster; /* opaque */

struct cluster_options {
    struct net *net;             /* borrowed */
    const struct kern_ops *kern; /* for the own worker; borrowed */
    struct pool *pool;           /* borrowed */
    const char *name;            /* of this coordinator, shown to workers */
    const char *listen[2];   /* addresses to accept workers on; NULL: none. All of one transport */
    bool own_worker;         /* the coordinator holds experts too */
    uint64_t own_room_bytes; /* for them */
};

/* Binds the addresses. ERR_IO (port in use ...), ERR_USAGE. */
int cluster_new(
        const struct cluster_options *options, struct cluster **out_cluster, struct err *err);

/* Tells workers that the coordinator leaves and frees everything. NULL is fine. */
void cluster_free(struct cluster *cluster);

/* The bound address, "" without one. address_index: which of options.listen. */
const char *cluster_address(const struct cluster *cluster, unsigned address_index);

/* Waits until n workers have joined. ERR_TIMEOUT says how many have. check is called every 100 ms at
 * least; a negative result (with err set) ends the wait: children that died, Ctrl-C. */
int cluster_wait_joined(struct cluster *cluster, uint32_t n_workers, uint64_t deadline_ns,
        int (*check)(void *arg, struct err *err), void *check_arg, struct err *err);
uint32_t cluster_n_joined(const struct cluster *cluster);

struct cluster_load_options {
    enum plan_policy policy;
    uint64_t seed;
    const char *plan_text;
    uint32_t n_replicas;
    bool with_mtp; /* also place the experts of NextN blocks */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes); /* may be NULL */
    void *progress_arg;
};

/* Plans, then pushes every expert to its holders and takes in the coordinator's own; returns when all
 * have said that they hold them. gguf is the file the model was loaded from.
 * ERR_NO_MEMORY (does not fit), ERR_PEER_LOST, ERR_TIMEOUT, ERR_INTERRUPTED. */
int cluster_load(struct cluster *cluster, const struct model *model, const struct gguf *gguf,
        const struct cluster_load_options *options, struct err *err);

/* Room for batches of n_rows rows: steps then allocate nothing. After cluster_load. */
int cluster_reserve(struct cluster *cluster, uint32_t n_rows, struct err *err);

/* Sends the rows of one layer to the workers that hold their experts. rows must stay as it is until
 * cluster_collect(). ERR_PEER_LOST names the worker and the experts lost with it. */
int cluster_dispatch(struct cluster *cluster, const struct moe_rows *rows, struct err *err);

/* Computes the coordinator's own share and waits for the replies: sums[n_rows][n_embd] and
 * poisoned[n_rows] are written. Nanoseconds spent are added to the times of cluster_times(). */
int cluster_collect(struct cluster *cluster, int64_t *sums, uint8_t *poisoned, struct err *err);

struct cluster_times {
    uint64_t dispatch_ns; /* splitting, gathering, sending */
    uint64_t own_ns;      /* the coordinator's own experts */
    uint64_t wait_ns;     /* waiting for replies after everything here was done */
    uint64_t merge_ns;
};
const struct cluster_times *cluster_times(const struct cluster *cluster);

/* One worker as tables and --json show it. */
struct cluster_worker {
    char name[64];
    const char *transport; /* "local", "inproc", "ipc", "tcp" */
    char isa[16];
    uint32_t n_threads;
    uint64_t n_experts;
    uint64_t bytes;
    uint64_t rows;
    uint64_t expert_calls;
    uint64_t busy_ns;
    uint64_t rtt_ns; /* fastest of the pings at joining; 0: not measured */
    bool lost;
};
uint32_t cluster_n_workers(const struct cluster *cluster); /* own worker (if any) and members */
void cluster_worker_at(const struct cluster *cluster, uint32_t index, struct cluster_worker *out);

struct cluster_wire {
    uint64_t messages_out, messages_in, bytes_out, bytes_in;
};
void cluster_wire(const struct cluster *cluster, struct cluster_wire *out);

/* Forgets counters (rows, calls, busy, wire), so that a run reports only its own. */
void cluster_reset_counters(struct cluster *cluster);
