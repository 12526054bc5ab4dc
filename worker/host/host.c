/* host.c - a worker from start to end: what it has, and one connection after the other.
 * Owns: pool, store, executor, scratch. Does not: speak to the coordinator (host_link.c).
 * Runs on: the calling thread. */
#include "worker/host/host.h"

#include "proto/base/checked.h"
#include "proto/base/log.h"
#include "worker/host/host_internal.h"
#include "worker/host/host_parent.h"
#include "worker/hw/hw.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ helpers -- */

bool host_must_stop(const struct host *host) {
    /* relaxed: the flag carries nothing but itself */
    if (host->options->stop && atomic_load_explicit(host->options->stop, memory_order_relaxed))
        return true;
    return host->options->parent_pid > 0 && host_parent_gone(host->options->parent_pid);
}

void host_say(struct host *host, const char *fmt, ...) {
    if (host->options->quiet) return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fprintf(stderr, "%s\n", text);
}

const char *host_bytes_text(uint64_t n_bytes, char out_text[16]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double n = (double)n_bytes;
    size_t unit = 0;
    for (; n >= 1000 && unit + 1 < ARRAY_LEN(units); unit++)
        n /= 1024;
    snprintf(out_text, 16, unit ? "%.1f %s" : "%.0f %s", n, units[unit]);
    return out_text;
}

/* Sleeps, but not through a wish to stop. False when there is one. */
static bool pause_for(struct host *host, uint64_t span_ns) {
    for (uint64_t end_ns = mono_after(span_ns); !host_must_stop(host);) {
        uint64_t left = min_u64(mono_left(end_ns), HOST_LOOK_NS);
        if (left == 0) return true;
        (void)poll(NULL, 0, (int)(left / MONO_MS) + 1);
    }
    return false;
}

/* -------------------------------------------------------------------- store -- */

void host_drop_store(struct host *host) {
    exec_free(host->exec);
    store_free(host->store);
    host->exec = NULL;
    host->store = NULL;
}

int host_renew_store(struct host *host, struct err *err) {
    host_drop_store(host);
    int rc = store_new(host->kern, host->ram_bytes, &host->store, err);
    if (rc == 0) rc = exec_new(host->kern, host->store, host->pool, &host->exec, err);
    return rc;
}

/* --------------------------------------------------------------------- life -- */

static int start(struct host *host, struct err *err) {
    const struct host_options *options = host->options;
    int rc = kern_select(options->isa ? options->isa : "auto", &host->kern, err);
    if (rc < 0) return rc;

    struct hw_info hw;
    hw_read(&hw);
    host->n_threads = options->n_threads ? options->n_threads : hw.n_cores;
    host->ram_bytes = options->ram_bytes ? options->ram_bytes : hw.ram_bytes - hw.ram_bytes / 10;
    if (host->ram_bytes == 0) {
        rc = err_set(err, ERR_UNSUPPORTED, "this system does not say how much memory is free");
        err_hint(err, "say how much the experts may take: --ram SIZE");
        return rc;
    }
    if (options->ram_bytes > hw.ram_bytes && hw.ram_bytes) {
        char asked[16], there[16];
        host_say(host, "warning: room for %s was asked for, but only %s of memory is free",
                host_bytes_text(options->ram_bytes, asked), host_bytes_text(hw.ram_bytes, there));
    }
    if (options->name)
        snprintf(host->name, sizeof host->name, "%s", options->name);
    else
        snprintf(host->name, sizeof host->name, "%.48s-%ld", hw.hostname, (long)getpid());
    host->progress.terminal = isatty(STDERR_FILENO) == 1;
    return pool_new(host->n_threads, &host->pool, err);
}

/* The result of host_run: what went wrong, on which coordinator. */
static int give_up(const struct host *host, int code, const char *what, const struct err *cause,
        struct err *err) {
    err_set(err, code, "%s %s: %s", what, host->options->address, cause->what);
    if (cause->hint[0]) err_hint(err, "%s", cause->hint);
    return code;
}

/* What follows from the end of a connection: 1 to try again, else the result of host_run. */
static int conclude(
        struct host *host, enum host_end end, const struct err *cause, struct err *err) {
    const struct host_options *options = host->options;
    switch (end) {
    case HOST_END_NONE:
    case HOST_END_STOP:
        host_say(host, "left");
        return 0;
    case HOST_END_BYE:
        host_say(host, "%s has left", host->coordinator[0] ? host->coordinator : "the coordinator");
        return options->once ? 0 : 1;
    case HOST_END_GONE:
        if (options->once) return give_up(host, ERR_PEER_LOST, "no coordinator at", cause, err);
        LOG_INFO("worker.lost", "why=\"%s\"", cause->what);
        if (host->was_joined && host->joined)
            host_say(host, "%s is gone (%s); looking for it again", host->coordinator, cause->what);
        return 1;
    case HOST_END_REFUSED:
        if (options->once)
            return give_up(host, ERR_PROTOCOL, "refused by the coordinator at", cause, err);
        if (!host->refused)
            host_say(host, "refused: %s; trying again every %d s", cause->what,
                    (int)(HOST_RETRY_MAX_NS / MONO_S));
        host->refused = true;
        return 1;
    case HOST_END_FATAL:
        break;
    }
    return give_up(host, cause->code, "cannot work for", cause, err);
}

static int live(struct host *host, struct err *err) {
    uint64_t retry_ns = HOST_RETRY_MIN_NS;
    for (;;) {
        struct err cause = ERR_INIT;
        enum host_end end = host_link(host, &cause);
        int rc = conclude(host, end, &cause, err);
        if (rc <= 0) return rc;

        if (host->joined) retry_ns = HOST_RETRY_MIN_NS;
        if (end == HOST_END_REFUSED) retry_ns = HOST_RETRY_MAX_NS;
        if (!pause_for(host, retry_ns)) return conclude(host, HOST_END_STOP, NULL, err);
        retry_ns = min_u64(2 * retry_ns, HOST_RETRY_MAX_NS);
    }
}

int host_run(struct net *net, const struct host_options *options, struct err *err) {
    struct host host = {.net = net, .options = options};
    int rc = start(&host, err);
    if (rc == 0) rc = live(&host, err);
    host_drop_store(&host);
    host_rows_fini(&host.rows);
    pool_free(host.pool);
    return rc;
}
