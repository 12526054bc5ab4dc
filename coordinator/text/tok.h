/* tok.h - text to token ids and back, with the vocabulary that a GGUF file carries.
 *
 * A struct tok is made by tok_load(), never changes afterwards and may be used by any thread; it
 * keeps nothing of the file. tok_encode() appends ids to a struct tok_ids; tok_decode() turns a
 * list of ids into text; a struct tok_stream does the same token by token.
 * 1. Ids are in [0, tok_n_vocab()); TOK_NONE stands for "no such token". Every function takes any
 *    int32_t and treats ids outside the range as tokens without a text.
 * 2. What tok_encode() sees is text of at most TOK_TEXT_MAX bytes; bytes that are no UTF-8 are read
 *    as U+FFFD. What tok_decode() and struct tok_stream give is always valid UTF-8.
 * 3. Kinds: byte-level BPE ("gpt2"), SentencePiece ("llama"), and "gemma4". */
#pragma once

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/format/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tok; /* opaque, immutable after load */

#define TOK_NONE (-1)

/* Longest text of one tok_encode(): some 4 million tokens, more than any context. The work space
 * is about 40 bytes for each byte of the longest word. */
#define TOK_TEXT_MAX ((size_t)16 << 20)

enum tok_flag {
    /* tok_encode */
    TOK_PARSE_SPECIAL = 1, /* the texts of control tokens ("<|im_end|>") become those tokens */
    TOK_ADD_SPECIAL = 2,   /* BOS in front and EOS behind, where the vocabulary asks for them */
    TOK_CONTINUE = 4,      /* follows other text: no prefix space where one would be added */
    /* tok_decode, tok_stream_init */
    TOK_SHOW_SPECIAL = 8,  /* control tokens give their text instead of nothing */
    TOK_STRIP_PREFIX = 16, /* starts at the beginning of a text: drop the added prefix space */
};

/* The file's token types, after the corrections that well-known token texts get. */
enum tok_type {
    TOK_UNDEFINED = 0, TOK_NORMAL, TOK_UNKNOWN, TOK_CONTROL, TOK_USER_DEFINED, TOK_UNUSED,
    TOK_BYTE, TOK_TYPE_COUNT,
};

enum tok_special {
    TOK_BOS, TOK_EOS, TOK_EOT, /* of the text, of the answer, of a turn */
    TOK_EOM,                   /* of a message that awaits a tool's result */
    TOK_UNK, TOK_SEP, TOK_PAD,
    TOK_FIM_PRE, TOK_FIM_SUF, TOK_FIM_MID, TOK_FIM_PAD, TOK_FIM_REP, TOK_FIM_SEP,
    TOK_SPECIAL_COUNT,
};

/* Bytes borrowed from a struct tok; not terminated. */
struct tok_text {
    const char *bytes; /* never NULL */
    size_t n;
};

/* A growable list of ids with one owner; all-zero is the empty list. */
struct tok_ids {
    int32_t *ids;
    size_t n;
    size_t capacity;
};

void tok_ids_fini(struct tok_ids *ids);
int tok_ids_push(struct tok_ids *ids, int32_t id, struct err *err);

/* Reads the vocabulary. Returns owned (tok_free).
 * ERR_UNSUPPORTED: a kind of tokenizer or pre-tokenizer we do not have (named in the message).
 * ERR_BAD_INPUT, ERR_LIMIT: missing or wrong keys, no tokens, lists that are too short. */
int tok_load(const struct gguf *gguf, struct tok **out_tok, struct err *err);
void tok_free(struct tok *tok);

/* Appends the ids of text[n] (flags: TOK_PARSE_SPECIAL, TOK_ADD_SPECIAL, TOK_CONTINUE). On failure
 * ids is as before. ERR_LIMIT when n > TOK_TEXT_MAX; ERR_NO_MEMORY; ERR_UNSUPPORTED when the
 * vocabulary cannot spell the text. Any thread; O(n log n). */
int tok_encode(const struct tok *tok, const char *text, size_t n, unsigned flags,
        struct tok_ids *ids, struct err *err);

/* The bytes one token adds to the text: maybe none, maybe a part of a character. Control and
 * unknown tokens give their text when show_special and nothing otherwise. */
struct tok_text tok_piece(const struct tok *tok, int32_t id, bool show_special);

/* The token as it is spelled in the file (byte-level BPE: with the stand-in characters). */
struct tok_text tok_token_text(const struct tok *tok, int32_t id);

/* Appends the text of ids[n] (flags: TOK_SHOW_SPECIAL, TOK_STRIP_PREFIX); what is not UTF-8 becomes
 * U+FFFD. ERR_NO_MEMORY. */
int tok_decode(const struct tok *tok, const int32_t *ids, size_t n, unsigned flags,
        struct buf *out, struct err *err);

/* Token by token: holds back the bytes of an unfinished character. The concatenation of what all
 * calls appended equals tok_decode() of the same ids. Plain data; a copy is a snapshot. */
struct tok_stream {
    const struct tok *tok; /* borrowed */
    unsigned flags;
    bool strip;       /* the next text loses one leading space */
    uint8_t n_held;   /* 0..3 */
    char held[3];
};

void tok_stream_init(struct tok_stream *stream, const struct tok *tok, unsigned flags);

/* Appends the characters that id completes, maybe none. ERR_NO_MEMORY. */
int tok_stream_push(struct tok_stream *stream, int32_t id, struct buf *out, struct err *err);

/* The end: an unfinished character becomes U+FFFD. */
int tok_stream_finish(struct tok_stream *stream, struct buf *out, struct err *err);

uint32_t tok_n_vocab(const struct tok *tok);
int32_t tok_special(const struct tok *tok, enum tok_special which); /* or TOK_NONE */
bool tok_is_eog(const struct tok *tok, int32_t id); /* ends an answer */
enum tok_type tok_type(const struct tok *tok, int32_t id);

/* The token with this spelling (tok_token_text), the lowest id if there are several; TOK_NONE. */
int32_t tok_find(const struct tok *tok, const char *text, size_t n);

/* Whether TOK_ADD_SPECIAL adds something: a rendered chat prompt that starts with the text of BOS
 * must lose it first. */
bool tok_adds_bos(const struct tok *tok);
bool tok_adds_eos(const struct tok *tok);

/* Ids that the file says must never be generated. Borrowed. */
const int32_t *tok_suppressed(const struct tok *tok, size_t *out_n);

/* For inspection: "gpt2", "llama" or "gemma4", and the pre-tokenizer's name ("" for none). */
const char *tok_model_name(const struct tok *tok);
const char *tok_pre_name(const struct tok *tok);
