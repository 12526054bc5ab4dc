/* host_internal.h - the insides of the host; only its own files and its test include it.
 *
 *   host_run -> host_link (one connection: hello, loop, leaving) -> host_load (LAYER, EXPERT)
 *                     |                                          -> host_rows (DISPATCH)
 *                     '-> host_beat (a thread and a connection of its own)
 */
#pragma once

#include "proto/base/mono.h"
#include "proto/wire/wire.h"
#include "worker/exec/exec.h"
#include "worker/host/host.h"
#include "worker/store/store.h"

#include <pthread.h>
#include <stdatomic.h>

/* How often the owner's wish to stop and the parent are looked at. */
#define HOST_LOOK_NS (100 * MONO_MS)

/* A coordinator is busy for seconds at a time and answers nothing meanwhile, so silence alone says
 * little. After HOST_SILENT_NS a PING is sent: one that cannot be sent within HOST_SEND_NS means that
 * the connection is gone. While none is answered the pauses double up to HOST_PROBE_MAX_NS, since
 * they pile up on the other side. A coordinator that answers nothing for HOST_DEAF_NS hangs. */
#define HOST_SILENT_NS MONO_S
#define HOST_SEND_NS (2 * MONO_S)
#define HOST_PROBE_MAX_NS (8 * MONO_S)
#define HOST_DEAF_NS (600 * MONO_S)

/* With `once`: how long a coordinator is looked for. */
#define HOST_FIND_NS (10 * MONO_S)

/* Pauses between attempts: doubled from the first to the last, and that after a refusal. */
#define HOST_RETRY_MIN_NS (250 * MONO_MS)
#define HOST_RETRY_MAX_NS (5 * MONO_S)

#define HOST_BEAT_NS (250 * MONO_MS)

/* Leaving: requests that are here already are still answered for this long, and the answers are given
 * this long to get out. */
#define HOST_DRAIN_NS MONO_S
#define HOST_LINGER_NS (500 * MONO_MS)

/* Messages that cannot be used before the coordinator is given up. */
#define HOST_BAD_MAX 16

/* What rows, sums and packed sums of one dispatch may take together: 8192 rows of 7168 elements. */
#define HOST_ROWS_BYTES_MAX (UINT64_C(1) << 30)

/* How one connection ended. */
enum host_end {
    HOST_END_NONE = 0, /* it has not */
    HOST_END_STOP,     /* our owner asked, or the parent is gone */
    HOST_END_BYE,      /* the coordinator left on purpose */
    HOST_END_GONE,     /* the coordinator is not there (any more) */
    HOST_END_REFUSED,  /* it does not want us now; later it may */
    HOST_END_FATAL,    /* trying again would not help */
};

/* Beats on a connection of their own. owner: the host; the thread reads all but the fields under the
 * mutex. */
struct host_beat {
    struct net *net;
    const char *address;
    struct wire_hello hello;
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stop;        /* under the mutex */
    atomic_bool busy; /* the host computes or takes weights in; relaxed, a hint */
};

/* Growing scratch of one dispatch, cut anew for each. */
struct host_rows {
    unsigned char *bytes;
    size_t n_bytes;
};

/* What people are told while experts come in. */
struct host_progress {
    bool open;         /* something came that was not reported yet */
    bool terminal;     /* stderr is one: a line that is written over */
    uint64_t last_ns;  /* last piece */
    uint64_t shown_ns; /* last line */
    uint64_t shown_bytes;
    uint64_t n_bytes; /* received since WELCOME */
};

struct host { /* owner: the thread in host_run */
    struct net *net;
    const struct host_options *options;
    char name[WIRE_NAME_MAX + 1];
    uint32_t n_threads;
    uint64_t ram_bytes;
    const struct kern_ops *kern;
    struct pool *pool;

    struct store *store; /* NULL between connections */
    struct exec *exec;
    struct host_rows rows;
    struct host_progress progress;

    struct net_end *end;
    struct wire_out out;
    bool joined;
    bool was_joined; /* with this connection or an earlier one */
    bool refused;    /* and said so; until the next WELCOME */
    char coordinator[WIRE_NAME_MAX + 1];
    uint64_t heard_ns;      /* last message */
    uint64_t probed_ns;     /* last PING of ours, or heard_ns */
    uint64_t probe_span_ns; /* until the next one */
    uint64_t blocked_ns;    /* since when a PING cannot be sent; 0: it can */
    uint64_t n_probes;      /* PINGs sent on this connection */
    uint64_t n_pieces;      /* EXPERT messages since WELCOME */
    uint64_t failed_expert; /* (layer << 32 | expert) + 1 of the last FAIL; 0: none */
    uint32_t n_bad;
    struct host_beat beat;
};

/* ------------------------------------------------------------------- host.c -- */

bool host_must_stop(const struct host *host);

/* A line for people, unless they want none. */
void host_say(struct host *host, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "12.3 GiB". */
const char *host_bytes_text(uint64_t n_bytes, char out_text[16]);

/* Empties the store and the executor: those of a coordinator that has just welcomed us. */
int host_renew_store(struct host *host, struct err *err);
void host_drop_store(struct host *host);

/* -------------------------------------------------------------- host_link.c -- */

/* One connection, from dialling to its end. err says why for all ends but STOP and BYE. */
enum host_end host_link(struct host *host, struct err *err);

/* Sends host->out. */
int host_send(struct host *host, struct err *err);

/* Tells the coordinator that a request or a load failed, as err says. */
int host_send_fail(struct host *host, uint64_t request, const struct err *cause, struct err *err);

/* -------------------------------------------------------------- host_load.c -- */

/* Both answer the coordinator; negative only when that was not possible. */
int host_take_layer(struct host *host, const struct wire_in *in, struct err *err);
int host_take_expert(struct host *host, const struct wire_in *in, struct err *err);

/* Shows what there is to show by now; at_once: the final line without waiting for quiet. */
void host_progress_look(struct host *host, bool at_once);

/* -------------------------------------------------------------- host_rows.c -- */

/* Computes a dispatch and answers with REPLY or FAIL; negative only when that was not possible. */
int host_take_dispatch(struct host *host, const struct wire_in *in, struct err *err);
void host_rows_fini(struct host_rows *rows);

/* -------------------------------------------------------------- host_beat.c -- */

/* Beats every HOST_BEAT_NS until host_beat_stop(); within the coordinator's own process only while the
 * host is busy. Without a thread the worker works all the same, so a failure is only
 * logged. */
void host_beat_start(struct host *host);
void host_beat_stop(struct host *host);
