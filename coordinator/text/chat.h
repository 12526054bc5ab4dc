/* chat.h - messages to the text that a model was trained to continue.
 *
 * The model file's own template does it (jinja.h). A family of models that we know by heart
 * (chat_family.h) stands in where a file has no template, or one that our interpreter cannot run;
 * that is logged as chat.fallback.
 * 1. Texts are UTF-8, borrowed for the call, and need no terminator; bytes NULL means absent.
 * 2. The result is to be encoded with TOK_PARSE_SPECIAL | TOK_ADD_SPECIAL.
 * Any thread; nothing is kept between calls. */
#pragma once

#include "proto/base/buf.h"
#include "proto/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chat_str {
    const char *bytes;
    size_t n;
};

#define CHAT_STR(literal) ((struct chat_str){(literal), sizeof(literal) - 1})

/* All-zero but role and content is a plain message. */
struct chat_message {
    struct chat_str role; /* "system", "developer", "user", "assistant", "tool" */
    struct chat_str content;
    struct chat_str reasoning;       /* of an assistant, without the tags around it */
    struct chat_str tool_calls_json; /* of an assistant: array of {id, type, function} */
    struct chat_str tool_call_id;    /* of a tool */
    struct chat_str name;
};

enum chat_switch { CHAT_UNSET, CHAT_OFF, CHAT_ON };

/* All-zero renders a finished conversation for a tokenizer that adds nothing. */
struct chat_options {
    bool add_generation_prompt; /* end with the beginning of the assistant's answer */
    bool adds_bos, adds_eos;    /* the tokenizer will: a BOS in front, an EOS behind is cut off */
    bool quiet;                 /* do not log a fallback (it was logged before) */
    enum chat_switch enable_thinking;
    struct chat_str bos, eos;   /* texts of those tokens */
    struct chat_str tools_json; /* array of tools, as the OpenAI API has them */
    struct chat_str more_json;  /* object of further variables for the template */
    int64_t now_unix;           /* for templates that print the date; 0: ask the clock */
    bool (*has_token)(void *opaque, const char *text); /* is it one token? NULL: unknown */
    void *opaque;
};

/* Appends the rendered messages[n] to out; on failure out is as before. source[n_source] is
 * tokenizer.chat_template, or NULL.
 * A template that refuses a system message gets its text in front of the first user message.
 * ERR_BAD_INPUT: the template refuses these messages (its own words are in the message), JSON that
 * cannot be read. ERR_UNSUPPORTED: neither template nor family fits. ERR_LIMIT, ERR_NO_MEMORY. */
int chat_render(const char *source, size_t n_source, const struct chat_message *messages, size_t n,
        const struct chat_options *options, struct buf *out, struct err *err);

/* Whether a rendered prompt ends inside an opened block of reasoning, so that the answer starts
 * with reasoning and has only the closing tag. */
bool chat_opens_reasoning(const char *prompt, size_t n);
