/* opt_test.c - options: what is accepted, what is refused, and how it is said. */
#include "proto/base/opt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct values {
    bool flag;
    uint32_t count;
    uint64_t seed, size, span;
    float temperature;
    const char *name;
    struct opt_strs stops;
    struct opt table[10];
    const struct opt *tables[2];
};

static void setup(struct values *v) {
    *v = (struct values){.count = 7, .name = "default"};
    const struct opt table[] = {
            {"flag", 'x', OPT_FLAG, &v->flag, NULL, "a flag"},
            {"count", 'n', OPT_U32, &v->count, "N", "a count"},
            {"seed", 0, OPT_U64, &v->seed, "S", "a seed"},
            {"size", 0, OPT_SIZE, &v->size, "SIZE", "a size"},
            {"span", 0, OPT_TIME, &v->span, "TIME", "a time"},
            {"temp", 0, OPT_F32, &v->temperature, "T", "a number"},
            {"name", 0, OPT_STR, &v->name, "NAME", "a text"},
            {"stop", 0, OPT_STRS, &v->stops, "TEXT", "several texts"},
            OPT_END,
    };
    memcpy(v->table, table, sizeof table);
    v->tables[0] = v->table;
    v->tables[1] = NULL;
}

static int parse(struct values *v, struct opt_words *words, struct err *err, int argc,
        const char *const *argv) {
    setup(v);
    return opt_parse(v->tables, argc, (char **)argv, words, err);
}

#define PARSE(v, words, err, ...)                                                                  \
    parse(v, words, err, (int)(sizeof(const char *[]){"cmd", __VA_ARGS__} / sizeof(char *)),       \
            (const char *const[]){"cmd", __VA_ARGS__})

static void every_kind_is_parsed_in_every_form(void **state) {
    (void)state;
    struct values v;
    struct opt_words words;
    assert_int_equal(PARSE(&v, &words, NULL, "-x", "word", "--count=12", "--seed",
                             "18446744073709551615", "--size", "1.5G", "--span", "250ms", "--temp",
                             "-0.5", "--stop", "a", "--stop=b", "--", "-n"),
            0);
    assert_true(v.flag);
    assert_int_equal(v.count, 12);
    assert_true(v.seed == UINT64_MAX);
    assert_int_equal(v.size, 3ull << 29);
    assert_int_equal(v.span, 250000000);
    assert_true(v.temperature == -0.5f);
    assert_string_equal(v.name, "default");
    assert_int_equal(v.stops.n, 2);
    assert_string_equal(v.stops.values[1], "b");
    assert_int_equal(words.n, 2);
    assert_string_equal(words.words[1], "-n");
    assert_int_equal(PARSE(&v, &words, NULL, "-n9", "-"), 0);
    assert_int_equal(v.count, 9);
    assert_string_equal(words.words[0], "-"); /* standard input is a word */
}

static void sizes_and_times_have_units(void **state) {
    (void)state;
    uint64_t n;
    static const struct {
        const char *text;
        uint64_t value;
    } sizes[] = {
            {"512", 512}, {"4K", 4096}, {"3m", 3 << 20}, {"2GiB", 2ull << 30}, {"1T", 1ull << 40}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(opt_size(sizes[i].text, &n, NULL), 0);
        assert_true(n == sizes[i].value);
    }
    static const char *const wrong[] = {
            "", "K", "12Q", "1KK", "-1", "inf", "1e300", "0x10 ", "1 G"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (opt_size(wrong[i], &n, NULL) != ERR_USAGE)
            fail_msg("'%s' was taken as a size", wrong[i]);
    assert_int_equal(opt_time("2", &n, NULL), 0);
    assert_true(n == 2000000000u);
    assert_int_equal(opt_time("15us", &n, NULL), 0);
    assert_int_equal(n, 15000);
    assert_int_equal(opt_time("5min", &n, NULL), ERR_USAGE);
}

static void wrong_usage_names_the_option(void **state) {
    (void)state;
    static const struct {
        const char *words[2];
        const char *says;
    } wrong[] = {
            {{"--nonsense", NULL}, "--nonsense"}, {{"-z", NULL}, "-z"},
            {{"--count", NULL}, "needs a value"}, {{"--count", "x"}, "not a whole number"},
            {{"--count", "4294967296"}, "more than"}, {{"--count", "-1"}, "not a whole number"},
            {{"--flag=1", NULL}, "no value"}, {{"--temp", "warm"}, "not a number"},
            {{"--coun", "1"}, "--coun"}, /* no guessing of half names */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct values v;
        struct opt_words words;
        struct err err = ERR_INIT;
        const char *argv[3] = {"cmd", wrong[i].words[0], wrong[i].words[1]};
        int rc = parse(&v, &words, &err, argv[2] ? 3 : 2, argv);
        if (rc != ERR_USAGE || !strstr(err.what, wrong[i].says))
            fail_msg("%s: %d %s", argv[1], rc, err.what);
    }
}

static void ini_files_set_the_same_options(void **state) {
    (void)state;
    struct values v;
    struct err err = ERR_INIT;
    setup(&v);
    char text[] = "# a comment\n[section]\n count = 3 \nflag=yes\r\nname = two words\n\n; end";
    assert_int_equal(opt_parse_ini(v.tables, text, "x.ini", &err), 0);
    assert_int_equal(v.count, 3);
    assert_true(v.flag);
    assert_string_equal(v.name, "two words");

    static const char *const wrong[] = {"count", "count = x", "unknown = 1", "flag = maybe"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char line[64];
        snprintf(line, sizeof line, "\n%s\n", wrong[i]);
        err_reset(&err);
        assert_int_equal(opt_parse_ini(v.tables, line, "x.ini", &err), ERR_USAGE);
        assert_non_null(strstr(err.where, "x.ini, line 2"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_kind_is_parsed_in_every_form),
            cmocka_unit_test(sizes_and_times_have_units),
            cmocka_unit_test(wrong_usage_names_the_option),
            cmocka_unit_test(ini_files_set_the_same_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
