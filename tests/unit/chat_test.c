/* chat_test.c - conversations through templates, and through the forms of known families. */
#include "coordinator/text/chat.h"
#include "coordinator/text/chat_family.h"

#include "proto/base/checked.h"
#include "proto/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define NOW 1754000000 /* 2025-07-31 22:13:20 UTC */
#define SYSTEM(text)                                                                               \
    { .role = CHAT_STR("system"), .content = CHAT_STR(text) }
#define USER(text)                                                                                 \
    { .role = CHAT_STR("user"), .content = CHAT_STR(text) }
#define ASSISTANT(text)                                                                            \
    { .role = CHAT_STR("assistant"), .content = CHAT_STR(text) }

static const struct chat_message talk[] = {
        SYSTEM("S"), USER("U"), ASSISTANT("<think>\nR\n</think>\n\nA"), USER("U2")};
static const struct chat_message question[] = {USER("U")};

static const struct chat_options plain = {.add_generation_prompt = true,
        .quiet = true,
        .bos = CHAT_STR("<s>"),
        .eos = CHAT_STR("</s>"),
        .now_unix = NOW};

static void expect(const char *source, const struct chat_message *messages, size_t n,
        const struct chat_options *options, const char *wanted, int line) {
    struct buf out = {0};
    struct err err = ERR_INIT;
    size_t n_source = source ? strlen(source) : 0;
    if (chat_render(source, n_source, messages, n, options, &out, &err) < 0)
        fail_msg("line %d: %s: %s", line, err.where, err.what);
    const char *got = out.n_bytes ? out.bytes : "";
    if (strcmp(got, wanted) != 0)
        fail_msg("line %d:\nexpected <%s>\n     got <%s>", line, wanted, got);
    buf_fini(&out);
}

static void expect_error(const char *source, const struct chat_message *messages, size_t n,
        const struct chat_options *options, int code, const char *words, int line) {
    struct buf out = {0};
    struct err err = ERR_INIT;
    int rc = chat_render(source, source ? strlen(source) : 0, messages, n, options, &out, &err);
    if (rc != code || err.code != code || (!strstr(err.what, words) && !strstr(err.where, words)))
        fail_msg("line %d: expected %d with <%s>, got %d <%s: %s>", line, code, words, rc,
                err.where, err.what);
    assert_int_equal(out.n_bytes, 0);
    buf_fini(&out);
}

#define EXPECT(source, messages, options, wanted)                                                  \
    expect((source), (messages), ARRAY_LEN(messages), (options), (wanted), __LINE__)
#define EXPECT_ERROR(source, messages, options, code, words)                                       \
    expect_error((source), (messages), ARRAY_LEN(messages), (options), (code), (words), __LINE__)

/* ---- templates ---- */

static const char chatml[] =
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static void test_the_files_template_renders_the_messages(void **state) {
    (void)state;
    EXPECT(chatml, question, &plain, "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n");
    struct chat_options done = plain;
    done.add_generation_prompt = false;
    EXPECT(chatml, question, &done, "<|im_start|>user\nU<|im_end|>\n");
}

static void test_templates_see_their_variables(void **state) {
    (void)state;
    struct chat_options options = plain;
    static const char source[] =
            "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools is none }}"
            "{{ documents }}{{ enable_thinking is defined }}{{ date_string }}|{{ datetime }}|"
            "{{ strftime_now('%Y') }}{{ effort }}";
    EXPECT(source, question, &options, "<s></s>TrueTrueNoneFalse31 Jul 2025|Jul 31 2025|2025");
    options.enable_thinking = CHAT_OFF;
    options.more_json = CHAT_STR("{\"effort\": \"high\", \"documents\": [1]}");
    EXPECT(source, question, &options, "<s></s>TrueTrue[1]True31 Jul 2025|Jul 31 2025|2025high");
    options.more_json = CHAT_STR("[1]");
    EXPECT_ERROR(source, question, &options, ERR_BAD_INPUT, "variables of the chat template");
    options.more_json = CHAT_STR("{");
    EXPECT_ERROR(source, question, &options, ERR_BAD_INPUT, "variables of the chat template");
}

static void test_a_bos_that_the_tokenizer_adds_is_cut_off(void **state) {
    (void)state;
    struct chat_options options = plain;
    static const char source[] = "{{ bos_token }}{{ bos_token }}x{{ eos_token }}";
    EXPECT(source, question, &options, "<s><s>x</s>");
    options.adds_bos = options.adds_eos = true;
    EXPECT(source, question, &options, "<s>x");
    options.bos = (struct chat_str){NULL, 0};
    EXPECT(source, question, &options, "x");
}

static void test_a_developer_is_the_system_unless_the_template_knows_better(void **state) {
    (void)state;
    static const struct chat_message messages[] = {
            {.role = CHAT_STR("developer"), .content = CHAT_STR("D")}, USER("U")};
    EXPECT("{% for m in messages %}{{ m.role }} {% endfor %}", messages, &plain, "system user ");
    EXPECT("{% for m in messages %}{{ m.role }} {% endfor %}{# developer #}", messages, &plain,
            "developer user ");
}

static void test_a_refused_system_message_goes_into_the_first_user_message(void **state) {
    (void)state;
    static const char source[] =
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif "
            "%}"
            "{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}";
    static const struct chat_message messages[] = {
            SYSTEM("S"), USER("U"), ASSISTANT("A"), USER("U2")};
    EXPECT(source, messages, &plain, "[user: S\n\nU][assistant: A][user: U2]");
    static const char never[] = "\n{{ raise_exception('roles must alternate') }}";
    EXPECT_ERROR(never, messages, &plain, ERR_BAD_INPUT,
            "the chat template refuses these messages: roles must alternate (line 2)");
}

static void test_templates_that_do_not_expect_none_get_no_tools_at_all(void **state) {
    (void)state;
    EXPECT("{% if tools is defined %}{{ tools|length }}{% endif %}x", question, &plain, "x");
    EXPECT_ERROR("{{ nothing.x }}", question, &plain, ERR_BAD_INPUT, "'nothing'");
}

static const struct chat_message tool_talk[] = {USER("U"),
        {.role = CHAT_STR("assistant"),
                .content = {NULL, 0},
                .reasoning = CHAT_STR("R"),
                .tool_calls_json = CHAT_STR(
                        "[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
                        "\"arguments\":\"{\\\"city\\\": \\\"Paris\\\", \\\"days\\\": 2}\"}}]")},
        {.role = CHAT_STR("tool"),
                .content = CHAT_STR("sunny"),
                .tool_call_id = CHAT_STR("c1"),
                .name = CHAT_STR("f")}};

static void test_tool_calls_and_reasoning_reach_the_template(void **state) {
    (void)state;
    struct chat_options options = plain;
    options.tools_json = CHAT_STR("[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]");
    static const char source[] =
            "{% for t in tools %}{{ t|tojson }}\n{% endfor %}"
            "{%- for m in messages %}\n"
            "{%- if m.tool_calls %}<think>{{ m.reasoning_content }}</think>{{ m.content }}"
            "{%- for c in m.tool_calls %}{%- set c = c.function %}<call>{{ c.name }}"
            "{%- for k, v in c.arguments.items() %}<{{ k }}>{{ v if v is string else v|tojson }}"
            "{%- endfor %}{% endfor %}\n"
            "{%- elif m.role == 'tool' %}<result {{ m.name }} {{ m.tool_call_id }}>{{ m.content "
            "}}\n"
            "{%- else %}{{ m.content }}\n{%- endif %}{% endfor %}";
    EXPECT(source, tool_talk, &options,
            "{\"type\": \"function\", \"function\": {\"name\": \"f\"}}\n"
            "U<think>R</think><call>f<city>Paris<days>2<result f c1>sunny");
}

static void test_arguments_stay_text_for_templates_that_want_text(void **state) {
    (void)state;
    EXPECT("{% for m in messages %}{% if m.tool_calls %}"
           "{{ 'args: ' + m.tool_calls[0].function.arguments }}{% endif %}{% endfor %}",
            tool_talk, &plain, "args: {\"city\": \"Paris\", \"days\": 2}");
}

static void test_json_that_cannot_be_read_is_named(void **state) {
    (void)state;
    struct chat_options options = plain;
    options.tools_json = CHAT_STR("[1, ");
    EXPECT_ERROR(chatml, question, &options, ERR_BAD_INPUT, "tools");
    static const struct chat_message broken[] = {
            {.role = CHAT_STR("assistant"), .tool_calls_json = CHAT_STR("[{]")}};
    EXPECT_ERROR(chatml, broken, &plain, ERR_BAD_INPUT, "the tool calls of a message");
}

/* Written for this test, with what templates of reasoning models do: the last question is sought
 * from the end, earlier reasoning is dropped, later reasoning is kept. */
static const char reasoning_template[] =
        "{%- set ns = namespace(open=true, last=messages|length - 1) %}\n"
        "{%- for m in messages[::-1] %}\n"
        "    {%- set index = (messages|length - 1) - loop.index0 %}\n"
        "    {%- if ns.open and m.role == \"user\" and not(m.content.startswith('<tool_response>')"
        " and m.content.endswith('</tool_response>')) %}\n"
        "        {%- set ns.open = false %}\n"
        "        {%- set ns.last = index %}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- for m in messages %}\n"
        "    {%- if m.role == \"assistant\" %}\n"
        "        {%- set content = m.content %}\n"
        "        {%- set reasoning = '' %}\n"
        "        {%- if m.reasoning_content is string %}\n"
        "            {%- set reasoning = m.reasoning_content %}\n"
        "        {%- elif '</think>' in content %}\n"
        "            {%- set reasoning = content.split('</think>')[0].rstrip('\\n')"
        ".split('<think>')[-1].lstrip('\\n') %}\n"
        "            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n"
        "        {%- endif %}\n"
        "        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}\n"
        "            {{- '<a><think>' + reasoning.strip('\\n') + '</think>' + content }}\n"
        "        {%- else %}\n"
        "            {{- '<a>' + content }}\n"
        "        {%- endif %}\n"
        "    {%- else %}\n"
        "        {{- '<' ~ m.role[0] ~ '>' ~ m.content }}\n"
        "    {%- endif %}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "    {{- '<a>' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
        "        {{- '<think></think>' }}\n"
        "    {%- endif %}\n"
        "{%- endif %}\n";

static void test_earlier_reasoning_is_dropped_as_the_template_says(void **state) {
    (void)state;
    struct chat_options options = plain;
    EXPECT(reasoning_template, talk, &options, "<s>S<u>U<a>A<u>U2<a>");
    options.enable_thinking = CHAT_OFF;
    EXPECT(reasoning_template, talk, &options, "<s>S<u>U<a>A<u>U2<a><think></think>");
    options.add_generation_prompt = false;
    static const struct chat_message later[] = {USER("U"),
            {.role = CHAT_STR("assistant"), .content = CHAT_STR("A"), .reasoning = CHAT_STR("R")}};
    EXPECT(reasoning_template, later, &options, "<u>U<a><think>R</think>A");
}

/* And this with what templates do that describe tools as TypeScript types: macros that call each
 * other and themselves. */
static const char types_template[] =
        "{%- macro type_of(p) -%}\n"
        "    {%- if p.type == 'array' -%}\n"
        "        {{- type_of(p['items']) ~ '[]' -}}\n"
        "    {%- elif p.type == 'object' -%}\n"
        "        {\n"
        "        {%- for name, q in p.properties.items() -%}\n"
        "            {{- name -}}\n"
        "            {%- if name not in (p.required or []) %}?{% endif -%}\n"
        "            {{- ': ' + type_of(q) }}\n"
        "            {%- if not loop.last %}, {% endif -%}\n"
        "        {%- endfor -%}\n"
        "        }\n"
        "    {%- elif p.enum -%}\n"
        "        {{- '\"' + p.enum|join('\" | \"') + '\"' -}}\n"
        "    {%- else -%}\n"
        "        {{- p.type|default('any')|replace('integer', 'number') -}}\n"
        "    {%- endif -%}\n"
        "{%- endmacro -%}\n"
        "{%- for t in tools|map(attribute='function') -%}\n"
        "    type {{ t.name }} = (_: {{ type_of(t.parameters) }}) => any;\n"
        "{%- endfor -%}\n";

static void test_macros_describe_tools(void **state) {
    (void)state;
    struct chat_options options = plain;
    options.tools_json = CHAT_STR(
            "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
            "\"object\","
            "\"properties\":{\"city\":{\"type\":\"string\",\"enum\":[\"a\",\"b\"]},\"days\":"
            "{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}},\"required\":[\"city\"]}}}]");
    EXPECT(types_template, question, &options,
            "type f = (_: {city: \"a\" | \"b\", days?: number[]}) => any;");
}

/* ---- families ---- */

/* All vocabularies of the families, one line each. */
static bool has_token(void *opaque, const char *text) {
    const char *const *tokens = opaque;
    for (; *tokens; tokens++)
        if (strcmp(*tokens, text) == 0) return true;
    return false;
}

static void expect_detected(const char *const *tokens, enum chat_family family, int line) {
    enum chat_family got = chat_family_detect(NULL, 0, has_token, (void *)(uintptr_t)tokens);
    if (got != family)
        fail_msg("line %d: expected %s, got %s", line, chat_family_name(family),
                chat_family_name(got));
}

#define DETECTED(family, ...)                                                                      \
    expect_detected((const char *const[]){__VA_ARGS__, NULL}, (family), __LINE__)

static void test_special_tokens_tell_the_family(void **state) {
    (void)state;
    DETECTED(CHAT_FAMILY_CHATML, "<|im_start|>", "<|im_end|>", "<think>");
    DETECTED(CHAT_FAMILY_NONE, "<|im_start|>", "<|im_end|>", "<|im_sep|>");
    DETECTED(CHAT_FAMILY_LLAMA3, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>");
    DETECTED(CHAT_FAMILY_GLM4, "[gMASK]", "<sop>", "<|assistant|>", "<|user|>");
    DETECTED(CHAT_FAMILY_GLM45, "[gMASK]", "<sop>", "<|assistant|>", "<arg_key>");
    DETECTED(CHAT_FAMILY_DEEPSEEK_V3, "<\uff5cUser\uff5c>",
            "<\uff5c"
            "Assistant\uff5c>");
    DETECTED(CHAT_FAMILY_GEMMA, "<start_of_turn>", "<end_of_turn>");
    DETECTED(CHAT_FAMILY_HARMONY, "<|start|>", "<|channel|>", "<|message|>", "<|end|>");
    DETECTED(CHAT_FAMILY_MISTRAL_V3, "[INST]", "[/INST]", "<0x0A>");
    DETECTED(CHAT_FAMILY_MISTRAL_V3_TEKKEN, "[INST]", "[/INST]");
    DETECTED(CHAT_FAMILY_MISTRAL_V7_TEKKEN, "[INST]", "[/INST]", "[SYSTEM_PROMPT]");
    DETECTED(CHAT_FAMILY_KIMI_K2, "<|im_middle|>", "<|im_assistant|>", "<|im_end|>");
    DETECTED(CHAT_FAMILY_GRANITE, "<|start_of_role|>", "<|end_of_role|>");
    DETECTED(CHAT_FAMILY_MINIMAX_M2, "]~b]", "[e~[");
    DETECTED(CHAT_FAMILY_PHI3, "<|assistant|>", "<|user|>", "<|end|>");
    DETECTED(CHAT_FAMILY_NONE, "<s>", "</s>");
    assert_int_equal(chat_family_detect(NULL, 0, NULL, NULL), CHAT_FAMILY_NONE);
}

static void test_marks_in_a_template_tell_the_family(void **state) {
    (void)state;
    static const struct {
        const char *source;
        enum chat_family family;
    } rows[] = {
            {"<|start|>assistant<|channel|>", CHAT_FAMILY_HARMONY},
            {"<|turn>model", CHAT_FAMILY_NONE},
            {"]~b]ai", CHAT_FAMILY_MINIMAX_M2},
            {"<|im_assistant|>x<|im_middle|><|im_end|>", CHAT_FAMILY_KIMI_K2},
            {"<|im_start|>", CHAT_FAMILY_CHATML},
            {"<|im_start|>user<|im_sep|>", CHAT_FAMILY_NONE},
            {"'[SYSTEM_PROMPT]' '[INST]'", CHAT_FAMILY_MISTRAL_V7_TEKKEN},
            {"'[SYSTEM_PROMPT] ' '[INST] '", CHAT_FAMILY_MISTRAL_V7},
            {"' [INST] ' + system_message", CHAT_FAMILY_MISTRAL_V1},
            {"'[INST] ' + m + ' [/INST]'", CHAT_FAMILY_MISTRAL_V1},
            {"\"[INST]\" + m", CHAT_FAMILY_MISTRAL_V3_TEKKEN},
            {"'[INST] ' + m + '[/INST]'", CHAT_FAMILY_MISTRAL_V3},
            {"[INST] <<SYS>>", CHAT_FAMILY_NONE},
            {"[gMASK]<sop> /nothink", CHAT_FAMILY_GLM45},
            {"[gMASK]<sop> <arg_key>", CHAT_FAMILY_GLM47},
            {"[gMASK]<sop>", CHAT_FAMILY_GLM4},
            {"<\uff5cUser\uff5c> <\uff5c"
             "Assistant\uff5c><think>\\n",
                    CHAT_FAMILY_DEEPSEEK_R1},
            {"<\uff5cUser\uff5c> <\uff5c"
             "Assistant\uff5c> if thinking",
                    CHAT_FAMILY_DEEPSEEK_V31},
            {"<\uff5cUser\uff5c> <\uff5c"
             "Assistant\uff5c>",
                    CHAT_FAMILY_DEEPSEEK_V3},
            {"<start_of_turn>", CHAT_FAMILY_GEMMA},
            {"<|start_header_id|><|end_header_id|>", CHAT_FAMILY_LLAMA3},
            {"<|start_of_role|>", CHAT_FAMILY_GRANITE},
            {"<|assistant|> <|end|>", CHAT_FAMILY_PHI3},
            {"### Instruction:", CHAT_FAMILY_NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum chat_family got =
                chat_family_detect(rows[i].source, strlen(rows[i].source), NULL, NULL);
        if (got != rows[i].family)
            fail_msg("<%s>: expected %s, got %s", rows[i].source, chat_family_name(rows[i].family),
                    chat_family_name(got));
    }
}

static void expect_form(
        enum chat_family family, enum chat_switch thinking, const char *wanted, int line) {
    struct buf out = {0};
    struct err err = ERR_INIT;
    struct chat_options options = plain;
    options.enable_thinking = thinking;
    if (chat_family_render(family, true, talk, ARRAY_LEN(talk), &options, &out, &err) < 0)
        fail_msg("line %d: %s", line, err.what);
    if (strcmp(out.bytes, wanted) != 0)
        fail_msg("line %d:\nexpected <%s>\n     got <%s>", line, wanted, out.bytes);
    buf_fini(&out);
}

#define FORM(family, thinking, wanted) expect_form((family), (thinking), (wanted), __LINE__)

static void test_chatml_and_its_relatives(void **state) {
    (void)state;
    FORM(CHAT_FAMILY_CHATML, CHAT_UNSET,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nR\n</think>\n\nA<|im_end|>\n"
            "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n");
    FORM(CHAT_FAMILY_CHATML, CHAT_OFF,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nR\n</think>\n\nA<|im_end|>\n"
            "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    FORM(CHAT_FAMILY_MINIMAX_M2, CHAT_UNSET,
            "]~!b[]~b]system\nS[e~[\n]~b]user\nU[e~[\n]~b]ai\nA[e~[\n]~b]user\nU2[e~[\n"
            "]~b]ai\n<think>\n");
}

static void test_llama3_and_glm(void **state) {
    (void)state;
    FORM(CHAT_FAMILY_LLAMA3, CHAT_UNSET,
            "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n<think>\nR\n</think>\n\nA<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
    FORM(CHAT_FAMILY_GLM45, CHAT_UNSET,
            "[gMASK]<sop><|system|>\nS<|user|>\nU<|assistant|>\n<think></think>\nA<|user|>\nU2"
            "<|assistant|>");
    FORM(CHAT_FAMILY_GLM45, CHAT_OFF,
            "[gMASK]<sop><|system|>\nS<|user|>\nU/nothink<|assistant|>\n<think></think>\nA"
            "<|user|>\nU2/nothink<|assistant|>\n<think></think>");
    FORM(CHAT_FAMILY_GLM47, CHAT_UNSET,
            "[gMASK]<sop><|system|>S<|user|>U<|assistant|></think>A<|user|>U2<|assistant|><think>");
    FORM(CHAT_FAMILY_GLM4, CHAT_UNSET,
            "[gMASK]<sop><|system|>\nS<|user|>\nU<|assistant|>\n<think>\nR\n</think>\n\nA"
            "<|user|>\nU2<|assistant|>");
}

#define DS_END                                                                                     \
    "<\uff5c"                                                                                      \
    "end\u2581of\u2581sentence\uff5c>"
#define DS_USER "<\uff5cUser\uff5c>"
#define DS_ASSISTANT                                                                               \
    "<\uff5c"                                                                                      \
    "Assistant\uff5c>"

static void test_deepseek(void **state) {
    (void)state;
    FORM(CHAT_FAMILY_DEEPSEEK_V3, CHAT_UNSET,
            "<s>S" DS_USER "U" DS_ASSISTANT "<think>\nR\n</think>\n\nA" DS_END DS_USER
            "U2" DS_ASSISTANT);
    FORM(CHAT_FAMILY_DEEPSEEK_R1, CHAT_UNSET,
            "<s>S" DS_USER "U" DS_ASSISTANT "A" DS_END DS_USER "U2" DS_ASSISTANT "<think>\n");
    FORM(CHAT_FAMILY_DEEPSEEK_V31, CHAT_UNSET,
            "<s>S" DS_USER "U" DS_ASSISTANT "</think>A" DS_END DS_USER "U2" DS_ASSISTANT
            "</think>");
    FORM(CHAT_FAMILY_DEEPSEEK_V31, CHAT_ON,
            "<s>S" DS_USER "U" DS_ASSISTANT "</think>A" DS_END DS_USER "U2" DS_ASSISTANT "<think>");
}

static void test_gemma_and_mistral_have_their_system_text_in_a_user_message(void **state) {
    (void)state;
    FORM(CHAT_FAMILY_GEMMA, CHAT_UNSET,
            "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\n"
            "<think>\nR\n</think>\n\nA<end_of_turn>\n<start_of_turn>user\nU2<end_of_turn>\n"
            "<start_of_turn>model\n");
    FORM(CHAT_FAMILY_MISTRAL_V1, CHAT_UNSET,
            "<s> [INST] U [/INST] <think>\nR\n</think>\n\nA</s> [INST] S\n\nU2 [/INST]");
    FORM(CHAT_FAMILY_MISTRAL_V3, CHAT_UNSET,
            "<s>[INST] U[/INST] <think>\nR\n</think>\n\nA</s>[INST] S\n\nU2[/INST]");
    FORM(CHAT_FAMILY_MISTRAL_V3_TEKKEN, CHAT_UNSET,
            "<s>[INST]U[/INST]<think>\nR\n</think>\n\nA</s>[INST]S\n\nU2[/INST]");
    FORM(CHAT_FAMILY_MISTRAL_V7, CHAT_UNSET,
            "<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] U[/INST] <think>\nR\n</think>\n\nA</s>"
            "[INST] U2[/INST]");
    FORM(CHAT_FAMILY_MISTRAL_V7_TEKKEN, CHAT_UNSET,
            "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]U[/INST]<think>\nR\n</think>\n\nA</s>"
            "[INST]U2[/INST]");
}

static void test_harmony_kimi_granite_and_phi(void **state) {
    (void)state;
    FORM(CHAT_FAMILY_HARMONY, CHAT_UNSET,
            "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
            "Knowledge cutoff: 2024-06\nCurrent date: 2025-07-31\n\nReasoning: medium\n\n"
            "# Valid channels: analysis, commentary, final. Channel must be included for every "
            "message.<|end|><|start|>developer<|message|># Instructions\n\nS\n\n<|end|>"
            "<|start|>user<|message|>U<|end|><|start|>assistant<|channel|>final<|message|>"
            "<think>\nR\n</think>\n\nA<|end|><|start|>user<|message|>U2<|end|><|start|>assistant");
    FORM(CHAT_FAMILY_KIMI_K2, CHAT_UNSET,
            "<|im_system|>system<|im_middle|>S<|im_end|><|im_user|>user<|im_middle|>U<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|><think>\nR\n</think>\n\nA<|im_end|>"
            "<|im_user|>user<|im_middle|>U2<|im_end|><|im_assistant|>assistant<|im_middle|>");
    FORM(CHAT_FAMILY_GRANITE, CHAT_UNSET,
            "<|start_of_role|>system<|end_of_role|>S<|end_of_text|>\n"
            "<|start_of_role|>user<|end_of_role|>U<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|><think>\nR\n</think>\n\nA<|end_of_text|>\n"
            "<|start_of_role|>user<|end_of_role|>U2<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|>");
    FORM(CHAT_FAMILY_PHI3, CHAT_UNSET,
            "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n<think>\nR\n</think>\n\nA"
            "<|end|>\n<|user|>\nU2<|end|>\n<|assistant|>\n");
}

/* ---- when the template cannot be used ---- */

static void test_a_family_stands_in_for_a_template_that_we_cannot_run(void **state) {
    (void)state;
    static const char wanted[] = "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n";
    EXPECT("{% include 'x' %}<|im_start|>", question, &plain, wanted);
    EXPECT("{{ '<|im_start|>'|frob }}", question, &plain, wanted);
    EXPECT("<|im_start|>{% broken", question, &plain, wanted);
    EXPECT_ERROR("\n{{ x|frob }}", question, &plain, ERR_UNSUPPORTED,
            "the chat template uses the filter 'frob' (line 2), which is not supported yet");
    EXPECT_ERROR("{{ '<|im_start|>'|frob }}", tool_talk, &plain, ERR_UNSUPPORTED,
            "a message with tools, in the built-in form 'chatml'");
}

static void test_a_family_stands_in_for_a_missing_template(void **state) {
    (void)state;
    static const char *const tokens[] = {"<|im_start|>", "<|im_end|>", "<think>", NULL};
    static const char *const other[] = {"<s>", NULL};
    struct chat_options options = plain;
    options.has_token = has_token;
    options.opaque = (void *)(uintptr_t)tokens;
    EXPECT(NULL, question, &options, "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n");
    options.enable_thinking = CHAT_OFF;
    EXPECT(NULL, question, &options,
            "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    options.opaque = (void *)(uintptr_t)other;
    EXPECT_ERROR(NULL, question, &options, ERR_UNSUPPORTED, "the model file has no chat template");
    EXPECT_ERROR(NULL, question, &plain, ERR_UNSUPPORTED, "the model file has no chat template");
}

static void test_a_fallback_that_is_not_quiet_is_logged(void **state) {
    (void)state;
    struct chat_options options = plain;
    options.quiet = false;
    log_set_level(LOG_LEVEL_NONE);
    EXPECT("{{ '<|im_start|>'|frob }}", question, &options,
            "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n");
    log_set_level(LOG_LEVEL_WARN);
}

static void test_limits_are_no_reason_for_a_fallback(void **state) {
    (void)state;
    EXPECT_ERROR("<|im_start|>{% for i in range(10**9) %}{% endfor %}", question, &plain, ERR_LIMIT,
            "a range of more than");
}

static void test_unknown_roles_are_refused_by_families(void **state) {
    (void)state;
    static const struct chat_message messages[] = {
            USER("U"), {.role = CHAT_STR("narrator"), .content = CHAT_STR("N")}};
    EXPECT_ERROR("{{ '<|im_start|>'|frob }}", messages, &plain, ERR_UNSUPPORTED,
            "the role 'narrator' of message 2");
}

static void test_a_prompt_tells_whether_it_opens_reasoning(void **state) {
    (void)state;
    static const char open[] = "<|im_start|>assistant\n<think>\n";
    static const char closed[] = "<|im_start|>assistant\n<think>\n\n</think>\n\n";
    assert_true(chat_opens_reasoning(open, sizeof open - 1));
    assert_false(chat_opens_reasoning(closed, sizeof closed - 1));
    assert_false(chat_opens_reasoning("", 0));
    assert_false(chat_opens_reasoning("think>", 6));
}

int main(void) {
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_the_files_template_renders_the_messages),
            cmocka_unit_test(test_templates_see_their_variables),
            cmocka_unit_test(test_a_bos_that_the_tokenizer_adds_is_cut_off),
            cmocka_unit_test(test_a_developer_is_the_system_unless_the_template_knows_better),
            cmocka_unit_test(test_a_refused_system_message_goes_into_the_first_user_message),
            cmocka_unit_test(test_templates_that_do_not_expect_none_get_no_tools_at_all),
            cmocka_unit_test(test_tool_calls_and_reasoning_reach_the_template),
            cmocka_unit_test(test_arguments_stay_text_for_templates_that_want_text),
            cmocka_unit_test(test_json_that_cannot_be_read_is_named),
            cmocka_unit_test(test_earlier_reasoning_is_dropped_as_the_template_says),
            cmocka_unit_test(test_macros_describe_tools),
            cmocka_unit_test(test_special_tokens_tell_the_family),
            cmocka_unit_test(test_marks_in_a_template_tell_the_family),
            cmocka_unit_test(test_chatml_and_its_relatives),
            cmocka_unit_test(test_llama3_and_glm),
            cmocka_unit_test(test_deepseek),
            cmocka_unit_test(test_gemma_and_mistral_have_their_system_text_in_a_user_message),
            cmocka_unit_test(test_harmony_kimi_granite_and_phi),
            cmocka_unit_test(test_a_family_stands_in_for_a_template_that_we_cannot_run),
            cmocka_unit_test(test_a_family_stands_in_for_a_missing_template),
            cmocka_unit_test(test_a_fallback_that_is_not_quiet_is_logged),
            cmocka_unit_test(test_limits_are_no_reason_for_a_fallback),
            cmocka_unit_test(test_unknown_roles_are_refused_by_families),
            cmocka_unit_test(test_a_prompt_tells_whether_it_opens_reasoning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
