/* tok_decode.c - ids to text, whole or as a stream that gives whole characters only.
 * Owns: nothing; a struct tok_stream is the caller's. Does not: look for stop strings.
 * Runs on: any thread, one per stream.
 *
 * What is held is always the proper beginning of one character, so it becomes exactly one U+FFFD
 * when the next byte does not fit: the same that utf8_append() makes of the whole text. */
#include "coordinator/text/tok_internal.h"

#include "coordinator/text/utf8.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

void tok_stream_init(struct tok_stream *stream, const struct tok *tok, unsigned flags) {
    *stream = (struct tok_stream){
        .tok = tok,
        .flags = flags,
        .strip = (flags & TOK_STRIP_PREFIX) && tok->add_prefix_space,
    };
}

/* Feeds the held character from the front of *piece until it is complete or proves broken. */
static int complete_held(struct tok_stream *stream, struct tok_text *piece, struct buf *out,
        struct err *err) {
    while (stream->n_held > 0 && piece->n > 0) {
        char character[4];
        size_t n = stream->n_held;
        memcpy(character, stream->held, n);
        character[n++] = piece->bytes[0];
        if (utf8_decode(character, n, NULL) == n) {
            stream->n_held = 0;
            piece->bytes++;
            piece->n--;
            return buf_append(out, character, n, err);
        }
        if (utf8_unfinished(character, n) != n) {
            stream->n_held = 0;
            return buf_append(out, REPLACEMENT, 3, err);
        }
        stream->held[stream->n_held++] = piece->bytes[0];
        piece->bytes++;
        piece->n--;
    }
    return 0;
}

int tok_stream_push(struct tok_stream *stream, int32_t id, struct buf *out, struct err *err) {
    struct tok_text piece = tok_piece(stream->tok, id, (stream->flags & TOK_SHOW_SPECIAL) != 0);
    if (piece.n == 0) return 0;
    if (stream->strip && piece.bytes[0] == ' ') {
        piece.bytes++;
        piece.n--;
    }
    stream->strip = false;

    int rc = complete_held(stream, &piece, out, err);
    if (rc < 0) return rc;
    size_t n_open = utf8_unfinished(piece.bytes, piece.n);
    rc = utf8_append(out, piece.bytes, piece.n - n_open, err);
    if (rc < 0) return rc;
    if (n_open > 0) {
        memcpy(stream->held, piece.bytes + piece.n - n_open, n_open);
        stream->n_held = (uint8_t)n_open;
    }
    return 0;
}

int tok_stream_finish(struct tok_stream *stream, struct buf *out, struct err *err) {
    bool open = stream->n_held > 0;
    stream->n_held = 0;
    return open ? buf_append(out, REPLACEMENT, 3, err) : 0;
}

int tok_decode(const struct tok *tok, const int32_t *ids, size_t n, unsigned flags,
        struct buf *out, struct err *err) {
    struct tok_stream stream;
    tok_stream_init(&stream, tok, flags);
    for (size_t i = 0; i < n; i++) {
        int rc = tok_stream_push(&stream, ids[i], out, err);
        if (rc < 0) return rc;
    }
    return tok_stream_finish(&stream, out, err);
}
