/* generate.h - an answer, token by token: prefill, draw, stop, stream.
 *
 * The text goes to a sink as soon as it is certain: unfinished characters and text that may be the
 * beginning of a stop text are held back. Owner: the engine's thread. */
#pragma once

#include "coordinator/engine/engine.h"
#include "coordinator/engine/sample.h"
#include "coordinator/text/tok.h"
#include "proto/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum generate_stop { GENERATE_EOS, GENERATE_LENGTH, GENERATE_STOP_TEXT, GENERATE_INTERRUPTED };

/* "eos", "length", "stop", "interrupted" */
const char *generate_stop_name(enum generate_stop stop);

#define GENERATE_STOPS_MAX 16
#define GENERATE_STOP_BYTES_MAX 256

struct generate_options {
    struct sample_options sample;
    uint32_t n_max; /* tokens at most; 0: until the context is full */
    bool ignore_eos;
    const char *stops[GENERATE_STOPS_MAX]; /* the answer ends before the first of these */
    uint32_t n_stops;
    void *arg;
    void (*text)(void *arg, const char *bytes, size_t n);       /* NULL: nothing is shown */
    void (*progress)(void *arg, uint32_t done, uint32_t total); /* of the prompt; NULL: none */
    bool (*interrupted)(void *arg); /* asked at each step; NULL: never */
};

struct generate_result {
    struct tok_ids tokens; /* owned; generate_result_fini() */
    enum generate_stop stop;
    char logits_sha256[65]; /* over the f32 rows that tokens were drawn from */
    uint32_t n_prompt;
    uint64_t prefill_ns;
    uint64_t first_token_ns;           /* from the start to the first token */
    uint64_t decode_ns;                /* all tokens after the first */
    struct engine_times prefill_times; /* the engine's times are reset after the prompt */
};

void generate_result_fini(struct generate_result *result);

/* Evaluates prompt[n_prompt] in a fresh session and draws tokens. After the first token nothing is
 * allocated here. On an error what was drawn so far stands in *result. */
int generate(struct engine *engine, struct session *session, const struct tok *tok,
        const int32_t *prompt, uint32_t n_prompt, const struct generate_options *options,
        struct generate_result *result, struct err *err);
