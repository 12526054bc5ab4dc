/* err.h - errors as values: what happened, to what, what to do.
 *
 * Functions return 0 (or a non-negative count) on success and a negative enum err_code on failure.
 * The caller owns a struct err (on its stack) and passes it down as the last argument; it may be
 * NULL. The first err_set() wins; callers on the way up add where with err_note() and, where the
 * user can act, what to do with err_hint(). Any thread; touches nothing but the struct. */
#pragma once

#include <stdio.h>

/* Codes are what callers branch on and what goes over the wire: never renumber, never reuse. */
#define ERR_LIST(X)                                                                                \
    X(ERR_USAGE, -1, "wrong usage")                                                                \
    X(ERR_IO, -2, "input/output error")                                                            \
    X(ERR_BAD_INPUT, -3, "bad input")                                                              \
    X(ERR_UNSUPPORTED, -4, "not supported")                                                        \
    X(ERR_NO_MEMORY, -5, "out of memory")                                                          \
    X(ERR_LIMIT, -6, "over a limit")                                                               \
    X(ERR_TIMEOUT, -7, "timed out")                                                                \
    X(ERR_PEER_LOST, -8, "peer lost")                                                              \
    X(ERR_PROTOCOL, -9, "protocol error")                                                          \
    X(ERR_INTERRUPTED, -10, "interrupted")                                                         \
    X(ERR_NOT_FOUND, -11, "not found")                                                             \
    X(ERR_BUG, -12, "internal error")

enum err_code {
    ERR_OK = 0,
#define X(name, number, text) name = number,
    ERR_LIST(X)
#undef X
};

struct err {
    int code;        /* enum err_code; 0 while nothing is set */
    const char *file; /* origin, for -v */
    int line;
    char what[384];  /* what was attempted, on which object, with which numbers */
    char where[192]; /* notes of the callers, outermost first */
    char hint[256];  /* what the user can do */
};

#define ERR_INIT {0}

/* Records code and message unless an error is recorded already. Returns code, so that
 * `return err_set(err, ERR_IO, ...)` works. */
#define err_set(err, code, ...) err_set_at(err, code, __FILE__, __LINE__, __VA_ARGS__)
int err_set_at(struct err *err, int code, const char *file, int line, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));

/* Puts a caller's context in front of the message ("reading model.gguf: ..."). Does nothing where
 * no error is set. Returns the recorded code; without a struct err the code is lost, and ERR_BUG keeps
 * the failure a failure. */
int err_note(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Says what the user can do about it; the first hint wins. Returns as err_note(). */
int err_hint(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forgets the error. */
void err_reset(struct err *err);

/* Prints "PROGRAM: where: what" and, on a line of its own, the hint. */
void err_print(const struct err *err, const char *program, FILE *to);

/* The text of a code; "unknown error" for others. */
const char *err_code_text(int code);

/* A broken promise of our own code: prints and aborts. Never for bytes from outside. */
#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) err_assert_fail(#cond, __FILE__, __LINE__);                                   \
    } while (0)
void err_assert_fail(const char *cond, const char *file, int line) __attribute__((noreturn));
