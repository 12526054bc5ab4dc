/* cmd_tokenize.c - potluck tokenize: text to token ids and back, to compare with other tokenizers.
 * Owns: nothing. Runs on: the main thread. */
#include "coordinator/cli/app.h"
#include "coordinator/cli/cmd.h"
#include "coordinator/cli/report.h"
#include "coordinator/text/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tokenize_options {
    const char *text;
    const char *file;
    const char *decode;
    bool special;
    bool json;
};

/* A piece for JSON: bytes that are no UTF-8 by themselves (half a character) become U+FFFD. */
static json_t *piece_json(const struct tok *tok, int32_t id) {
    struct buf text = {0};
    json_t *value = NULL;
    if (tok_decode(tok, &id, 1, TOK_SHOW_SPECIAL, &text, NULL) == 0)
        value = json_stringn(text.bytes ? text.bytes : "", text.n_bytes);
    buf_fini(&text);
    return value ? value : json_string("");
}

static int encode(const struct tokenize_options *options, const struct tok *tok, struct err *err) {
    struct buf text = {0};
    struct tok_ids ids = {0};
    int rc = options->text
                     ? buf_append_str(&text, options->text, err)
                     : buf_read_file(&text, options->file ? options->file : "-", TOK_TEXT_MAX, err);
    unsigned flags = options->special ? TOK_PARSE_SPECIAL : 0;
    if (rc == 0) rc = tok_encode(tok, text.bytes ? text.bytes : "", text.n_bytes, flags, &ids, err);

    if (rc == 0 && options->json) {
        json_t *pieces = json_array();
        for (size_t i = 0; i < ids.n; i++)
            json_array_append_new(pieces, piece_json(tok, ids.ids[i]));
        rc = report_print(
                json_pack("{s:o, s:o}", "token_ids", report_ids(ids.ids, ids.n), "pieces", pieces),
                err);
    } else if (rc == 0) {
        for (size_t i = 0; i < ids.n; i++)
            printf("%s%d", i ? " " : "", ids.ids[i]);
        putchar('\n');
    }
    tok_ids_fini(&ids);
    buf_fini(&text);
    return rc;
}

static int decode(const struct tokenize_options *options, const struct tok *tok, struct err *err) {
    struct tok_ids ids = {0};
    struct buf text = {0};
    int rc = 0;
    for (const char *at = options->decode; rc == 0 && *at;) {
        size_t skip = strspn(at, " ,\t\n[]");
        at += skip;
        if (!*at) break;
        char *end = NULL;
        long value = strtol(at, &end, 10);
        if (end == at || value < 0 || (unsigned long)value >= tok_n_vocab(tok))
            rc = err_set(
                    err, ERR_BAD_INPUT, "'%.12s' is not a token id below %u", at, tok_n_vocab(tok));
        else
            rc = tok_ids_push(&ids, (int32_t)value, err);
        at = end;
    }
    unsigned flags = options->special ? TOK_SHOW_SPECIAL : 0;
    if (rc == 0) rc = tok_decode(tok, ids.ids, ids.n, flags, &text, err);
    if (rc == 0 && options->json)
        rc = report_print(json_pack("{s:o, s:o}", "token_ids", report_ids(ids.ids, ids.n), "text",
                                  json_stringn(text.bytes ? text.bytes : "", text.n_bytes)),
                err);
    else if (rc == 0)
        printf("%s\n", text.bytes ? text.bytes : "");
    tok_ids_fini(&ids);
    buf_fini(&text);
    return rc;
}

static int tokenize(
        const struct tokenize_options *options, const struct opt_words *words, struct err *err) {
    struct gguf *gguf = NULL;
    struct tok *tok = NULL;
    if (words->n != 1) return err_set(err, ERR_USAGE, "expected one model file");
    int rc = gguf_open(words->words[0], &gguf, err);
    if (rc == 0) rc = tok_load(gguf, &tok, err);
    if (rc == 0) rc = options->decode ? decode(options, tok, err) : encode(options, tok, err);
    tok_free(tok);
    gguf_free(gguf);
    return rc;
}

int cmd_tokenize(int argc, char **argv) {
    struct tokenize_options options = {0};
    struct app_general general = {0};
    const struct opt own[] = {
            {"text", 0, OPT_STR, &options.text, "TEXT", "the text (default: standard input)"},
            {"file", 'f', OPT_STR, &options.file, "FILE", "read the text from a file"},
            {"decode", 0, OPT_STR, &options.decode, "IDS", "the other way: ids to text"},
            {"special", 0, OPT_FLAG, &options.special, NULL,
                    "read special tokens in the text (show them)"},
            OPT_END,
    };
    const struct app_command command = {.name = "tokenize",
            .own = own,
            .usage = "potluck tokenize MODEL [--text TEXT | -f FILE | --decode IDS] [OPTIONS]",
            .examples = "  potluck tokenize model.gguf --text \"What is a bridge?\" --json\n"
                        "  potluck tokenize model.gguf --decode \"521 409 414\"\n"};
    struct opt_words words;
    struct buf config = {0};
    struct err err = ERR_INIT;

    int rc = app_parse_general(&command, &general, argc, argv, &words, &config, &err);
    options.json = general.json;
    if (rc == 0 && !app_told(&command, &general, NULL)) rc = tokenize(&options, &words, &err);
    buf_fini(&config);
    return rc < 0 ? app_fail("tokenize", &err) : 0;
}
