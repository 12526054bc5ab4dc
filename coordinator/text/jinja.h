/* jinja.h - renders the Jinja templates that chat models carry in their files.
 *
 * One struct jinja is one rendering: jinja_new(), build the values that the template sees, name
 * them with jinja_set(), jinja_render(), jinja_free(). Templates come from model files and values
 * from requests, so both are treated as hostile: memory, output, nesting and steps are limited.
 * 1. Blocks trim as chat templates expect: the line feed after a block tag and the blanks in front
 *    of one vanish (trim_blocks, lstrip_blocks); one line feed at the end of the source is dropped.
 * 2. Text is UTF-8 and counts in characters; an invalid byte counts as one character.
 * 3. Values live until jinja_free(). A call that cannot get memory gives NULL; every call accepts
 *    NULL in the place of a value, and jinja_render() then reports what went wrong first.
 * Owner thread only; nothing is shared between two struct jinja. */
#pragma once

#include "proto/base/buf.h"
#include "proto/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jinja;       /* opaque */
struct jinja_value; /* opaque; belongs to one struct jinja */

/* 0 stands for the default. */
struct jinja_limits {
    size_t template_bytes; /* 1 MiB; the largest templates in use have 50 KiB */
    size_t memory_bytes;   /* 256 MiB for everything together */
    size_t output_bytes;   /* 16 MiB, as much as the tokenizer takes */
    uint64_t steps;        /* 20 million, about a second; a long chat takes some hundred thousand */
    unsigned depth;        /* 400 nested expressions and blocks: below 200 KiB of stack */
};

/* limits may be NULL. now_unix: what strftime_now() prints, in the time zone of this machine.
 * Returns owned. ERR_NO_MEMORY. */
int jinja_new(const struct jinja_limits *limits, int64_t now_unix, struct jinja **out_jinja,
        struct err *err);
void jinja_free(struct jinja *jinja);

struct jinja_value *jinja_none(struct jinja *jinja);
struct jinja_value *jinja_bool(struct jinja *jinja, bool value);
struct jinja_value *jinja_int(struct jinja *jinja, int64_t value);

/* Copies bytes[n] (NULL only with n 0). */
struct jinja_value *jinja_string(struct jinja *jinja, const char *bytes, size_t n);

struct jinja_value *jinja_list(struct jinja *jinja);
void jinja_push(struct jinja *jinja, struct jinja_value *list, struct jinja_value *item);

/* Keeps the order in which keys came; a second value for a key replaces the first. */
struct jinja_value *jinja_dict(struct jinja *jinja);
void jinja_put(
        struct jinja *jinja, struct jinja_value *dict, const char *key, struct jinja_value *value);

/* Reads one JSON text. ERR_BAD_INPUT names the place, and does not spoil the struct jinja. */
int jinja_from_json(struct jinja *jinja, const char *text, size_t n, struct jinja_value **out_value,
        struct err *err);

/* Gives the template a variable. name must outlive the rendering. */
void jinja_set(struct jinja *jinja, const char *name, struct jinja_value *value);

/* Gives it one variable for each key of a dict. ERR_BAD_INPUT when dict is none. */
int jinja_set_all(struct jinja *jinja, const struct jinja_value *dict, struct err *err);

/* Renders source[n] and appends the text to out; on failure out is as before. Once per struct.
 * ERR_UNSUPPORTED: the template uses something that we lack, or is no Jinja; both name the line.
 * ERR_BAD_INPUT: the template raised an exception (jinja_raised()), or asked for what is not there.
 * ERR_LIMIT: over one of the limits. ERR_NO_MEMORY. */
int jinja_render(
        struct jinja *jinja, const char *source, size_t n, struct buf *out, struct err *err);

/* Whether jinja_render() failed because the template called raise_exception(): it does not want
 * these messages. */
bool jinja_raised(const struct jinja *jinja);
