/* host_beat.c - signs of life while the host computes.
 * Owns: a thread and its connection. Does not: decide what a lost coordinator means (host_link.c).
 * Runs on: a thread of its own. */
#include "worker/host/host_internal.h"

#include "proto/base/cond.h"
#include "proto/base/log.h"

#include <signal.h>
#include <string.h>

/* What the coordinator says to beats: only that it does not know them (any more). */
static bool was_refused(struct net_end *end) {
    bool refused = false;
    struct net_msg msg;
    struct wire_in in;
    while (net_recv(end, mono_now(), &msg, NULL) == 1)
        if (wire_decode(&msg, &in, NULL) == 0 && in.head.type == WIRE_REFUSE) refused = true;
    return refused;
}

/* Sleeps until the next beat. False when it is time to end. */
static bool wait_beat(struct host_beat *beat) {
    uint64_t deadline_ns = mono_after(HOST_BEAT_NS);
    pthread_mutex_lock(&beat->mutex);
    while (!beat->stop && cond_wait_until(&beat->wake, &beat->mutex, deadline_ns))
        continue;
    bool stop = beat->stop;
    pthread_mutex_unlock(&beat->mutex);
    return !stop;
}

static void *beat_main(void *arg) {
    struct host_beat *beat = arg;
    struct net_end *end = NULL;
    struct err err = ERR_INIT;
    if (net_dial(beat->net, beat->address, &end, &err) < 0) {
        LOG_WARN("worker.beat", "why=\"%s\"", err.what);
        return NULL;
    }

    /* A thread cannot vanish from its coordinator's process, where the mailbox of the hub is one for
     * all: there only a long computation needs excusing. */
    bool sparing = strcmp(net_transport_name(end), "inproc") == 0;
    bool known = false;
    do {
        if (known && sparing && !atomic_load_explicit(&beat->busy, memory_order_relaxed)) continue;
        struct wire_out out;
        if (known)
            wire_encode_bare(&out, WIRE_BEAT, 0);
        else
            wire_encode_hello(&out, &beat->hello);
        /* A beat that cannot go out now is not worth keeping: the next one follows. */
        if (net_send(end, 0, out.frames, out.n_frames, mono_now(), NULL) == 0) known = true;
        if (was_refused(end)) known = false;
    } while (wait_beat(beat));
    net_close(end, 0);
    return NULL;
}

/* Signals are for the thread in host_run: there they end its waiting. */
static int start_without_signals(struct host_beat *beat) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&beat->thread, NULL, beat_main, beat);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

void host_beat_start(struct host *host) {
    struct host_beat *beat = &host->beat;
    if (beat->started) return;
    beat->net = host->net;
    beat->address = host->options->address;
    beat->hello = (struct wire_hello){
            .n_threads = host->n_threads, .ram_bytes = host->ram_bytes, .beat = true};
    snprintf(beat->hello.name, sizeof beat->hello.name, "%s", host->name);
    snprintf(beat->hello.isa, sizeof beat->hello.isa, "%s", host->kern->name);
    beat->stop = false;
    pthread_mutex_init(&beat->mutex, NULL);
    cond_init(&beat->wake);
    beat->started = start_without_signals(beat) == 0;
    if (beat->started) return;
    LOG_WARN("worker.beat", "why=\"cannot start a thread\"");
    pthread_cond_destroy(&beat->wake);
    pthread_mutex_destroy(&beat->mutex);
}

void host_beat_stop(struct host *host) {
    struct host_beat *beat = &host->beat;
    if (!beat->started) return;
    pthread_mutex_lock(&beat->mutex);
    beat->stop = true;
    pthread_cond_signal(&beat->wake);
    pthread_mutex_unlock(&beat->mutex);
    pthread_join(beat->thread, NULL);
    pthread_cond_destroy(&beat->wake);
    pthread_mutex_destroy(&beat->mutex);
    beat->started = false;
}
