/* log.c - the event log.
 * Owns: the log level. Does not: rotate, colour or buffer. Runs on: any thread (one write a line). */
#include "proto/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static enum log_level max_level = LOG_LEVEL_WARN;

void log_set_level(enum log_level level) {
    max_level = level;
}

enum log_level log_level(void) {
    return max_level;
}

void log_event(enum log_level level, const char *event, const char *fmt, ...) {
    if (level > max_level) return;

    static const char *const names[] = {"", "error", "warning", "info", "debug"};
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *at = text; *at; at++) /* one line per event, whatever a peer calls itself */
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?';
    fprintf(stderr, "%s %s %s\n", names[level], event, text);
}
