/* progress.c - the progress line on stderr. Owns: nothing. Runs on: the main thread. */
#include "coordinator/cli/progress.h"

#include "proto/base/mono.h"

#include <stdio.h>
#include <unistd.h>

#define REDRAW_NS (100 * MONO_MS)

void progress_begin(struct progress *progress, const char *what, bool bytes, bool quiet) {
    *progress = (struct progress){.what = what,
            .bytes = bytes,
            .start_ns = mono_now(),
            .off = quiet || !isatty(STDERR_FILENO)};
}

void progress_update(struct progress *progress, uint64_t done, uint64_t total) {
    uint64_t now = mono_now();
    if (progress->off || total == 0 || now - progress->last_ns < REDRAW_NS) return;

    progress->last_ns = now;
    double seconds = (double)(now - progress->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    double left = rate > 0 ? (double)(total - done) / rate : 0;
    fprintf(stderr, "\r%s %3.0f %%  %.1f %s/s  %.0f s left\033[K", progress->what,
            100.0 * (double)done / (double)total, progress->bytes ? rate / (1 << 20) : rate,
            progress->bytes ? "MiB" : "tokens", left);
    fflush(stderr);
    progress->shown = true;
}

void progress_end(struct progress *progress) {
    if (progress->shown) fputs("\r\033[K", stderr);
    progress->shown = false;
}
