/* cmd_inspect.c - potluck inspect: what is in a model file, and whether we can run it.
 * Owns: nothing. Does not: load weights. Runs on: the main thread. */
#include "coordinator/cli/app.h"
#include "coordinator/cli/cmd.h"
#include "coordinator/cli/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A metadata string as terminated text, "" when absent or of another type. */
static void text_of(const struct gguf *gguf, const char *key, char *out, size_t n_out) {
    struct gguf_str value = {"", 0};
    if (gguf_get_str(gguf, key, &value, NULL) <= 0) value = (struct gguf_str){"", 0};
    size_t n = 0;
    for (size_t i = 0; i < value.n && n + 1 < n_out; i++) {
        unsigned char c = (unsigned char)value.bytes[i];
        if (c >= 0x20 && c < 0x7f) out[n++] = (char)c; /* names are shown on terminals */
    }
    out[n] = 0;
}

static json_t *type_counts(const struct gguf *gguf) {
    json_t *counts = json_object();
    for (uint64_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const char *name = dtype_name(gguf_tensor_at(gguf, i)->type);
        json_object_set_new(
                counts, name, json_integer(json_integer_value(json_object_get(counts, name)) + 1));
    }
    return counts;
}

struct inspection {
    struct model_summary summary;
    char name[128];
    char tokenizer[160];
    bool chat_template;
};

static int inspect(const struct gguf *gguf, struct inspection *out, struct err *err) {
    int rc = model_summarise(gguf, &out->summary, err);
    if (rc < 0) return rc;

    char model[64], pre[64];
    text_of(gguf, "general.name", out->name, sizeof out->name);
    text_of(gguf, "tokenizer.ggml.model", model, sizeof model);
    text_of(gguf, "tokenizer.ggml.pre", pre, sizeof pre);
    snprintf(out->tokenizer, sizeof out->tokenizer, "%s%s%s", model, pre[0] ? "/" : "", pre);
    struct gguf_str template;
    out->chat_template = gguf_get_str(gguf, "tokenizer.chat_template", &template, NULL) == 1;

    /* a file whose tokenizer we lack cannot be run either */
    struct tok *tok = NULL;
    struct err tok_err = ERR_INIT;
    if (out->summary.supported && tok_load(gguf, &tok, &tok_err) < 0) {
        out->summary.supported = false;
        snprintf(out->summary.reason, sizeof out->summary.reason, "%s", tok_err.what);
    }
    tok_free(tok);
    return 0;
}

static int print_json(const struct gguf *gguf, const struct inspection *in, struct err *err) {
    const struct model_summary *s = &in->summary;
    json_t *object = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
                               "s:s, s:o, s:b, s:b, s:s}",
            "architecture", s->shape.architecture, "name", in->name, "parameters",
            (json_int_t)s->n_parameters, "active_parameters", (json_int_t)s->n_parameters_active,
            "file_bytes", (json_int_t)gguf_file_bytes(gguf), "layers", (json_int_t)s->shape.n_layer,
            "moe_layers", (json_int_t)s->n_moe_layers, "experts", (json_int_t)s->shape.n_expert,
            "experts_used", (json_int_t)s->shape.n_expert_used, "mtp_layers",
            (json_int_t)s->shape.n_mtp, "expert_bytes", (json_int_t)s->expert_bytes,
            "context_length", (json_int_t)s->shape.n_ctx_train, "vocab_size",
            (json_int_t)s->shape.n_vocab, "tokenizer", in->tokenizer, "tensor_types",
            type_counts(gguf), "chat_template", (int)in->chat_template, "supported",
            (int)s->supported, "reason", s->reason);
    return report_print(object, err);
}

static void print_text(const struct gguf *gguf, const struct inspection *in) {
    const struct model_summary *s = &in->summary;
    double mib = 1 << 20;
    printf("architecture   %s\n", s->shape.architecture);
    if (in->name[0]) printf("name           %s\n", in->name);
    printf("file           %.1f MiB, %" PRIu64 " tensors\n", (double)gguf_file_bytes(gguf) / mib,
            gguf_n_tensors(gguf));
    printf("parameters     %.2f million, %.2f million active per token\n",
            (double)s->n_parameters / 1e6, (double)s->n_parameters_active / 1e6);
    printf("layers         %u, width %u, %u heads, %u key/value heads\n", s->shape.n_layer,
            s->shape.n_embd, s->shape.n_head, s->shape.n_head_kv);
    if (s->shape.n_expert)
        printf("experts        %u in each of %u layers, %u used; %.2f MiB each, %.1f MiB in all\n",
                s->shape.n_expert, s->n_moe_layers, s->shape.n_expert_used,
                (double)s->expert_bytes / mib, (double)s->experts_bytes / mib);
    if (s->shape.n_mtp) printf("MTP            %u block(s)\n", s->shape.n_mtp);
    printf("context        %u\n", s->shape.n_ctx_train);
    printf("vocabulary     %u, tokenizer %s\n", s->shape.n_vocab, in->tokenizer);
    printf("chat template  %s\n", in->chat_template ? "yes" : "no");

    json_t *counts = type_counts(gguf);
    const char *type;
    json_t *count;
    printf("tensor types  ");
    json_object_foreach(counts, type, count)
            printf(" %s %lld", type, (long long)json_integer_value(count));
    json_decref(counts);
    printf("\nsupported      %s%s%s\n", s->supported ? "yes" : "no", s->supported ? "" : ": ",
            s->supported ? "" : s->reason);
}

static void print_tensors(const struct gguf *gguf) {
    printf("\n%-44s %-8s %14s  %s\n", "tensor", "type", "bytes", "shape");
    for (uint64_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(gguf, i);
        printf("%-44s %-8s %14" PRIu64 "  [", t->name, dtype_name(t->type), t->n_bytes);
        for (uint32_t d = 0; d < t->n_dims; d++)
            printf("%s%" PRIu64, d ? ", " : "", t->ne[d]);
        puts("]");
    }
}

int cmd_inspect(int argc, char **argv) {
    bool tensors = false;
    struct app_general general = {0};
    const struct opt own[] = {
            {"tensors", 0, OPT_FLAG, &tensors, NULL, "list every tensor"},
            OPT_END,
    };
    const struct app_command command = {.name = "inspect",
            .own = own,
            .usage = "potluck inspect MODEL [OPTIONS]",
            .examples = "  potluck inspect model.gguf\n"
                        "  potluck inspect model-00001-of-00003.gguf --tensors\n"};
    struct opt_words words;
    struct buf config = {0};
    struct err err = ERR_INIT;
    struct gguf *gguf = NULL;
    struct inspection in = {0};

    int rc = app_parse_general(&command, &general, argc, argv, &words, &config, &err);
    if (rc == 0 && !app_told(&command, &general, NULL)) {
        if (words.n != 1) rc = err_set(&err, ERR_USAGE, "expected one model file");
        if (rc == 0) rc = gguf_open(words.words[0], &gguf, &err);
        if (rc == 0) rc = inspect(gguf, &in, &err);
        if (rc == 0 && general.json) rc = print_json(gguf, &in, &err);
        if (rc == 0 && !general.json) print_text(gguf, &in);
        if (rc == 0 && !general.json && tensors) print_tensors(gguf);
        gguf_free(gguf);
    }
    buf_fini(&config);
    return rc < 0 ? app_fail("inspect", &err) : 0;
}
