/* progress.h - how far long work is: a line that is rewritten on a terminal (share, rate, time left),
 * nothing elsewhere. One owner thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "loading" */
    bool bytes;       /* the numbers are bytes (else counted things) */
    bool shown;       /* something is on the line */
    bool off;         /* not a terminal, or quiet */
    uint64_t start_ns;
    uint64_t last_ns;
};

void progress_begin(struct progress *progress, const char *what, bool bytes, bool quiet);

/* At most ten lines a second are drawn. */
void progress_update(struct progress *progress, uint64_t done, uint64_t total);

/* Clears the line. */
void progress_end(struct progress *progress);
