/* jinja_test.c - what templates print, feature by feature, and what they cannot do to us. */
#include "coordinator/text/jinja.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define NOW 1754000000 /* 2025-07-31 22:13:20 UTC */

static const char variables[] =
        "{\"s\": \" Hello W\u00f6rld \", \"n\": [5, 3, 4], \"i\": 7, \"t\": true, \"f\": 1.5,"
        " \"e\": \"\", \"none\": null, \"q\": \"it's \\\"q\\\"\", \"u\": "
        "\"a\u00e9\u4e2d\U0001f600b\","
        " \"d\": {\"b\": 1, \"a\": [1, 2, {\"x\": null}], \"items\": 7, \"C\": \"z\"},"
        " \"msgs\": [{\"role\": \"user\", \"content\": \"x\", \"n\": 2},"
        " {\"role\": \"assistant\", \"content\": \"y\"},"
        " {\"role\": \"user\", \"content\": \"z\", \"n\": 1}]}";

static int render(const char *source, size_t n, const struct jinja_limits *limits, struct buf *out,
        struct err *err) {
    struct jinja *jinja;
    struct jinja_value *values;
    assert_int_equal(jinja_new(limits, NOW, &jinja, err), 0);
    int rc = jinja_from_json(jinja, variables, sizeof variables - 1, &values, err);
    if (rc == 0) rc = jinja_set_all(jinja, values, err);
    if (rc == 0) rc = jinja_render(jinja, source, n, out, err);
    jinja_free(jinja);
    return rc;
}

static void expect_text(const char *source, const char *wanted, int line) {
    struct buf out = {0};
    struct err err = ERR_INIT;
    if (render(source, strlen(source), NULL, &out, &err) < 0)
        fail_msg("line %d: %s", line, err.what);
    if (strcmp(out.n_bytes ? out.bytes : "", wanted) != 0)
        fail_msg("line %d:\nexpected <%s>\n     got <%s>", line, wanted, out.bytes);
    buf_fini(&out);
}

static void expect_error(const char *source, int code, const char *words, int line) {
    struct buf out = {0};
    struct err err = ERR_INIT;
    assert_int_equal(buf_append_str(&out, "kept", NULL), 0);
    int rc = render(source, strlen(source), NULL, &out, &err);
    if (rc != code || err.code != code || !strstr(err.what, words))
        fail_msg("line %d: expected %d with <%s>, got %d <%s>", line, code, words, rc, err.what);
    if (strcmp(out.bytes, "kept") != 0) fail_msg("line %d: touched the output", line);
    buf_fini(&out);
}

#define TEXT(source, wanted) expect_text((source), (wanted), __LINE__)
#define BAD(source, words) expect_error((source), ERR_BAD_INPUT, (words), __LINE__)
#define LACKS(source, words) expect_error((source), ERR_UNSUPPORTED, (words), __LINE__)
#define OVER(source, words) expect_error((source), ERR_LIMIT, (words), __LINE__)

/* ---- text and tags ---- */

static void test_block_tags_vanish_with_their_lines(void **state) {
    (void)state;
    TEXT("  {% if t %}\n  a\n  {% endif %}\nb\n", "  a\nb");
    TEXT("{% for x in n %}\n\t{{ x }}\n{% endfor %}\n\n", "\t5\n\t3\n\t4\n");
    TEXT("  {{ i }}\n  {# c #}\n x {# c #} y\n", "  7\n x  y");
    TEXT("a  {% if t %} b {% endif %}  \nc", "a   b   \nc");
    TEXT("{{ 1 }}\n{{ 2 }}\n", "1\n2");
    TEXT("{% if t %}{# a\n b #}\n{# c #}  \n d{% endif %}", "  \n d");
}

static void test_signs_strip_or_keep_white_space(void **state) {
    (void)state;
    TEXT("a\n  {%- if t %}\n x\n{%- endif %}\n", "a x");
    TEXT("  {%+ if t %}a{% endif %}\n", "  a");
    TEXT("{% if t +%}\n a{% endif -%}  \n  b\n\n", "\n ab\n");
    TEXT("a {{- 1 -}} \n\n b", "a1b");
    TEXT("  {#- x -#}  \n  y", "y");
    TEXT("\u00a0\u2003{%- if t %}x{%- endif -%}\u3000y", "xy");
}

static void test_line_ends_become_line_feeds_and_the_last_one_goes(void **state) {
    (void)state;
    TEXT("x\r\n  {% if t %}\r\ny\r{% endif %}\r\nz\r\n", "x\ny\nz");
    TEXT("", "");
    TEXT("\n", "");
    TEXT("\n\n", "\n");
}

static void test_tags_inside_strings_and_brackets_end_nothing(void **state) {
    (void)state;
    TEXT("{{\"}}\"}}{{ \"{%\" }}{% if \"%}\" %}x{% endif %}", "}}{%x");
    TEXT("{{ {'a': {'b': 1}} }}{{ {'a':{}}}}", "{'a': {'b': 1}}{'a': {}}");
    TEXT("{ {{ 1 }} } {% if t %}%{% endif %} # }", "{ 1 } % # }");
    TEXT("a {%- raw %} {{ b }} {% endraw -%} c", "a {{ b }} c");
    TEXT("  {% raw %}\n {% if %}{% endraw %}\nb", "\n {% if %}b");
}

static void test_string_escapes_are_pythons(void **state) {
    (void)state;
    TEXT("{{ \"x\\ty\\x41\\u00e9\\101\\q\" }}{{ 'it\\'s' }}{{ 'a' 'b' \"c\" }}",
            "x\tyA\u00e9A\\qit'sabc");
    TEXT("{{ \"a\\\nb\" }}", "ab");
    TEXT("{{ '\\ud83d' }}", "\\ud83d");
}

/* ---- expressions ---- */

static void test_operators_bind_as_in_jinja(void **state) {
    (void)state;
    TEXT("{{ 1 + 2 * 3 ** 2 - -4 // 3 % 5 }} {{ 7/2 }} {{ -7 // 2 }} {{ -7 % 3 }}", "16 3.5 -4 2");
    TEXT("{{ 7.5 // 2 }} {{ 2**-1 }} {{ 2**10 }} {{ -2**2 }} {{ - 5 + 3 }} {{ -7.5 % 2 }}",
            "3.0 0.5 1024 4 -2 0.5");
    TEXT("{{ not 1 == 2 }} {{ not t and false or i }} {{ none or 'x' }} {{ t and i }}",
            "True 7 x 7");
    TEXT("{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 in [1] and 2 not in [1] }}", "True False True");
    TEXT("{{ 'a' ~ 'b' == 'ab' }} {{ 1 ~ 2 * 3 }} {{ 'a' + 'b' | upper }}", "True 16 aB");
    TEXT("{{ 'a' if t }}{{ 'a' if false }}{{ 'a' if false else 'b' if false else 'c' }}", "ac");
    TEXT("{{ -1 | abs }} {{ ('a' | upper) + 'b' }} {{ 'x' ~ 'y' | upper }}", "1 Ab xY");
}

static void test_values_print_as_in_python(void **state) {
    (void)state;
    TEXT("{{ d }}{{ (1,) }}{{ () }}{{ [] }}{{ none }}{{ t }}{{ f }}{{ undef }}",
            "{'b': 1, 'a': [1, 2, {'x': None}], 'items': 7, 'C': 'z'}(1,)()[]NoneTrue1.5");
    TEXT("{{ [q, 'a\"b', 'a\\n\\t\\\\', '\\x00\\x7f\\u00a0\u00e9'] }}",
            "['it\\'s \"q\"', 'a\"b', 'a\\n\\t\\\\', '\\x00\\x7f\\xa0\u00e9']");
    TEXT("{{ [1.0, 1e-7, 1e16, 1.5e300, 0.1, 123456789.123, 1e15, 100000.0, 0.0001, 0.00001] }}",
            "[1.0, 1e-07, 1e+16, 1.5e+300, 0.1, 123456789.123, 1000000000000000.0, 100000.0, "
            "0.0001, 1e-05]");
    TEXT("{{ 0.1 + 0.2 }} {{ 1/3 }} {{ 3.0 * 2 }} {{ true + true }}",
            "0.30000000000000004 0.3333333333333333 6.0 2");
}

static void test_subscripts_and_slices_count_characters(void **state) {
    (void)state;
    TEXT("{{ u|length }}{{ u[1] }}{{ u[-1] }}{{ u[1:3] }}{{ u[::-1] }}{{ u[9] }}",
            "5\u00e9b\u00e9\u4e2db\U0001f600\u4e2d\u00e9a");
    TEXT("{{ n[0] }}{{ n[-1] }}{{ n[1:] }}{{ n[:-1] }}{{ n[::-1] }}{{ n[5:] }}{{ n[2:0:-1] }}",
            "54[3, 4][5, 3][4, 3, 5][][4, 3]");
    TEXT("{{ d.b }}{{ d['b'] }}{{ d.a[2].x }}{{ d.zzz }}{{ d.a.0 }}{{ d.a[9] }}{{ none.x }}",
            "11None1");
}

static void test_comparisons_look_inside(void **state) {
    (void)state;
    TEXT("{{ 1 == 1.0 }}{{ true == 1 }}{{ [1] == [1.0] }}{{ [1] == (1,) }}{{ 'a' != 'b' }}",
            "TrueTrueTrueFalseTrue");
    TEXT("{{ {'a':1,'b':2} == {'b':2,'a':1} }}{{ undef == other }}{{ none == undef }}",
            "TrueTrueFalse");
    TEXT("{{ 'abc' < 'abd' }}{{ [1,2] < [1,3] }}{{ 'b' in d }}{{ 'l' in s }}{{ 'x' in undef }}",
            "TrueTrueTrueTrueFalse");
}

static void test_a_key_comes_before_a_method_unless_it_is_called(void **state) {
    (void)state;
    TEXT("{{ d.items }}{{ d['items'] }}{% for k, v in d.items() %}{{ k }}{% endfor %}",
            "77baitemsC");
}

/* ---- statements ---- */

static void test_the_loop_variable_knows_its_place(void **state) {
    (void)state;
    TEXT("{% for x in n %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
         "{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}"
         "{{ loop.cycle('a', 'b') }}{{ loop.depth }},{% endfor %}",
            "1032TrueFalse33a1,2121FalseFalse354b1,3210FalseTrue33a1,");
    TEXT("{% for x in n if x > 3 %}{{ x }}{{ loop.index }}{{ loop.last }}{% endfor %}",
            "51False42True");
}

static void test_loops_unpack_break_continue_and_have_an_else(void **state) {
    (void)state;
    TEXT("{% for a, (b, c) in [(1,(2,3)),[4,[5,6]]] %}{{ a+b+c }} {% endfor %}", "6 15 ");
    TEXT("{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}"
         "{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
            "0134");
    TEXT("{% for x in [] %}a{% else %}none{% endfor %}{% for x in undef %}a{% endfor %}", "none");
    TEXT("{% for k in d %}{{ k }} {% endfor %}{% for c in u %}{{ c }}.{% endfor %}",
            "b a items C a.\u00e9.\u4e2d.\U0001f600.b.");
    TEXT("{{ range(3)|list }}{{ range(1,4)|list }}{{ range(10,0,-3)|list }}{{ range(0)|list }}",
            "[0, 1, 2][1, 2, 3][10, 7, 4, 1][]");
}

static void test_set_stays_in_the_loop_but_namespaces_do_not(void **state) {
    (void)state;
    TEXT("{% set x = 1 %}{% for i in n %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
            "6 4 5 1");
    TEXT("{% set ns = namespace(c=0) %}{% for i in n %}{% set ns.c = ns.c + i %}{% endfor %}"
         "{{ ns.c }}",
            "12");
    TEXT("{% if t %}{% set x = 9 %}{% endif %}{{ x }}", "9");
    TEXT("{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}", "12(1, 2)");
    TEXT("{% with z = 5, y = 6 %}{{ z }}{{ y }}{% endwith %}{{ z is defined }}", "56False");
}

static void test_blocks_of_text_can_be_set_and_filtered(void **state) {
    (void)state;
    TEXT("{% set a %}hi {{ i }}{% endset %}[{{ a }}]", "[hi 7]");
    TEXT("{% set a | upper | replace('H','J') %}hi{% endset %}{{ a }}", "JI");
    TEXT("{% filter upper %}abc{{ t }}{% endfilter %}", "ABCTRUE");
    TEXT("{% generation %}a{% endgeneration %}{%- generation -%} x {%- endgeneration -%}", "ax");
}

static void test_macros_take_defaults_names_and_see_globals(void **state) {
    (void)state;
    TEXT("{% macro m(a, b=2, c=a) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}"
         "{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=5) }}{{ m(b=1, a=2) }}{{ m() }}",
            "<121><131><125><212><2>");
    TEXT("{% macro r(n) %}{{ n }}{% if n > 0 %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(5) }}",
            "543210");
    TEXT("{% macro g() %}{{ later }}{% endmacro %}{% set later = 'L' %}{% set x = g() %}{{ x|lower "
         "}}",
            "l");
    TEXT("{% for x in [1,2] %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "12");
}

/* ---- filters, tests, methods ---- */

static void test_json_is_spelled_as_by_python(void **state) {
    (void)state;
    TEXT("{{ d|tojson }}", "{\"b\": 1, \"a\": [1, 2, {\"x\": null}], \"items\": 7, \"C\": \"z\"}");
    TEXT("{{ {'a': [1, {}], 'b': []}|tojson(indent=2) }}",
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
    TEXT("{{ u|tojson }}{{ u|tojson(ensure_ascii=true) }}",
            "\"a\u00e9\u4e2d\U0001f600b\"\"a\\u00e9\\u4e2d\\ud83d\\ude00b\"");
    TEXT("{{ {'b':1,'a':2}|tojson(sort_keys=true) }}{{ {'b':1}|tojson(separators=(',',':')) }}",
            "{\"a\": 2, \"b\": 1}{\"b\":1}");
    TEXT("{{ \"\\b\\f\\x1f/<>&'\\\"\\\\\\n\"|tojson }}", "\"\\b\\f\\u001f/<>&'\\\"\\\\\\n\"");
    TEXT("{{ [1.0, 1e-7, 1.5, true, none]|tojson }}{{ {1:2, none:3}|tojson }}",
            "[1.0, 1e-07, 1.5, true, null]{\"1\": 2, \"null\": 3}");
    TEXT("{{ '{\"a\": [1, -2.5e1, \"\\\\u00e9\\\\ud83d\\\\ude00\"]}'|from_json }}",
            "{'a': [1, -25.0, '\u00e9\U0001f600']}");
}

static void test_text_filters(void **state) {
    (void)state;
    TEXT("{{ s|trim }}|{{ s|upper }}|{{ s|length }}|{{ s|title }}|{{ 'ab CD'|capitalize }}",
            "Hello W\u00f6rld| HELLO W\u00d6RLD |13| Hello W\u00f6rld |Ab cd");
    TEXT("{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent(2, "
         "blank=true) }}",
            "a\n    b\n\n    c|  a\n  b|a\n  \n  b");
    TEXT("{{ 'aaa'|replace('a','b',2) }}{{ 'abc'|replace('','-') }}{{ '<a>&\"'|e }}{{ '<b>'|safe "
         "}}",
            "bba-a-b-c-&lt;a&gt;&amp;&#34;<b>");
    TEXT("{{ '5'|int }} {{ 'x'|int }} {{ 'x'|int(3) }} {{ '3.7'|int }} {{ '2.5'|float }}"
         " {{ 5|string + 'a' }} {{ 2.567|round(2) }} {{ -5|abs }}",
            "5 0 3 3 2.5 5a 2.57 5");
    TEXT("{{ undef|default('x') }}{{ e|default('x') }}{{ e|default('y', true) }}{{ none|d('z') }}",
            "xyNone");
}

static void test_list_filters(void **state) {
    (void)state;
    TEXT("{{ n|first }}{{ n|last }}{{ n|min }}{{ n|max }}{{ n|sum }}{{ n|length }}{{ n|sort }}",
            "54351"
            "23[3, 4, 5]");
    TEXT("{{ n|join(', ') }}|{{ msgs|join('-', attribute='role') }}|{{ n|reverse|list }}",
            "5, 3, 4|user-assistant-user|[4, 3, 5]");
    TEXT("{{ msgs|map(attribute='n', default=0)|list }}{{ ['a']|map('upper')|first }}",
            "[2, 0, 1]A");
    TEXT("{{ msgs|selectattr('role','equalto','user')|map(attribute='content')|join }}"
         "{{ msgs|rejectattr('role','eq','user')|list|length }}{{ msgs|selectattr('n')|list|length "
         "}}",
            "xz12");
    TEXT("{{ [1,2,3]|select('odd')|list }}{{ [1,2]|reject('even')|list }}{{ none|select|list }}",
            "[1, 3][1][]");
    TEXT("{{ d|dictsort|map('first')|join }}{{ {'a':3}|items|list }}{{ undef|items|list }}",
            "abCitems[('a', 3)][]");
    TEXT("{{ ['b','A','c']|sort }}{{ ['b','A']|sort(case_sensitive=true) }}{{ [1,1,2]|unique|list "
         "}}",
            "['A', 'b', 'c']['A', 'b'][1, 2]");
}

static void test_tests(void **state) {
    (void)state;
    TEXT("{{ none is none }}{{ undef is defined }}{{ t is true }}{{ t is boolean }}{{ true is "
         "integer }}",
            "TrueFalseTrueTrueFalse");
    TEXT("{{ 's' is string }}{{ d is mapping }}{{ n is sequence }}{{ d is iterable }}{{ 3 is "
         "iterable }}",
            "TrueTrueTrueTrueFalse");
    TEXT("{{ 9 is divisibleby 3 }}{{ 3 is not even }}{{ none is not none }}{{ 3 is in [3] }}"
         "{{ 1 is defined and undef is defined or 'x' }}",
            "TrueTrueFalseTruex");
    TEXT("{{ strftime_now is defined }}{{ range is callable }}{{ 'x' is not string }}",
            "TrueTrueFalse");
}

static void test_string_methods(void **state) {
    (void)state;
    TEXT("{{ 'a,b,,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a,b,c'.split(',',1) }}{{ ''.split() "
         "}}",
            "['a', 'b', '', 'c']['a', 'b']['a', 'b,c'][]");
    TEXT("{{ 'a,b,c'.rsplit(',',1) }}{{ 'a\\nb\\r\\nc\\n'.splitlines() }}{{ '-'.join(['a','b']) }}",
            "['a,b', 'c']['a', 'b', 'c']a-b");
    TEXT("{{ 'xxabxx'.strip('x') }}{{ '\\n\\nab\\n'.lstrip('\\n') }}|{{ 'xx'.rstrip('x') }}|{{ "
         "s.strip() }}",
            "abab\n||Hello W\u00f6rld");
    TEXT("{{ 'abc'.startswith(('x','a')) }}{{ 'abc'.endswith('bc') }}{{ 'abc'.find('c') }}"
         "{{ 'aXbX'.count('X') }}{{ 'abc'.replace('b','') }}{{ 'x.py'.removesuffix('.py') }}",
            "TrueTrue22acx");
}

static void test_dict_and_list_methods(void **state) {
    (void)state;
    TEXT("{{ d.get('b') }}{{ d.get('q') }}{{ d.get('q', 5) }}{{ d.keys()|list }}{{ "
         "d.values()|first }}",
            "1None5['b', 'a', 'items', 'C']1");
    TEXT("{% set l = [1] %}{{ l.append(2) }}{{ l }}{{ l.pop() }}{{ l.pop(0) }}{{ l }}",
            "None[1, 2]21[]");
    TEXT("{% set e = {'a':1} %}{% set _ = e.update({'b':2}) %}{{ e }}{{ e.pop('a') }}{{ e }}",
            "{'a': 1, 'b': 2}1{'b': 2}");
    TEXT("{{ dict(a=1, b=2) }}{{ dict({'x':1}, y=2) }}{{ namespace(a=1).a }}",
            "{'a': 1, 'b': 2}{'x': 1, 'y': 2}1");
}

static void test_the_time_is_the_callers(void **state) {
    (void)state;
    TEXT("{{ strftime_now('%Y-%m-%d %H:%M %d %b %B') }}", "2025-07-31 22:13 31 Jul July");
}

/* ---- what goes wrong ---- */

static void test_what_is_not_supported_is_named_with_its_line(void **state) {
    (void)state;
    LACKS("\n\n{{ 3|frob }}",
            "the chat template uses the filter 'frob' (line 3), which is not supported yet");
    LACKS("{{ 3 is frob }}", "the test 'frob' (line 1)");
    LACKS("{{ frob(1) }}", "the function 'frob' (line 1)");
    LACKS("{{ 'a'.center(3) }}", "the method 'center' (line 1)");
    LACKS("a\n{% include 'x' %}", "the statement 'include' (line 2)");
    LACKS("{% for x in n recursive %}{% endfor %}", "'recursive' (line 1)");
    LACKS("{{ n|join(',', frob=1) }}", "in 'join' the argument 'frob'");
    LACKS("{{ n|first(1) }}", "more than 0 arguments in 'first'");
    LACKS("{{ '%s' % 1 }}", "'%'");
    LACKS("{{ strftime_now('%9999999Y') }}", "the time format '%9999999Y'");
    TEXT("{% if false %}{{ 3|frob }}{{ frob() }}{% endif %}ok", "ok");
}

static void test_broken_templates_say_where(void **state) {
    (void)state;
    LACKS("{{", "ends inside of a tag (line 1)");
    LACKS("a\n{% if t %}", "endif expected instead of 'the end' (line 2)");
    LACKS("{% endif %}", "a statement expected instead of 'endif'");
    LACKS("{{ 1 + }}", "an expression expected instead of '}}'");
    LACKS("\n{{ \"abc }}", "a string without an end (line 2)");
    LACKS("{{ a b }}", "'}}' expected instead of 'b'");
    LACKS("{{ a ? b }}", "'?'");
    LACKS("{% for x n %}{% endfor %}", "in expected instead of 'n'");
    LACKS("x{# a", "a comment without an end");
    LACKS("{{ 99999999999999999999 }}", "the number 99999999999999999999");
}

static void test_mistakes_at_run_time_are_errors(void **state) {
    (void)state;
    BAD("\n{{ undef.x }}", "needs 'undef', which is undefined (line 2)");
    BAD("{{ d.zzz.y }}", "needs 'zzz'");
    BAD("{{ n[7].x }}", "needs 'element 7'");
    BAD("{{ undef + 1 }}", "needs 'undef'");
    BAD("{{ 'a' + 1 }}", "no '+' for a text and a number");
    BAD("{{ 1 < 'a' }}", "compares a number with a text");
    BAD("{{ none|length }}", "the length of a none value");
    BAD("{{ none.foo() }}", "calls 'foo' of a none value");
    BAD("{{ 1/0 }}", "divides by zero");
    BAD("{{ 7 % 0 }}", "divides by zero");
    BAD("{% for x in 3 %}{% endfor %}", "walks through a number");
    BAD("{% for a, b in [(1,2,3)] %}{% endfor %}", "unpacks 3 values into 2 names");
    BAD("{% set d.x = 1 %}", "'d', which is no namespace");
    BAD("{{ {[1]: 2} }}", "a list as the key of a dict");
    BAD("{{ undef|tojson }}", "needs 'undef'");
    BAD("{{ ''.split('') }}", "empty separator");
    BAD("{% macro m(a) %}{% endmacro %}{{ m(1,2) }}", "calls 'm' with 2 arguments, it takes 1");
    BAD("{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "calls 'm' with 'b'");
    BAD("{% macro m() %}{% break %}{% endmacro %}{{ m() }}", "leaves a loop outside of loops");
    BAD("{{ '[1,'|from_json }}", "a value expected at byte 3");
}

static void test_an_exception_of_the_template_is_told_as_such(void **state) {
    (void)state;
    struct jinja *jinja;
    struct buf out = {0};
    struct err err = ERR_INIT;
    static const char source[] = "a\n{{ raise_exception('only ' ~ 3 ~ ' roles') }}";
    assert_int_equal(jinja_new(NULL, NOW, &jinja, &err), 0);
    assert_int_equal(jinja_render(jinja, source, sizeof source - 1, &out, &err), ERR_BAD_INPUT);
    assert_string_equal(
            err.what, "the chat template refuses these messages: only 3 roles (line 2)");
    assert_true(jinja_raised(jinja));
    jinja_free(jinja);
    BAD("{{ undef.x }}", "undefined");
}

/* ---- hostile templates ---- */

/* head, n times part, tail */
static void expect_over(const char *head, const char *part, size_t n, const char *tail, int line) {
    struct buf source = {0}, out = {0};
    struct err err = ERR_INIT;
    assert_int_equal(buf_append_str(&source, head, &err), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(buf_append_str(&source, part, &err), 0);
    assert_int_equal(buf_append_str(&source, tail, &err), 0);
    int rc = render(source.bytes, source.n_bytes, NULL, &out, &err);
    if (rc != ERR_LIMIT) fail_msg("line %d: expected ERR_LIMIT, got %d <%s>", line, rc, err.what);
    buf_fini(&source);
    buf_fini(&out);
}

static void test_deep_nesting_is_refused(void **state) {
    (void)state;
    expect_over("{{ ", "(", 100000, "1", __LINE__);
    expect_over("{{ ", "[", 100000, "", __LINE__);
    expect_over("{{ ", "not ", 100000, "1 }}", __LINE__);
    expect_over("{{ ", "-", 100000, "1 }}", __LINE__);
    expect_over("{{ ", "1 + ", 100000, "1 }}", __LINE__);
    expect_over("{{ a", ".b", 100000, " }}", __LINE__);
    expect_over("{{ 1", "|abs", 100000, " }}", __LINE__);
    expect_over("{{ ", "1 if 1 else ", 50000, "1 }}", __LINE__);
    expect_over("", "{% if 1 %}", 50000, "", __LINE__);
    expect_over("", "{% for x in [1] %}", 50000, "", __LINE__);
    expect_over("", "{% set x %}", 50000, "", __LINE__);
    expect_over("{% set ", "(", 50000, "", __LINE__);
    OVER("{{ ('[' * 100000)|from_json }}", "deeper than 400 levels");
}

static void test_macros_that_call_themselves_for_ever_are_stopped(void **state) {
    (void)state;
    OVER("{% macro r() %}{{ r() }}{% endmacro %}{{ r() }}", "deeper than 400 levels");
    OVER("{% macro r() %}{{ [1]|map('default', r())|join(r()) }}{% endmacro %}{{ r() }}", "deeper");
    OVER("{% macro a(n) %}{% if n %}{{ a(n-1) }}{{ a(n-1) }}{% endif %}{% endmacro %}{{ a(30) }}",
            "");
}

static void test_long_loops_are_stopped(void **state) {
    (void)state;
    OVER("{% for i in range(10**9) %}x{% endfor %}", "a range of more than 100000 numbers");
    OVER("{% set r = range(100000) %}{% for i in r %}{% for j in r %}{% set x = i %}{% endfor %}"
         "{% endfor %}",
            "does not end within 20000000 steps");
    OVER("{% for i in range(100000) %}{{ 'b' in ('a' * 10000000) }}{% endfor %}", "");
    OVER("{% set x = '\u00e9' * 1000000 %}{% for i in range(100000) %}{% set y = x[-1] %}{% endfor "
         "%}",
            "steps");
    OVER("{{ range(100000)|unique|list }}", "steps");
    TEXT("{% set l = [1] %}{% for x in l %}{% set _ = l.append(1) %}{% endfor %}{{ l|length }}",
            "2");
}

static void test_large_texts_and_lists_are_stopped(void **state) {
    (void)state;
    OVER("{{ 'a' * 10**12 }}", "repeats");
    OVER("{{ ([1] * 10**7) * 100 }}", "repeats");
    OVER("{% set ns = namespace(x='a') %}{% for i in range(1000) %}{% set ns.x = ns.x + ns.x %}"
         "{% endfor %}",
            "a text of more than 16384 KiB");
    OVER("{% set ns = namespace(x=[1]) %}{% for i in range(1000) %}{% set ns.x = ns.x + ns.x %}"
         "{% endfor %}",
            "more than 256 MiB of memory");
    OVER("{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}", "16384 KiB");
    OVER("{{ ('a' * 100000)|replace('', 'b' * 100000) }}", "16384 KiB");
    OVER("{{ range(100000)|join('b' * 100000) }}", "16384 KiB");
    OVER("{{ range(100000)|list|tojson(indent='z' * 100000) }}", "16384 KiB");
    OVER("{{ 2 ** 100000 }}{{ 1 }}", "a number too large");
    OVER("{{ (-9223372036854775807 - 1) // -1 }}", "a number too large");
    TEXT("{{ (-1) ** 9223372036854775807 }}{{ (-9223372036854775807 - 1) % -1 }}", "-10");
}

static void test_values_inside_themselves_are_refused(void **state) {
    (void)state;
    OVER("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", "deeper");
    OVER("{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}", "deeper");
    OVER("{% set l = [] %}{% set _ = l.append(l) %}{% set m = [] %}{% set _ = m.append(m) %}"
         "{{ l == m }}",
            "deeper");
    OVER("{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
         "{% endfor %}{{ ns.x }}",
            "16384 KiB");
}

static void test_limits_can_be_set(void **state) {
    (void)state;
    static const char source[] = "{% for i in range(1000) %}{{ 'x' * 10 }}{% endfor %}";
    const struct jinja_limits tight[] = {{.template_bytes = 10}, {.memory_bytes = 65536},
            {.output_bytes = 9999}, {.steps = 2000}, {.depth = 3}};
    for (size_t i = 0; i < sizeof tight / sizeof tight[0]; i++) {
        struct buf out = {0};
        struct err err = ERR_INIT;
        int rc = render(source, sizeof source - 1, &tight[i], &out, &err);
        if (rc != ERR_LIMIT) fail_msg("limit %zu: got %d <%s>", i, rc, err.what);
        buf_fini(&out);
    }
}

static void test_bytes_that_are_no_text_do_no_harm(void **state) {
    (void)state;
    TEXT("{{ '\xff\xc3'|length }}{{ '\xff\xc3\xa9x'[1:] }}{{ '\xe4\xb8'.strip() }}",
            "2\u00e9x\xe4\xb8");
    struct buf out = {0};
    struct err err = ERR_INIT;
    static const char zeros[] = "a\0b{{ 'c\0d'|length }}";
    assert_int_equal(render(zeros, sizeof zeros - 1, NULL, &out, &err), 0);
    assert_int_equal(out.n_bytes, 4);
    assert_memory_equal(out.bytes, "a\0b3", 4);
    buf_fini(&out);
}

static void test_values_can_be_built_by_hand(void **state) {
    (void)state;
    struct jinja *jinja;
    struct buf out = {0};
    struct err err = ERR_INIT;
    assert_int_equal(jinja_new(NULL, NOW, &jinja, &err), 0);
    struct jinja_value *list = jinja_list(jinja), *dict = jinja_dict(jinja);
    jinja_put(jinja, dict, "k", jinja_int(jinja, 1));
    jinja_put(jinja, dict, "k", jinja_string(jinja, "v", 1));
    jinja_push(jinja, list, dict);
    jinja_push(jinja, list, jinja_none(jinja));
    jinja_push(jinja, NULL, NULL);
    jinja_set(jinja, "x", list);
    struct jinja_value *bad = NULL;
    assert_int_equal(jinja_from_json(jinja, "{\"a\": tru}", 10, &bad, &err), ERR_BAD_INPUT);
    assert_int_equal(jinja_set_all(jinja, list, NULL), ERR_BAD_INPUT);
    assert_int_equal(jinja_render(jinja, "{{ x }}", 7, &out, NULL), 0);
    assert_string_equal(out.bytes, "[{'k': 'v'}, None]");
    buf_fini(&out);
    jinja_free(jinja);
    jinja_free(NULL);
}

int main(void) {
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_block_tags_vanish_with_their_lines),
            cmocka_unit_test(test_signs_strip_or_keep_white_space),
            cmocka_unit_test(test_line_ends_become_line_feeds_and_the_last_one_goes),
            cmocka_unit_test(test_tags_inside_strings_and_brackets_end_nothing),
            cmocka_unit_test(test_string_escapes_are_pythons),
            cmocka_unit_test(test_operators_bind_as_in_jinja),
            cmocka_unit_test(test_values_print_as_in_python),
            cmocka_unit_test(test_subscripts_and_slices_count_characters),
            cmocka_unit_test(test_comparisons_look_inside),
            cmocka_unit_test(test_a_key_comes_before_a_method_unless_it_is_called),
            cmocka_unit_test(test_the_loop_variable_knows_its_place),
            cmocka_unit_test(test_loops_unpack_break_continue_and_have_an_else),
            cmocka_unit_test(test_set_stays_in_the_loop_but_namespaces_do_not),
            cmocka_unit_test(test_blocks_of_text_can_be_set_and_filtered),
            cmocka_unit_test(test_macros_take_defaults_names_and_see_globals),
            cmocka_unit_test(test_json_is_spelled_as_by_python),
            cmocka_unit_test(test_text_filters),
            cmocka_unit_test(test_list_filters),
            cmocka_unit_test(test_tests),
            cmocka_unit_test(test_string_methods),
            cmocka_unit_test(test_dict_and_list_methods),
            cmocka_unit_test(test_the_time_is_the_callers),
            cmocka_unit_test(test_what_is_not_supported_is_named_with_its_line),
            cmocka_unit_test(test_broken_templates_say_where),
            cmocka_unit_test(test_mistakes_at_run_time_are_errors),
            cmocka_unit_test(test_an_exception_of_the_template_is_told_as_such),
            cmocka_unit_test(test_deep_nesting_is_refused),
            cmocka_unit_test(test_macros_that_call_themselves_for_ever_are_stopped),
            cmocka_unit_test(test_long_loops_are_stopped),
            cmocka_unit_test(test_large_texts_and_lists_are_stopped),
            cmocka_unit_test(test_values_inside_themselves_are_refused),
            cmocka_unit_test(test_limits_can_be_set),
            cmocka_unit_test(test_bytes_that_are_no_text_do_no_harm),
            cmocka_unit_test(test_values_can_be_built_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
