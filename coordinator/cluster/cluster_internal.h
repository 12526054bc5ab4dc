/* cluster_internal.h - the insides of the cluster room; only its own files include it. */
#pragma once

#include "coordinator/cluster/cluster.h"
#include "coordinator/moe/placement.h"
#include "coordinator/moe/split.h"
#include "proto/base/mono.h"
#include "proto/wire/wire.h"
#include "worker/exec/exec.h"
#include "worker/store/store.h"

/* A worker that has been silent this long while we waited for it is lost. It beats four times a
 * second from a thread of its own, so this means six beats missed. */
#define CLUSTER_LOST_NS (1500 * MONO_MS)

/* While rows are away, each worker that owes a reply is pinged this often: sending to a peer whose
 * connection is gone fails at once. */
#define CLUSTER_PING_NS (100 * MONO_MS)

/* A living worker that does not answer a dispatch in this time is an error (a bug, or a machine far
 * too slow to be of use). */
#define CLUSTER_REPLY_NS (300 * MONO_S)

/* Bytes of an expert in one message, and messages under way to one worker without a STORED. */
#define CLUSTER_PIECE_BYTES (UINT64_C(1) << 20)
#define CLUSTER_PIECES_AHEAD 16

#define CLUSTER_SEND_NS (10 * MONO_S)

/* owner: the engine's thread */
struct member {
    char name[WIRE_NAME_MAX + 1];
    char isa[16];
    uint32_t peer;      /* connection that carries rows */
    uint32_t beat_peer; /* connection that carries beats; 0 until it has said hello */
    uint32_t n_threads;
    uint64_t ram_bytes;
    bool lost;
    bool left;          /* said BYE */
    uint64_t silent_ns; /* while we waited, since the last sign of life */

    uint64_t pieces_sent, pieces_stored;
    uint64_t experts_assigned, experts_stored, bytes_stored;

    uint64_t request; /* the reply it owes; 0: none */
    const struct split_share *share;
    uint8_t *outbox; /* gathered rows and routes of the dispatch under way */
    size_t outbox_bytes;

    uint64_t rows, expert_calls, busy_ns;
    uint64_t ping_sent_ns, rtt_ns;
    uint64_t ping_request;
};

struct cluster {
    struct cluster_options options;
    struct net_end *hub; /* NULL: nobody can join */
    char address[2][256];
    struct member members[PLACEMENT_WORKERS_MAX]; /* [1..n_members]; 0 is the own worker */
    uint32_t n_members;
    uint64_t next_request;
    uint64_t epoch;
    bool loaded;
    uint64_t n_refused; /* hellos and strangers */

    struct store *store; /* the own worker's */
    struct exec *exec;
    uint64_t own_rows, own_calls, own_busy_ns;

    const struct model *model;
    struct placement placement;
    struct split split;

    const struct moe_rows *rows; /* of the dispatch under way */
    struct exec_route *own_routes;
    uint32_t n_own_routes;
    uint32_t n_rows_reserved;

    struct wire_out out;
    struct cluster_times times;
    struct cluster_wire wire;
    struct err lost_err; /* what happened to the member whose reply we wait for */
};

/* cluster.c */

/* Sends cluster->out to a member; a failed send marks it lost. */
int cluster_send(struct cluster *cluster, struct member *member, struct err *err);

/* Takes in messages until deadline_ns or until one REPLY came: 1 with *out_in and *out_member, 0 when the
 * time is over. Joins, beats, acks and pongs are dealt with inside. A FAIL or a message that cannot be
 * decoded is an error that names the worker. */
int cluster_pump(struct cluster *cluster, uint64_t deadline_ns, struct wire_in *out_in,
        struct member **out_member, struct err *err);

/* Adds to each member's silence what passed since since_ns (capped: a pause of our own is not theirs)
 * and pings those that owe something. ERR_PEER_LOST when one that matters is gone. */
int cluster_watch(struct cluster *cluster, uint64_t *since_ns, struct err *err);

/* Sets ERR_PEER_LOST with the worker's name and the experts lost with it. */
int cluster_lost(struct cluster *cluster, struct member *member, const char *why, struct err *err);

static inline bool member_gone(const struct member *member) {
    return member->lost || member->left;
}
