/* tok_split.c - finds special tokens in raw text and cuts it there.
 * Owns: the sorted list of marks of a struct tok. Does not: tokenise what is between them.
 * Runs on: marks_load on the loading thread; marks_split on any, with its own tok_work.
 *
 * The rule: for each special token, longest first, every occurrence in what is still text, from
 * left to right, is cut out. So a longer token wins over a shorter one that starts earlier. Trying
 * each token on the whole text would cost tokens times bytes; instead one walk over the text counts
 * the occurrences of all, further walks collect them in batches of bounded size, in the rule's
 * order, and each is taken if its bytes are still free. */
#include "coordinator/text/tok_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FREE = 0, TAKEN = 1, DROPPED = 2 }; /* states of a byte of the text; DROPPED: stripped */

struct mark_sort {
    struct tok_text text;
    uint32_t id;
    uint32_t place;
};

static int by_bytes(const void *a, const void *b) {
    const struct mark_sort *x = a, *y = b;
    size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
    int order = memcmp(x->text.bytes, y->text.bytes, n);
    if (order) return order;
    if (x->text.n != y->text.n) return x->text.n < y->text.n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_priority(const void *a, const void *b) {
    const struct mark_sort *x = a, *y = b;
    if (x->text.n != y->text.n) return x->text.n > y->text.n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* All marks, sorted by bytes, equal texts once. Returned owned. */
static int gather(const struct tok *tok, struct mark_sort **out_marks, size_t *out_n,
        struct err *err) {
    size_t n = 0;
    for (uint32_t id = 0; id < tok->n_vocab; id++)
        n += (tok->attrs[id] & (ATTR_UNKNOWN | ATTR_CONTROL | ATTR_USER)) != 0;
    struct mark_sort *marks = calloc(n + 1, sizeof *marks);
    if (!marks) return err_set(err, ERR_NO_MEMORY, "no memory for %zu special tokens", n);

    n = 0;
    for (uint32_t id = 0; id < tok->n_vocab; id++) {
        if (!(tok->attrs[id] & (ATTR_UNKNOWN | ATTR_CONTROL | ATTR_USER))) continue;
        struct tok_text text = text_list_at(&tok->texts, id);
        if (text.n > TOK_MARK_BYTES_MAX) {
            free(marks);
            return err_set(err, ERR_LIMIT, "special token %u has %zu bytes; at most %u are allowed",
                    (unsigned)id, text.n, TOK_MARK_BYTES_MAX);
        }
        marks[n++] = (struct mark_sort){text, id, 0};
    }
    qsort(marks, n, sizeof *marks, by_bytes);

    size_t n_unique = 0;
    for (size_t i = 0; i < n; i++) {
        bool again = n_unique && marks[n_unique - 1].text.n == marks[i].text.n
                && memcmp(marks[n_unique - 1].text.bytes, marks[i].text.bytes,
                        marks[i].text.n) == 0;
        if (!again) marks[n_unique++] = marks[i];
    }
    *out_marks = marks;
    *out_n = n_unique;
    return 0;
}

int marks_load(struct tok *tok, struct err *err) {
    struct mark_sort *marks = NULL;
    size_t n = 0;
    int rc = gather(tok, &marks, &n, err);
    if (rc < 0) return rc;

    tok->marks = calloc(n + 1, sizeof *tok->marks);
    tok->mark_order = calloc(n + 1, sizeof *tok->mark_order);
    if (!tok->marks || !tok->mark_order) {
        free(marks);
        return err_set(err, ERR_NO_MEMORY, "no memory for %zu special tokens", n);
    }
    tok->n_marks = n;
    size_t at = 0;
    for (unsigned byte = 0; byte <= 256; byte++) {
        while (at < n && (uint8_t)marks[at].text.bytes[0] < byte)
            at++;
        tok->mark_starts[byte] = (uint32_t)at;
    }
    for (size_t i = 0; i < n; i++) {
        tok->marks[i] = marks[i].id;
        marks[i].place = (uint32_t)i;
    }
    qsort(marks, n, sizeof *marks, by_priority);
    for (size_t i = 0; i < n; i++)
        tok->mark_order[marks[i].place] = (uint32_t)i;
    free(marks);
    return 0;
}

/* The byte at depth of mark i; -1 when its text ends there. */
static int mark_byte(const struct tok *tok, size_t i, size_t depth) {
    struct tok_text text = text_list_at(&tok->texts, tok->marks[i]);
    return depth < text.n ? (uint8_t)text.bytes[depth] : -1;
}

/* The first mark in [low, high), all equal up to depth, whose byte there is at least byte. */
static size_t first_not_below(const struct tok *tok, size_t low, size_t high, size_t depth,
        int byte) {
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (mark_byte(tok, middle, depth) < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What a walk does with each occurrence. */
struct walk {
    const struct tok *tok;
    bool parse_special;
    uint32_t order_from, order_end; /* collect these; none: count all */
    uint32_t *counts;               /* [n_marks] counting: how many; collecting: next free hit */
    struct mark_hit *hits;          /* NULL: count */
    const uint8_t *taken;           /* [n] collecting: start only at free bytes */
};

static void meet(const struct walk *walk, size_t mark, size_t from, size_t n) {
    const struct tok *tok = walk->tok;
    uint32_t id = tok->marks[mark], order = tok->mark_order[mark];
    if (!walk->parse_special && tok->attrs[id] & (ATTR_CONTROL | ATTR_UNKNOWN)) return;
    if (!walk->hits)
        walk->counts[order]++;
    else if (order >= walk->order_from && order < walk->order_end)
        walk->hits[walk->counts[order]++] =
                (struct mark_hit){order, (uint32_t)from, (uint32_t)n, (int32_t)id};
}

static void walk_text(const struct walk *walk, const char *text, size_t n) {
    const struct tok *tok = walk->tok;
    for (size_t from = 0; from < n; from++) {
        if (walk->taken && walk->taken[from] != FREE) continue;
        size_t low = tok->mark_starts[(uint8_t)text[from]];
        size_t high = tok->mark_starts[(uint8_t)text[from] + 1];
        for (size_t depth = 1; low < high; depth++) {
            if (mark_byte(tok, low, depth) < 0) {
                meet(walk, low, from, depth);
                low++; /* equal up to depth and ended: the shortest, sorted first, only one */
            }
            if (low == high || from + depth == n) break;
            int byte = (uint8_t)text[from + depth];
            int first = mark_byte(tok, low, depth), last = mark_byte(tok, high - 1, depth);
            if (byte < first || byte > last) break;
            if (first == last) continue;
            low = first_not_below(tok, low, high, depth, byte);
            high = first_not_below(tok, low, high, depth, byte + 1);
        }
    }
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Takes an occurrence if all its bytes are still text. A longer or equal token cannot lie inside
 * it, so looking at both ends is enough. */
static int take(const struct tok *tok, struct tok_work *work, const char *text, size_t n,
        const struct mark_hit *hit, struct err *err) {
    size_t end = hit->from + hit->n;
    if (work->taken[hit->from] != FREE || work->taken[end - 1] != FREE) return 0;
    memset(work->taken + hit->from, TAKEN, hit->n);

    if (tok->attrs[hit->id] & ATTR_RSTRIP)
        for (size_t i = end; i < n && work->taken[i] == FREE && is_space(text[i]); i++)
            work->taken[i] = DROPPED;
    if (tok->attrs[hit->id] & ATTR_LSTRIP) {
        size_t i = hit->from;
        while (i > 0 && work->taken[i - 1] == FREE && is_space(text[i - 1]))
            work->taken[--i] = DROPPED;
    }

    if (work->n_stretches == work->stretches_capacity) {
        struct stretch *more = grow_array(work->stretches, &work->stretches_capacity,
                work->n_stretches + 1, sizeof *more, err);
        if (!more) return ERR_NO_MEMORY;
        work->stretches = more;
    }
    work->stretches[work->n_stretches++] =
            (struct stretch){hit->from, (uint32_t)end, hit->id};
    return 0;
}

/* One batch: collects the occurrences of orders [from, end), n_hits of them, and takes them. */
static int take_batch(const struct tok *tok, struct tok_work *work, const char *text, size_t n,
        bool parse_special, uint32_t from, uint32_t end, size_t n_hits, struct err *err) {
    if (work->hits_capacity < n_hits) {
        struct mark_hit *hits = grow_array(work->hits, &work->hits_capacity, n_hits, sizeof *hits,
                err);
        if (!hits) return ERR_NO_MEMORY;
        work->hits = hits;
    }
    /* Counts become each order's first place among the hits; what begins in bytes taken since the
     * counting leaves its place empty. */
    memset(work->hits, 0, n_hits * sizeof *work->hits);
    uint32_t next = 0;
    for (uint32_t order = from; order < end; order++) {
        uint32_t count = work->mark_counts[order];
        work->mark_counts[order] = next;
        next += count;
    }
    struct walk walk = {tok, parse_special, from, end, work->mark_counts, work->hits, work->taken};
    walk_text(&walk, text, n);
    for (size_t i = 0; i < n_hits; i++) {
        if (work->hits[i].n == 0) continue;
        int rc = take(tok, work, text, n, &work->hits[i], err);
        if (rc < 0) return rc;
    }
    return 0;
}

static int take_all(const struct tok *tok, struct tok_work *work, const char *text, size_t n,
        bool parse_special, struct err *err) {
    size_t batch_max = 2 * n + 4096;
    uint32_t from = 0;
    while (from < tok->n_marks) {
        size_t n_hits = work->mark_counts[from];
        uint32_t end = from + 1;
        while (end < tok->n_marks && n_hits + work->mark_counts[end] <= batch_max)
            n_hits += work->mark_counts[end++];
        if (n_hits > 0) {
            int rc = take_batch(tok, work, text, n, parse_special, from, end, n_hits, err);
            if (rc < 0) return rc;
        }
        from = end;
    }
    return 0;
}

static int by_place(const void *a, const void *b) {
    const struct stretch *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

/* Puts the text between the taken tokens, which are in work->stretches, in its places. */
static int fill_gaps(struct tok_work *work, size_t n, struct err *err) {
    size_t n_tokens = work->n_stretches, need = 2 * n_tokens + 1;
    if (work->stretches_capacity < need) {
        struct stretch *more = grow_array(work->stretches, &work->stretches_capacity, need,
                sizeof *more, err);
        if (!more) return ERR_NO_MEMORY;
        work->stretches = more;
    }
    struct stretch *all = work->stretches;
    if (n_tokens > 1) qsort(all, n_tokens, sizeof *all, by_place);

    /* Tokens move to the back; the merged list grows from the front and never overtakes them. */
    memmove(all + n_tokens + 1, all, n_tokens * sizeof *all);
    const struct stretch *tokens = all + n_tokens + 1;
    size_t count = 0, done = 0;
    for (size_t i = 0; i <= n_tokens; i++) {
        size_t end = i < n_tokens ? tokens[i].from : n;
        size_t from = done, to = end;
        while (from < to && n_tokens && work->taken[from] == DROPPED)
            from++;
        while (from < to && n_tokens && work->taken[to - 1] == DROPPED)
            to--;
        struct stretch token = i < n_tokens ? tokens[i] : (struct stretch){0};
        if (from < to) all[count++] = (struct stretch){(uint32_t)from, (uint32_t)to, TOK_NONE};
        if (i == n_tokens) break;
        all[count++] = token;
        done = token.end;
    }
    work->n_stretches = count;
    return 0;
}

int marks_split(const struct tok *tok, struct tok_work *work, const char *text, size_t n,
        bool parse_special, struct err *err) {
    work->n_stretches = 0;
    if (tok->n_marks > 0) {
        if (!work->mark_counts) {
            work->mark_counts = calloc(tok->n_marks, sizeof *work->mark_counts);
            if (!work->mark_counts)
                return err_set(err, ERR_NO_MEMORY, "no memory for %zu counters", tok->n_marks);
        }
        struct walk count = {.tok = tok, .parse_special = parse_special,
            .counts = work->mark_counts};
        walk_text(&count, text, n);

        bool any = false;
        for (size_t i = 0; i < tok->n_marks && !any; i++)
            any = work->mark_counts[i] > 0;
        if (any) {
            work->taken = calloc(n, 1);
            if (!work->taken) return err_set(err, ERR_NO_MEMORY, "no memory for %zu bytes", n);
            int rc = take_all(tok, work, text, n, parse_special, err);
            if (rc < 0) return rc;
        }
    }
    return fill_gaps(work, n, err);
}
