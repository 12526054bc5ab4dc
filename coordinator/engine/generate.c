/* generate.c - the decode loop.
 * Owns: the text held back. Does not: render chat templates or print. Runs on: the engine's thread. */
#include "coordinator/engine/generate.h"

#include "proto/base/checked.h"
#include "proto/base/mono.h"
#include "proto/base/sha256.h"

#include <stdlib.h>
#include <string.h>

/* Room for held-back text: a stop text, an unfinished character and the longest token piece. It grows
 * only for vocabularies with longer pieces. */
#define PENDING_BYTES 8192

const char *generate_stop_name(enum generate_stop stop) {
    static const char *const names[] = {"eos", "length", "stop", "interrupted"};
    return names[stop];
}

void generate_result_fini(struct generate_result *result) {
    tok_ids_fini(&result->tokens);
}

struct generation {
    const struct generate_options *options;
    const struct tok *tok;
    struct sampler *sampler;
    struct sha256 sha;
    struct tok_stream stream;
    struct buf pending; /* certain characters that may begin a stop text */
    uint32_t n_vocab;
    int32_t next; /* drawn from the newest row */
};

/* Where the first stop text begins, or the length of the text when there is none. *out_keep: bytes at
 * the end that may be the beginning of one. */
static size_t find_stop(const struct generation *g, size_t *out_keep) {
    const char *text = g->pending.bytes ? g->pending.bytes : "";
    size_t n = g->pending.n_bytes, first = n;
    *out_keep = 0;
    for (uint32_t s = 0; s < g->options->n_stops; s++) {
        const char *stop = g->options->stops[s];
        size_t n_stop = strlen(stop);
        for (size_t at = 0; at < n && at < first; at++) {
            size_t left = n - at;
            if (memcmp(text + at, stop, left < n_stop ? left : n_stop) != 0) continue;
            if (left >= n_stop)
                first = at;
            else if (left > *out_keep)
                *out_keep = left;
        }
    }
    return first;
}

static void show(struct generation *g, size_t n) {
    if (n && g->options->text) g->options->text(g->options->arg, g->pending.bytes, n);
    memmove(g->pending.bytes, g->pending.bytes + n, g->pending.n_bytes - n + 1);
    g->pending.n_bytes -= n;
}

/* Shows what is certain. True when a stop text was met: everything before it has been shown. */
static bool flush_text(struct generation *g, bool at_end) {
    if (!g->pending.n_bytes) return false;
    size_t keep, stop = find_stop(g, &keep);
    if (stop < g->pending.n_bytes) {
        show(g, stop);
        return true;
    }
    show(g, g->pending.n_bytes - (at_end ? 0 : keep));
    return false;
}

static int take_row(void *arg, uint32_t position, const float *row, struct err *err) {
    (void)position;
    (void)err;
    struct generation *g = arg;
    size_t n_suppressed;
    const int32_t *suppressed = tok_suppressed(g->tok, &n_suppressed);
    sha256_update(&g->sha, row, g->n_vocab * sizeof *row); /* x86 and Arm are little-endian */
    g->next = sampler_draw(g->sampler, row, suppressed, (uint32_t)n_suppressed);
    return 0;
}

static bool interrupted(const struct generation *g) {
    return g->options->interrupted && g->options->interrupted(g->options->arg);
}

static void prompt_progress(void *arg, uint32_t done, uint32_t total) {
    struct generation *g = arg;
    if (g->options->progress) g->options->progress(g->options->arg, done, total);
}

static bool prompt_stop(void *arg) {
    return interrupted(arg);
}

/* Draws until something ends it; *stop says what. */
static int decode(struct generation *g, struct engine *engine, struct session *session,
        uint32_t n_max, struct generate_result *result, struct err *err) {
    struct engine_sink sink = {.arg = g, .logits = take_row};
    for (;;) {
        int32_t token = g->next;
        int rc = tok_ids_push(&result->tokens, token, err);
        if (rc < 0) return rc;
        sampler_accept(g->sampler, token);
        if (!g->options->ignore_eos && tok_is_eog(g->tok, token)) {
            result->stop = GENERATE_EOS;
            return 0;
        }
        rc = tok_stream_push(&g->stream, token, &g->pending, err);
        if (rc < 0) return rc;
        if (flush_text(g, false)) {
            result->stop = GENERATE_STOP_TEXT;
            return 0;
        }
        if (result->tokens.n >= n_max || session_n_past(session) >= session_n_ctx(session)) {
            result->stop = GENERATE_LENGTH;
            return 0;
        }
        if (interrupted(g)) {
            result->stop = GENERATE_INTERRUPTED;
            return 0;
        }
        rc = engine_eval(engine, session, &token, 1, &sink, err);
        if (rc < 0) return rc;
    }
}

static int start(struct generation *g, const struct generate_options *options, uint32_t n_vocab,
        uint32_t n_max, struct generate_result *result, struct err *err) {
    int rc = sampler_new(&options->sample, n_vocab, &g->sampler, err);
    if (rc == 0) rc = buf_reserve(&g->pending, PENDING_BYTES, err);
    if (rc < 0) return rc;
    result->tokens.ids = malloc((n_max + 1) * sizeof *result->tokens.ids);
    if (!result->tokens.ids) return err_set(err, ERR_NO_MEMORY, "no memory for %u tokens", n_max);
    result->tokens.capacity = n_max + 1;
    return 0;
}

int generate(struct engine *engine, struct session *session, const struct tok *tok,
        const int32_t *prompt, uint32_t n_prompt, const struct generate_options *options,
        struct generate_result *result, struct err *err) {
    *result = (struct generate_result){.n_prompt = n_prompt, .stop = GENERATE_INTERRUPTED};
    if (n_prompt == 0) return err_set(err, ERR_BAD_INPUT, "the prompt is empty");

    uint32_t n_ctx = session_n_ctx(session);
    uint32_t n_max = options->n_max && options->n_max < n_ctx ? options->n_max : n_ctx;
    struct generation g = {
            .options = options, .tok = tok, .n_vocab = engine_shape(engine)->n_vocab};
    sha256_init(&g.sha);
    tok_stream_init(&g.stream, tok, 0);
    int rc = start(&g, options, g.n_vocab, n_max, result, err);
    for (uint32_t i = 0; rc == 0 && i < n_prompt; i++)
        sampler_accept(g.sampler, prompt[i]);

    uint64_t begin = mono_now();
    struct engine_sink sink = {
            .arg = &g, .logits = take_row, .progress = prompt_progress, .stop = prompt_stop};
    if (rc == 0) rc = engine_eval(engine, session, prompt, n_prompt, &sink, err);
    result->prefill_ns = result->first_token_ns = mono_now() - begin;
    engine_times(engine, &result->prefill_times);
    if (rc == ERR_INTERRUPTED) {
        err_reset(err);
        rc = 0;
    } else if (rc == 0) {
        engine_reset_times(engine);
        uint64_t first = mono_now();
        rc = decode(&g, engine, session, n_max, result, err);
        result->decode_ns = mono_now() - first;
    }

    if (rc == 0 && result->stop != GENERATE_STOP_TEXT) {
        rc = tok_stream_finish(&g.stream, &g.pending, err);
        if (rc == 0 && flush_text(&g, true)) result->stop = GENERATE_STOP_TEXT;
    }
    sha256_final_hex(&g.sha, result->logits_sha256);
    sampler_free(g.sampler);
    buf_fini(&g.pending);
    return rc;
}
