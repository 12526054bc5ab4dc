/* tok_pre.c - compiles the steps of a pre-tokenizer and cuts texts with them.
 * Owns: PCRE2's objects; this is the only file that knows PCRE2. Does not: know the patterns
 * (tok_pre_table.c) or tokens. Runs on: any thread, with a struct pre_cuts of its own. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "coordinator/text/tok_pre.h"

#include "proto/base/checked.h"

#include <pcre2.h>
#include <stdlib.h>

/* Pieces where a pattern gives up are cut in this many bytes: long enough that nothing but noise is
 * affected, short enough to cost nothing. */
#define GIVE_UP_BYTES 4096u

/* The stack of compiled patterns: enough for every pattern here on ordinary text. */
#define JIT_STACK_BYTES ((size_t)1 << 20)

struct tok_pre {
    pcre2_code *codes[PRE_STEPS_MAX];
    enum pre_cut cuts[PRE_STEPS_MAX];
    size_t n_steps;
};

int tok_pre_new(const struct pre_entry *entry, struct tok_pre **out_pre, struct err *err) {
    struct tok_pre *pre = calloc(1, sizeof *pre);
    if (!pre) return err_set(err, ERR_NO_MEMORY, "no memory for a pre-tokenizer");

    for (const struct pre_step *step = entry->steps; step->regex; step++) {
        ASSERT(pre->n_steps < PRE_STEPS_MAX);
        int code;
        PCRE2_SIZE at;
        pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)step->regex, PCRE2_ZERO_TERMINATED,
                PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code, &at, NULL);
        if (!compiled) {
            char reason[128] = "";
            (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
            tok_pre_free(pre);
            return err_set(err, ERR_BUG, "pattern %zu of pre-tokenizer %s: %s at character %zu",
                    (size_t)(step - entry->steps), entry->name, reason, (size_t)at);
        }
        /* Without a JIT compiler here, the interpreter does the same more slowly. */
        (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
        pre->codes[pre->n_steps] = compiled;
        pre->cuts[pre->n_steps++] = step->cut;
    }
    *out_pre = pre;
    return 0;
}

void tok_pre_free(struct tok_pre *pre) {
    if (!pre) return;
    for (size_t i = 0; i < pre->n_steps; i++)
        pcre2_code_free(pre->codes[i]);
    free(pre);
}

void pre_cuts_fini(struct pre_cuts *cuts) {
    free(cuts->ends);
    free(cuts->before);
    pcre2_match_data_free(cuts->match);
    pcre2_match_context_free(cuts->match_limits);
    pcre2_jit_stack_free(cuts->stack);
    *cuts = (struct pre_cuts){0};
}

static int prepare(struct pre_cuts *cuts, struct err *err) {
    if (!cuts->match) cuts->match = pcre2_match_data_create(1, NULL);
    if (!cuts->match_limits) cuts->match_limits = pcre2_match_context_create(NULL);
    if (!cuts->stack) cuts->stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_BYTES, NULL);
    if (!cuts->match || !cuts->match_limits)
        return err_set(err, ERR_NO_MEMORY, "no memory to match patterns");
    if (cuts->stack) pcre2_jit_stack_assign(cuts->match_limits, NULL, cuts->stack);
    return 0;
}

static int push_end(struct pre_cuts *cuts, size_t end, struct err *err) {
    if (cuts->n == cuts->capacity) {
        size_t capacity = cuts->capacity ? cuts->capacity * 2 : 256, n_bytes;
        uint32_t *ends = mul_size(capacity, sizeof *ends, &n_bytes)
                ? realloc(cuts->ends, n_bytes) : NULL;
        if (!ends) return err_set(err, ERR_NO_MEMORY, "no memory for %zu words", capacity);
        cuts->ends = ends;
        cuts->capacity = capacity;
    }
    cuts->ends[cuts->n++] = (uint32_t)end;
    return 0;
}

static bool continues_character(char byte) {
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* The rest of a piece where the pattern gave up: from..end in even parts. */
static int cut_evenly(const char *text, size_t from, size_t end, struct pre_cuts *cuts,
        struct err *err) {
    while (end - from > GIVE_UP_BYTES) {
        from += GIVE_UP_BYTES;
        while (continues_character(text[from]))
            from--;
        int rc = push_end(cuts, from, err);
        if (rc < 0) return rc;
    }
    return push_end(cuts, end, err);
}

/* A match in threes of characters from its right. Unless open, its own ends are cuts too; when
 * open, its start is one only before a full three, and its end is none. */
static int cut_threes(const char *text, size_t from, size_t end, bool open, struct pre_cuts *cuts,
        struct err *err) {
    size_t n_characters = 0;
    for (size_t i = from; i < end; i++)
        n_characters += !continues_character(text[i]);

    size_t left = n_characters; /* characters from i to the end */
    for (size_t i = from; i < end; i++) {
        if (continues_character(text[i])) continue;
        bool wanted = left % 3 == 0 || (i == from && !open);
        bool fresh = i > (cuts->n ? cuts->ends[cuts->n - 1] : 0);
        if (wanted && fresh) {
            int rc = push_end(cuts, i, err);
            if (rc < 0) return rc;
        }
        left--;
    }
    return open ? 0 : push_end(cuts, end, err);
}

/* Cuts the piece text[from..end) with one pattern; the piece is a text of its own. */
static int cut_piece(const pcre2_code *code, enum pre_cut how, const char *text, size_t from,
        size_t end, struct pre_cuts *cuts, struct err *err) {
    size_t done = from; /* pieces end here so far */
    size_t at = from;   /* the search goes on here */
    while (at < end) {
        int found = pcre2_match(code, (PCRE2_SPTR)(text + from), end - from, at - from,
                PCRE2_NO_UTF_CHECK, cuts->match, cuts->match_limits);
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found < 0) return cut_evenly(text, done, end, cuts, err);

        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(cuts->match);
        size_t match_from = from + span[0], match_end = from + span[1];
        int rc = 0;
        if (how == PRE_CUT_MATCHES) {
            if (match_from > done) rc = push_end(cuts, match_from, err);
            if (rc == 0 && match_end > match_from) rc = push_end(cuts, match_end, err);
            done = match_end;
        } else {
            rc = cut_threes(text, match_from, match_end, how == PRE_CUT_THREES_OPEN, cuts, err);
            done = cuts->n ? cuts->ends[cuts->n - 1] : 0;
            if (done < from) done = from;
        }
        if (rc < 0) return rc;
        at = match_end;
        if (match_end == match_from) { /* a bare cut: look on after the next character */
            at++;
            while (at < end && continues_character(text[at]))
                at++;
        }
    }
    return end > done ? push_end(cuts, end, err) : 0;
}

static int keep_as_input(struct pre_cuts *cuts, struct err *err) {
    if (cuts->before_capacity < cuts->n) {
        size_t capacity = cuts->capacity;
        uint32_t *before = realloc(cuts->before, capacity * sizeof *before);
        if (!before) return err_set(err, ERR_NO_MEMORY, "no memory for %zu words", capacity);
        cuts->before = before;
        cuts->before_capacity = capacity;
    }
    uint32_t *input = cuts->ends;
    size_t input_capacity = cuts->capacity;
    cuts->ends = cuts->before;
    cuts->capacity = cuts->before_capacity;
    cuts->before = input;
    cuts->before_capacity = input_capacity;
    return 0;
}

int tok_pre_cut(const struct tok_pre *pre, const char *text, size_t n, struct pre_cuts *cuts,
        struct err *err) {
    cuts->n = 0;
    int rc = prepare(cuts, err);
    if (rc == 0 && n > 0) rc = push_end(cuts, n, err);
    for (size_t step = 0; step < pre->n_steps && rc == 0; step++) {
        rc = keep_as_input(cuts, err);
        if (rc < 0) break;
        size_t n_before = cuts->n, from = 0;
        cuts->n = 0;
        for (size_t i = 0; i < n_before && rc == 0; i++) {
            size_t end = cuts->before[i];
            rc = cut_piece(pre->codes[step], pre->cuts[step], text, from, end, cuts, err);
            from = end;
        }
    }
    return rc;
}
