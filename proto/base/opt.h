/* opt.h - command-line options from a table: parsed, checked, explained.
 *
 * A command describes its options as tables of struct opt that point at its own variables; the same
 * tables parse the command line, an INI file (--config) and print the help. Options are --name VALUE,
 * --name=VALUE or -x VALUE; "--" ends them. */
#pragma once

#include "proto/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum opt_kind {
    OPT_FLAG, /* bool: true when given */
    OPT_U32,
    OPT_U64,
    OPT_F32,
    OPT_STR,     /* const char *: borrowed from argv (or the config text) */
    OPT_SIZE,    /* uint64_t bytes: 512, 4K, 3M, 8G, 1T (powers of 1024) */
    OPT_TIME,    /* uint64_t nanoseconds: 200us, 5ms, 10s; a bare number is seconds */
    OPT_STRS,    /* struct opt_strs: may be given several times */
    OPT_HEADING, /* only a line of the help */
};

#define OPT_STRS_MAX 16
struct opt_strs {
    const char *values[OPT_STRS_MAX];
    uint32_t n;
};

struct opt {
    const char *name; /* "threads"; NULL for a heading */
    char letter;      /* 'n', or 0 */
    enum opt_kind kind;
    void *to;
    const char *value; /* how the help calls the value: "N" */
    const char *help;  /* one line */
};

#define OPT_END                                                                                    \
    { 0 }

/* What is left: words that are no options, in order. */
#define OPT_WORDS_MAX 16
struct opt_words {
    const char *words[OPT_WORDS_MAX];
    uint32_t n;
};

/* Parses argv[1..argc) by a NULL-terminated list of tables (each ends with OPT_END). ERR_USAGE names the
 * option and what it takes. Variables keep their defaults when an option is not given. */
int opt_parse(const struct opt *const *tables, int argc, char **argv, struct opt_words *out_words,
        struct err *err);

/* Parses an INI text: "name = value" lines, "#" and ";" comments, [sections] are ignored; a flag takes
 * true/yes/1 or false/no/0. text is changed and must outlive the variables. path is for messages. */
int opt_parse_ini(const struct opt *const *tables, char *text, const char *path, struct err *err);

/* Prints the tables as help lines. */
void opt_print(const struct opt *const *tables, FILE *to);

/* The parsers of single values, for words that stand elsewhere. ERR_USAGE. */
int opt_size(const char *text, uint64_t *out_bytes, struct err *err);
int opt_time(const char *text, uint64_t *out_ns, struct err *err);
int opt_u64(const char *text, uint64_t max, uint64_t *out, struct err *err);
