/* tok.c - text to ids, and questions about tokens.
 * Owns: the steps of an encoding. Does not: load (tok_load.c) or decode (tok_decode.c).
 * Runs on: any thread; a struct tok is read-only. */
#include "coordinator/text/tok_internal.h"

#include "coordinator/text/utf8.h"
#include "proto/base/checked.h"

#include <stdlib.h>
#include <string.h>

void *grow_array(void *block, size_t *capacity, size_t n, size_t size, struct err *err) {
    size_t more = *capacity * 2, n_bytes;
    if (more < n) more = n;
    if (more < 64) more = 64;
    void *bigger = mul_size(more, size, &n_bytes) ? realloc(block, n_bytes) : NULL;
    if (!bigger) {
        err_set(err, ERR_NO_MEMORY, "no memory to tokenise (%zu elements)", more);
        return NULL;
    }
    *capacity = more;
    return bigger;
}

void tok_ids_fini(struct tok_ids *ids) {
    free(ids->ids);
    *ids = (struct tok_ids){0};
}

int tok_ids_push(struct tok_ids *ids, int32_t id, struct err *err) {
    if (ids->n == ids->capacity) {
        int32_t *bigger = grow_array(ids->ids, &ids->capacity, ids->n + 1, sizeof *bigger, err);
        if (!bigger) return ERR_NO_MEMORY;
        ids->ids = bigger;
    }
    ids->ids[ids->n++] = id;
    return 0;
}

void tok_work_fini(struct tok_work *work) {
    free(work->symbols);
    free(work->heap);
    buf_fini(&work->clean);
    buf_fini(&work->escaped);
    pre_cuts_fini(&work->cuts);
    free(work->stretches);
    free(work->hits);
    free(work->mark_counts);
    free(work->taken);
    *work = (struct tok_work){0};
}

/* work->escaped = the text with U+2581 for its spaces, one more in front if wanted. */
static int escape_spaces(struct tok_work *work, const char *text, size_t n, bool prefix,
        struct err *err) {
    buf_reset(&work->escaped);
    int rc = buf_reserve(&work->escaped, n + 3, err);
    if (rc == 0 && prefix) rc = buf_append(&work->escaped, SPACE_MARK, 3, err);
    size_t i = 0;
    while (i < n && rc == 0) {
        const char *space = memchr(text + i, ' ', n - i);
        size_t end = space ? (size_t)(space - text) : n;
        rc = buf_append(&work->escaped, text + i, end - i, err);
        if (rc == 0 && space) rc = buf_append(&work->escaped, SPACE_MARK, 3, err);
        i = space ? end + 1 : n;
    }
    return rc;
}

/* Where the word that starts at from ends: before a U+2581 that follows something else. Nothing
 * merges across such a place, and the pieces are short where the whole would be a page. */
static size_t next_word(const char *text, size_t from, size_t n) {
    size_t i = from;
    while (n - i >= 3 && memcmp(text + i, SPACE_MARK, 3) == 0)
        i += 3;
    while (n - i >= 3 && memcmp(text + i, SPACE_MARK, 3) != 0)
        i++;
    return n - i >= 3 ? i : n;
}

/* Merges a text that has U+2581 for its spaces. */
static int merge_marked(const struct tok *tok, struct tok_work *work, const char *text, size_t n,
        struct tok_ids *ids, struct err *err) {
    int rc = 0;
    for (size_t from = 0; from < n && rc == 0;) {
        size_t end = tok->space_starts_symbol ? next_word(text, from, n) : n;
        rc = merge_word(tok, work, text + from, end - from, ids, err);
        from = end;
    }
    return rc;
}

/* Text without special tokens. after_text: no prefix space. */
static int encode_text(const struct tok *tok, struct tok_work *work, const char *text, size_t n,
        bool after_text, struct tok_ids *ids, struct err *err) {
    if (tok->kind != TOK_KIND_BPE) {
        int rc = escape_spaces(work, text, n, tok->add_prefix_space && !after_text, err);
        if (rc < 0) return rc;
        text = work->escaped.bytes;
        n = work->escaped.n_bytes;
        if (tok->kind == TOK_KIND_SPM) return merge_marked(tok, work, text, n, ids, err);
    }
    int rc = tok_pre_cut(tok->pre, text, n, &work->cuts, err);
    size_t from = 0;
    for (size_t i = 0; i < work->cuts.n && rc == 0; i++) {
        size_t end = work->cuts.ends[i];
        rc = tok->kind == TOK_KIND_BPE
                ? merge_word(tok, work, text + from, end - from, ids, err)
                : merge_marked(tok, work, text + from, end - from, ids, err);
        from = end;
    }
    return rc;
}

static int encode_all(const struct tok *tok, struct tok_work *work, const char *text, size_t n,
        unsigned flags, struct tok_ids *ids, struct err *err) {
    int rc = 0;
    if (!utf8_valid(text, n)) {
        rc = utf8_append(&work->clean, text, n, err);
        text = work->clean.bytes;
        n = work->clean.n_bytes;
    }
    if (rc == 0 && flags & TOK_ADD_SPECIAL && tok->add_bos)
        rc = tok_ids_push(ids, tok->specials[TOK_BOS], err);
    if (rc == 0 && n > 0)
        rc = marks_split(tok, work, text, n, (flags & TOK_PARSE_SPECIAL) != 0, err);

    bool after_text = (flags & TOK_CONTINUE) != 0;
    for (size_t i = 0; i < work->n_stretches && rc == 0; i++) {
        const struct stretch *stretch = &work->stretches[i];
        if (stretch->id != TOK_NONE)
            rc = tok_ids_push(ids, stretch->id, err);
        else
            rc = encode_text(tok, work, text + stretch->from, stretch->end - stretch->from,
                    after_text, ids, err);
        after_text = stretch->id == TOK_NONE;
    }
    if (rc == 0 && flags & TOK_ADD_SPECIAL && tok->add_eos)
        rc = tok_ids_push(ids, tok->specials[TOK_EOS], err);
    return rc;
}

int tok_encode(const struct tok *tok, const char *text, size_t n, unsigned flags,
        struct tok_ids *ids, struct err *err) {
    if (n > TOK_TEXT_MAX)
        return err_set(err, ERR_LIMIT, "a text of %zu bytes to tokenise; at most %zu are allowed",
                n, TOK_TEXT_MAX);
    size_t n_before = ids->n;
    struct tok_work work = {0};
    int rc = encode_all(tok, &work, text, n, flags, ids, err);
    tok_work_fini(&work);
    if (rc < 0) ids->n = n_before;
    return rc;
}

static bool is_id(const struct tok *tok, int32_t id) {
    return id >= 0 && (uint32_t)id < tok->n_vocab;
}

struct tok_text tok_piece(const struct tok *tok, int32_t id, bool show_special) {
    bool hidden = !is_id(tok, id)
            || (!show_special && tok->attrs[id] & (ATTR_CONTROL | ATTR_UNKNOWN));
    return hidden ? (struct tok_text){"", 0} : text_list_at(&tok->pieces, (uint32_t)id);
}

struct tok_text tok_token_text(const struct tok *tok, int32_t id) {
    return is_id(tok, id) ? text_list_at(&tok->texts, (uint32_t)id) : (struct tok_text){"", 0};
}

uint32_t tok_n_vocab(const struct tok *tok) {
    return tok->n_vocab;
}

int32_t tok_special(const struct tok *tok, enum tok_special which) {
    return (unsigned)which < TOK_SPECIAL_COUNT ? tok->specials[which] : TOK_NONE;
}

bool tok_is_eog(const struct tok *tok, int32_t id) {
    return is_id(tok, id) && tok->attrs[id] & ATTR_EOG;
}

enum tok_type tok_type(const struct tok *tok, int32_t id) {
    unsigned attrs = is_id(tok, id) ? tok->attrs[id] : 0;
    if (attrs & ATTR_CONTROL) return TOK_CONTROL;
    if (attrs & ATTR_UNKNOWN) return TOK_UNKNOWN;
    if (attrs & ATTR_USER) return TOK_USER_DEFINED;
    if (attrs & ATTR_BYTE) return TOK_BYTE;
    if (attrs & ATTR_UNUSED) return TOK_UNUSED;
    return attrs & ATTR_NORMAL ? TOK_NORMAL : TOK_UNDEFINED;
}

int32_t tok_find(const struct tok *tok, const char *text, size_t n) {
    uint32_t id = text_index_find(&tok->by_text, &tok->texts, text, n);
    return id == UINT32_MAX ? TOK_NONE : (int32_t)id;
}

bool tok_adds_bos(const struct tok *tok) {
    return tok->add_bos;
}

bool tok_adds_eos(const struct tok *tok) {
    return tok->add_eos;
}

const int32_t *tok_suppressed(const struct tok *tok, size_t *out_n) {
    *out_n = tok->n_suppressed;
    return tok->suppressed;
}

const char *tok_model_name(const struct tok *tok) {
    return tok->model_name;
}

const char *tok_pre_name(const struct tok *tok) {
    return tok->pre_name;
}
