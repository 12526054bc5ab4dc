/* tok_pre_table.c - the pre-tokenizers by name: regular expressions as the models were trained
 * with, in PCRE2's spelling (UTF and UCP on).
 * Owns: constant tables. Does not: run them (tok_pre.c). Runs on: any thread.
 *
 * Three traps are avoided by spelling: \s would match U+180E, hence explicit white space; (?i:'s)
 * would match U+017F, hence both cases; \p{Han} would mean script extensions, hence \p{sc:Han}. */
#include "coordinator/text/tok_pre.h"

#include <string.h>

/* White space without CR and LF, all white space, and the classes \s and \S. */
#define WS_INLINE "\\x{9}\\x{b}\\x{c}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"            \
                  "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WS WS_INLINE "\\r\\n"
#define S "[" WS "]"
#define NS "[^" WS "]"

#define CONTRACTION "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define SPACES_TAIL S "+(?!" NS ")|" S "+"
#define LINES_AND_SPACES S "*[\\r\\n]+|" SPACES_TAIL
#define SYMBOLS " ?[^" WS "\\p{L}\\p{N}]+"

#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|" SYMBOLS "|" SPACES_TAIL

#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define LLAMA3_HEAD CONTRACTION "|" WORD "|\\p{N}{1,3}|" SYMBOLS "[\\r\\n]*|"
#define QWEN2 CONTRACTION "|" WORD "|\\p{N}|" SYMBOLS "[\\r\\n]*|" LINES_AND_SPACES

/* Words of one case pattern: Upper* lower+ or Upper+ lower*; what has no case counts as both. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_WORDS(upper, lower, suffix)                                                          \
    "[^\\r\\n\\p{L}\\p{N}]?" upper "*" lower "+" suffix                                            \
    "|[^\\r\\n\\p{L}\\p{N}]?" upper "+" lower "*" suffix "|"
#define CASED_TAIL SYMBOLS "[\\r\\n/]*|" LINES_AND_SPACES
#define O200K CASED_WORDS(UPPER, LOWER, CONTRACTION "?") "\\p{N}{1,3}|" CASED_TAIL

#define NO_LETTER "\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}"
#define KIMI                                                                                       \
    "\\p{sc:Han}+|"                                                                                \
    CASED_WORDS("[^\\p{Ll}" NO_LETTER "]", "[^\\p{Lu}\\p{Lt}" NO_LETTER "]", CONTRACTION "?")      \
    "\\p{N}{1,3}|" SYMBOLS "[\\r\\n]*|" LINES_AND_SPACES

#define DSV3_WORDS                                                                                 \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"                                        \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES_AND_SPACES

#define DSLLM_LETTERS                                                                              \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"                 \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"         \
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"                  \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"                       \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"                 \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                 \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}"                 \
    "\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}"         \
    "\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}"        \
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"                  \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}"        \
    "\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"         \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                  \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"                 \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"               \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"         \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
#define DS_CJK "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"

/* The white space that ends a piece; the look-behind keeps long inner runs linear. */
#define SPACES_AT_END "(?<!" S ")" S "++$"

static const struct pre_step gpt2_steps[] = {{GPT2, 0}, {0}};
static const struct pre_step llama3_steps[] = {{LLAMA3_HEAD LINES_AND_SPACES, 0}, {0}};
static const struct pre_step qwen2_steps[] = {{QWEN2, 0}, {0}};
static const struct pre_step qwen35_steps[] = {
    {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS "\\p{L}\\p{M}\\p{N}]+"
            "[\\r\\n]*|" LINES_AND_SPACES, 0}, {0}};
static const struct pre_step o200k_steps[] = {{O200K, 0}, {0}};
static const struct pre_step tekken_steps[] = {
    {CASED_WORDS(UPPER, LOWER, "") "\\p{N}|" CASED_TAIL, 0}, {0}};
static const struct pre_step kimi_steps[] = {{KIMI, 0}, {0}};
static const struct pre_step dsv3_steps[] = {
    {"\\p{N}{1,3}", 0},
    {"[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+", 0},
    {DSV3_WORDS, 0}, {0}};
static const struct pre_step dsllm_steps[] = {
    {"[\\r\\n]", 0},
    {S "?[" DSLLM_LETTERS "]+", 0},
    {S "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+", 0},
    {SPACES_AT_END, 0}, {DS_CJK, 0}, {"\\p{N}+", 0}, {0}};
static const struct pre_step dscoder_steps[] = {
    {"[\\r\\n]", 0}, {S "?\\p{L}+", 0}, {S "?\\p{P}+", 0}, {DS_CJK, 0}, {"\\p{N}", 0}, {0}};
static const struct pre_step digit1_steps[] = {{"\\p{N}", 0}, {GPT2, 0}, {0}};
static const struct pre_step falcon_steps[] = {
    {"[\\p{P}\\$\\+<=>\\^~\\|`]+", 0}, {GPT2, 0}, {"[0-9][0-9][0-9]", 0}, {0}};
static const struct pre_step default_steps[] = {
    {"[\\p{P}\\$\\+<=>\\^~\\|]+", 0}, {GPT2, 0}, {"\\p{N}+", 0}, {"[0-9][0-9][0-9]", 0}, {0}};
static const struct pre_step gemma4_steps[] = {{"[^\\n]+|[\\n]+", 0}, {0}};

/* White space in powers of two. A run of white space without a line end is looked through for one
 * only once: later starts inside the run (after inline white space) cannot find one either. */
static const struct pre_step jais2_steps[] = {
    {LLAMA3_HEAD "(?<![" WS_INLINE "])" S "*[\\r\\n]+|" S "{512}(?!" NS ")|" S "{256}(?!" NS ")|"
            S "{128}(?!" NS ")|" S "{64}(?!" NS ")|" S "{32}(?!" NS ")|" S "{16}(?!" NS ")|"
            S "{8}(?!" NS ")|" S "{4}(?!" NS ")|" S "{1,2}(?!" NS ")|" S "{1}", 0}, {0}};
static const struct pre_step seed_steps[] = {
    {CONTRACTION "|" WORD "|\\p{N}|" SYMBOLS "|" LINES_AND_SPACES, 0}, {0}};
static const struct pre_step bailing_steps[] = {
    {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" WORD "|\\p{N}|" SYMBOLS "[\\r\\n]*|"
            S "*[\\r\\n]|" SPACES_TAIL, 0}, {0}};

/* Words joined by single spaces are one piece. Possessive loops instead of the nested groups of
 * the definition: the same matches, without a stack frame for each letter. */
static const struct pre_step exaone_moe_steps[] = {
    {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}\\p{M}*+(?: ?\\p{L}\\p{M}*+)*+|\\p{N}|" SYMBOLS
            "[\\r\\n/]?|" S "*[\\r\\n]|" SPACES_TAIL, 0}, {0}};
static const struct pre_step superbpe_steps[] = {
    {"\\p{N}+", 0}, {"\\d+", PRE_CUT_THREES_OPEN}, {0}};
static const struct pre_step tiny_aya_steps[] = {
    {"(?<!\\d)\\d++\\b", PRE_CUT_THREES}, {O200K, 0}, {0}};
static const struct pre_step afmoe_steps[] = {
    {"\\d+", PRE_CUT_THREES},
    {"[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{f900}-\\x{faff}\\x{3040}-\\x{30ff}"
            "\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{eff}\\x{1780}-\\x{17ff}"
            "\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}"
            "\\x{1100}-\\x{11ff}]+", 0},
    {DSV3_WORDS, 0}, {0}};
static const struct pre_step youtu_steps[] = {
    {"[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+"
            "|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}\\x{ff1a}\\x{ff1b}"
            "\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+"
            "|[\\x{3105}-\\x{312f}]+|[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+", 0},
    {CASED_WORDS(UPPER, LOWER, CONTRACTION "?") "\\p{N}|" CASED_TAIL, 0}, {0}};

/* The brackets and the bar are members of the class: so the models were trained. */
#define BLOOM " ?[^(" WS "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
static const struct pre_step bloom_steps[] = {{BLOOM, 0}, {0}};
static const struct pre_step viking_steps[] = {{BLOOM, 0}, {"\\p{N}", 0}, {0}};
static const struct pre_step chameleon_steps[] = {
    {"<sentinel:[0-9]+>", 0}, {"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", 0}, {"([\\t\\n]|    |  )", 0},
    {"\\p{N}", 0}, {"[\\p{P}!-/:-@\\[-`{-~]", 0}, {GPT2, 0}, {0}};

#define LLAMA3_TRAITS (PRE_ADD_BOS | PRE_WHOLE_WORDS)

static const struct pre_entry entries[] = {
    {"default", default_steps, 0},
    {"llama-bpe", llama3_steps, LLAMA3_TRAITS},
    {"llama3", llama3_steps, LLAMA3_TRAITS},
    {"llama-v3", llama3_steps, LLAMA3_TRAITS},
    {"falcon3", llama3_steps, LLAMA3_TRAITS},
    {"falcon-h1", llama3_steps, LLAMA3_TRAITS},
    {"pixtral", llama3_steps, LLAMA3_TRAITS},
    {"midm-2.0", llama3_steps, LLAMA3_TRAITS},
    {"lfm2", llama3_steps, LLAMA3_TRAITS},
    {"jina-v5-nano", llama3_steps, LLAMA3_TRAITS},
    {"dbrx", llama3_steps, 0},
    {"smaug-bpe", llama3_steps, 0},
    {"glm4", llama3_steps, 0},
    {"chatglm-bpe", llama3_steps, 0},
    {"jais-2", jais2_steps, 0},
    {"qwen2", qwen2_steps, 0},
    {"deepseek-r1-qwen", qwen2_steps, 0},
    {"kormo", qwen2_steps, 0},
    {"f2llmv2", qwen2_steps, 0},
    {"hunyuan", qwen2_steps, 0},
    {"solar-open", qwen2_steps, 0},
    {"grok-2", qwen2_steps, 0},
    {"openpangu", qwen2_steps, 0},
    {"stablelm2", qwen2_steps, 0},
    {"megrez", qwen2_steps, 0},
    {"qwen35", qwen35_steps, 0},
    {"deepseek-llm", dsllm_steps, 0},
    {"deepseek-coder", dscoder_steps, 0},
    {"deepseek-v3", dsv3_steps, 0},
    {"hunyuan-dense", dsv3_steps, 0},
    {"joyai-llm", dsv3_steps, 0},
    {"hy_v4", dsv3_steps, 0},
    {"kimi-k2", kimi_steps, 0},
    {"gpt-4o", o200k_steps, 0},
    {"llama4", o200k_steps, 0},
    {"kanana2", o200k_steps, 0},
    {"minimax-m2", o200k_steps, 0},
    {"talkie", o200k_steps, 0},
    {"tekken", tekken_steps, LLAMA3_TRAITS},
    {"gpt-2", gpt2_steps, 0},
    {"phi-2", gpt2_steps, 0},
    {"jina-es", gpt2_steps, 0},
    {"jina-de", gpt2_steps, 0},
    {"jina-v2-es", gpt2_steps, PRE_LSTRIP_MASK},
    {"jina-v2-de", gpt2_steps, PRE_LSTRIP_MASK},
    {"gigachat", gpt2_steps, 0},
    {"a.x-4.0", gpt2_steps, 0},
    {"mellum", gpt2_steps, 0},
    {"modern-bert", gpt2_steps, 0},
    {"mpt", gpt2_steps, 0},
    {"olmo", gpt2_steps, 0},
    {"jais", gpt2_steps, 0},
    {"exaone4", gpt2_steps, 0},
    {"trillion", gpt2_steps, 0},
    {"granite-docling", gpt2_steps, 0},
    {"jina-v1-en", gpt2_steps, 0},
    {"jina-v2-code", gpt2_steps, PRE_LSTRIP_MASK},
    {"roberta-bpe", gpt2_steps, 0},
    {"smollm", digit1_steps, 0},
    {"command-r", digit1_steps, 0},
    {"cohere2_moe", digit1_steps, 0},
    {"starcoder", digit1_steps, 0},
    {"refact", digit1_steps, 0},
    {"codeshell", digit1_steps, 0},
    {"exaone", digit1_steps, 0},
    {"minerva-7b", digit1_steps, 0},
    {"mellum2", digit1_steps, 0},
    {"falcon", falcon_steps, 0},
    {"gemma4", gemma4_steps, PRE_ADD_BOS | PRE_RAW},
    {"granite-embed-multi-311m", gemma4_steps, PRE_ADD_BOS | PRE_RAW},
    {"sarvam-moe", gemma4_steps, PRE_ADD_BOS | PRE_RAW},
    {"seed-coder", seed_steps, 0},
    {"bailingmoe", bailing_steps, 0},
    {"bailingmoe2", bailing_steps, 0},
    {"llada-moe", bailing_steps, 0},
    {"exaone-moe", exaone_moe_steps, 0},
    {"superbpe", superbpe_steps, 0},
    {"tiny_aya", tiny_aya_steps, 0},
    {"cohere2moe", tiny_aya_steps, 0},
    {"afmoe", afmoe_steps, 0},
    {"youtu", youtu_steps, PRE_WHOLE_WORDS},
    {"chameleon", chameleon_steps, PRE_ADD_BOS},
    {"bloom", bloom_steps, 0},
    {"poro-chat", bloom_steps, 0},
    {"gpt3-finnish", bloom_steps, 0},
    {"viking", viking_steps, 0},
};

const struct pre_entry *pre_find(const char *name, size_t n) {
    if (n == 0) return &entries[0];
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        if (strlen(entries[i].name) == n && memcmp(entries[i].name, name, n) == 0)
            return &entries[i];
    return NULL;
}
