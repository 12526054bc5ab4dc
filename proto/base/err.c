/* err.c - the error struct: first message wins, callers prepend context.
 * Owns: nothing. Does not: allocate, log or exit (but for a failed ASSERT). Runs on: any thread. */
#include "proto/base/err.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Messages may quote bytes from files and peers: nothing in them may act on a terminal. */
static void defuse(char *text) {
    for (unsigned char *at = (unsigned char *)text; *at; at++)
        if (*at < 0x20 || *at == 0x7f) *at = '?';
}

int err_set_at(struct err *err, int code, const char *file, int line, const char *fmt, ...) {
    if (!err || err->code) return code;

    err->code = code;
    err->file = file;
    err->line = line;
    err->where[0] = err->hint[0] = 0;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->what, sizeof err->what, fmt, args);
    va_end(args);
    defuse(err->what);
    return code;
}

int err_note(struct err *err, const char *fmt, ...) {
    if (!err) return ERR_BUG;
    if (!err->code) return 0;

    char note[sizeof err->where];
    va_list args;
    va_start(args, fmt);
    vsnprintf(note, sizeof note, fmt, args);
    va_end(args);
    defuse(note);

    char joined[2 * sizeof err->where + 4];
    snprintf(joined, sizeof joined, "%s%s%s", note, err->where[0] ? ": " : "", err->where);
    joined[sizeof err->where - 1] = 0;
    memcpy(err->where, joined, sizeof err->where);
    return err->code;
}

int err_hint(struct err *err, const char *fmt, ...) {
    if (!err) return ERR_BUG;
    if (!err->code || err->hint[0]) return err->code;

    va_list args;
    va_start(args, fmt);
    vsnprintf(err->hint, sizeof err->hint, fmt, args);
    va_end(args);
    defuse(err->hint);
    return err->code;
}

void err_reset(struct err *err) {
    if (err) memset(err, 0, sizeof *err);
}

void err_print(const struct err *err, const char *program, FILE *to) {
    fprintf(to, "%s: %s%s%s\n", program, err->where, err->where[0] ? ": " : "",
            err->what[0] ? err->what : err_code_text(err->code));
    if (err->hint[0]) fprintf(to, "%*s  %s\n", (int)strlen(program), "", err->hint);
}

const char *err_code_text(int code) {
    switch (code) {
    case ERR_OK:
        return "no error";
#define X(name, number, text)                                                                      \
    case number:                                                                                   \
        return text;
        ERR_LIST(X)
#undef X
    default:
        return "unknown error";
    }
}

void err_assert_fail(const char *cond, const char *file, int line) {
    fprintf(stderr, "potluck: internal error: %s:%d: %s\n", file, line, cond);
    abort();
}
