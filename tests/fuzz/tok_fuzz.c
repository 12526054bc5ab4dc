/* tok_fuzz.c - any bytes as a text: every kind of vocabulary encodes them with all flags, ids are
 * in range, streams give whole characters, and byte-level BPE gives back the text. The first byte
 * of the input chooses the flags. */
#include "coordinator/text/tok.h"
#include "coordinator/text/utf8.h"
#include "tests/support/toy_vocab.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct tok *vocabs[3];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    static const char *const models[] = {"gpt2", "llama", "gemma4"};
    struct err err = ERR_INIT;
    for (int i = 0; i < 3; i++)
        if (toy_vocab_open(models[i], &vocabs[i], &err) < 0) {
            err_print(&err, "tok_fuzz", stderr);
            return 1;
        }
    return 0;
}

static void check(const struct tok *tok, bool exact, const char *text, size_t n, unsigned flags) {
    struct tok_ids ids = {0};
    struct buf back = {0}, clean = {0};
    struct err err = ERR_INIT;
    ASSERT(tok_encode(tok, text, n, flags, &ids, &err) == 0);

    struct tok_stream stream;
    unsigned show = flags & TOK_PARSE_SPECIAL ? TOK_SHOW_SPECIAL : 0;
    tok_stream_init(&stream, tok, show | TOK_STRIP_PREFIX);
    for (size_t i = 0; i < ids.n; i++) {
        ASSERT(ids.ids[i] >= 0 && (uint32_t)ids.ids[i] < tok_n_vocab(tok));
        bool added = flags & TOK_ADD_SPECIAL && (i == 0 || i == ids.n - 1);
        if (added) continue;
        ASSERT(tok_stream_push(&stream, ids.ids[i], &back, NULL) == 0);
        ASSERT(utf8_valid(back.bytes ? back.bytes : "", back.n_bytes));
    }
    ASSERT(tok_stream_finish(&stream, &back, NULL) == 0);
    ASSERT(utf8_append(&clean, text, n, NULL) == 0);
    if (exact) {
        ASSERT(back.n_bytes == clean.n_bytes);
        ASSERT(back.n_bytes == 0 || memcmp(back.bytes, clean.bytes, back.n_bytes) == 0);
    }
    tok_ids_fini(&ids);
    buf_fini(&back);
    buf_fini(&clean);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    if (n == 0) return 0;
    unsigned flags = bytes[0] & (TOK_PARSE_SPECIAL | TOK_ADD_SPECIAL | TOK_CONTINUE);
    const char *text = (const char *)bytes + 1;
    check(vocabs[0], true, text, n - 1, flags);
    check(vocabs[1], false, text, n - 1, flags);
    check(vocabs[2], false, text, n - 1, flags);
    return 0;
}
