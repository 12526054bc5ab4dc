/* opt.c - command-line options from tables.
 * Owns: nothing. Does not: know any command. Runs on: the main thread. */
#include "proto/base/opt.h"

#include "proto/base/checked.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int opt_u64(const char *text, uint64_t max, uint64_t *out, struct err *err) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end)
        return err_set(err, ERR_USAGE, "'%s' is not a whole number", text);
    if (errno || value > max)
        return err_set(err, ERR_USAGE, "'%s' is more than %llu", text, (unsigned long long)max);
    *out = value;
    return 0;
}

/* A decimal number followed by a unit; *end is left at the unit. */
static int read_number(const char *text, double *out, const char **out_unit) {
    char *end = NULL;
    errno = 0;
    *out = strtod(text, &end);
    *out_unit = end;
    bool starts = isdigit((unsigned char)text[0]) || text[0] == '.';
    return starts && !errno && isfinite(*out) ? 0 : -1;
}

int opt_size(const char *text, uint64_t *out_bytes, struct err *err) {
    static const char units[] = "KMGT";
    const char *unit;
    double value;
    if (read_number(text, &value, &unit) < 0)
        return err_set(err, ERR_USAGE, "'%s' is not a size such as 512M or 8G", text);

    double scale = 1;
    if (*unit) {
        const char *at = strchr(units, toupper((unsigned char)*unit));
        bool ends = unit[1] == 0 || (toupper((unsigned char)unit[1]) == 'B' && unit[2] == 0) ||
                    strcmp(unit + 1, "iB") == 0;
        if (!at || !ends) return err_set(err, ERR_USAGE, "'%s': sizes end in K, M, G or T", text);
        for (const char *u = units; u <= at; u++)
            scale *= 1024;
    }
    if (value * scale >= 0x1p63) return err_set(err, ERR_USAGE, "'%s' is too large", text);
    *out_bytes = (uint64_t)(value * scale);
    return 0;
}

int opt_time(const char *text, uint64_t *out_ns, struct err *err) {
    const char *unit;
    double value;
    if (read_number(text, &value, &unit) < 0)
        return err_set(err, ERR_USAGE, "'%s' is not a time such as 200us, 5ms or 10s", text);

    double scale = strcmp(unit, "us") == 0                ? 1e3
                   : strcmp(unit, "ms") == 0              ? 1e6
                   : strcmp(unit, "s") == 0 || *unit == 0 ? 1e9
                                                          : 0;
    if (scale == 0) return err_set(err, ERR_USAGE, "'%s': times end in us, ms or s", text);
    if (value * scale >= 0x1p62) return err_set(err, ERR_USAGE, "'%s' is too long", text);
    *out_ns = (uint64_t)(value * scale);
    return 0;
}

static const struct opt *find(
        const struct opt *const *tables, const char *name, size_t n_name, char letter) {
    for (; *tables; tables++)
        for (const struct opt *o = *tables; o->name || o->kind == OPT_HEADING; o++) {
            if (o->kind == OPT_HEADING) continue;
            if (name && strlen(o->name) == n_name && memcmp(o->name, name, n_name) == 0) return o;
            if (letter && o->letter == letter) return o;
        }
    return NULL;
}

static int set(const struct opt *o, const char *value, struct err *err) {
    uint64_t number = 0;
    const char *unit;
    double real;
    int rc = 0;
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)o->to = true;
        break;
    case OPT_U32:
        rc = opt_u64(value, UINT32_MAX, &number, err);
        if (rc == 0) *(uint32_t *)o->to = (uint32_t)number;
        break;
    case OPT_U64:
        rc = opt_u64(value, UINT64_MAX, (uint64_t *)o->to, err);
        break;
    case OPT_F32:
        if (read_number(value[0] == '-' ? value + 1 : value, &real, &unit) < 0 || *unit)
            rc = err_set(err, ERR_USAGE, "'%s' is not a number", value);
        else
            *(float *)o->to = (float)(value[0] == '-' ? -real : real);
        break;
    case OPT_STR:
        *(const char **)o->to = value;
        break;
    case OPT_SIZE:
        rc = opt_size(value, o->to, err);
        break;
    case OPT_TIME:
        rc = opt_time(value, o->to, err);
        break;
    case OPT_STRS: {
        struct opt_strs *strs = o->to;
        if (strs->n == OPT_STRS_MAX)
            rc = err_set(err, ERR_USAGE, "given more than %d times", OPT_STRS_MAX);
        else
            strs->values[strs->n++] = value;
        break;
    }
    case OPT_HEADING:
        break;
    }
    if (rc < 0) err_note(err, "--%s", o->name);
    return rc;
}

/* One option at argv[*at]; moves *at to the last word it used. */
static int parse_one(
        const struct opt *const *tables, int argc, char **argv, int *at, struct err *err) {
    const char *word = argv[*at];
    const char *value = NULL;
    const struct opt *o;
    if (word[1] == '-') {
        const char *equals = strchr(word, '=');
        size_t n_name = equals ? (size_t)(equals - word - 2) : strlen(word + 2);
        o = find(tables, word + 2, n_name, 0);
        value = equals ? equals + 1 : NULL;
    } else {
        o = find(tables, NULL, 0, word[1]);
        if (word[2]) value = word + 2;
    }
    if (!o) return err_set(err, ERR_USAGE, "there is no option %s", word);
    if (o->kind == OPT_FLAG && value)
        return err_set(err, ERR_USAGE, "--%s takes no value", o->name);
    if (o->kind != OPT_FLAG && !value) {
        if (*at + 1 >= argc)
            return err_set(err, ERR_USAGE, "--%s needs a value: %s", o->name, o->value);
        value = argv[++*at];
    }
    return set(o, value, err);
}

int opt_parse(const struct opt *const *tables, int argc, char **argv, struct opt_words *out_words,
        struct err *err) {
    *out_words = (struct opt_words){0};
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
            int rc = parse_one(tables, argc, argv, &i, err);
            if (rc < 0) return rc;
        } else if (out_words->n == OPT_WORDS_MAX) {
            return err_set(err, ERR_USAGE, "too many words: %s", argv[i]);
        } else {
            out_words->words[out_words->n++] = argv[i];
        }
    }
    return 0;
}

static char *trim(char *text) {
    while (isspace((unsigned char)*text))
        text++;
    size_t n = strlen(text);
    while (n && isspace((unsigned char)text[n - 1]))
        text[--n] = 0;
    return text;
}

static int parse_ini_line(const struct opt *const *tables, char *line, struct err *err) {
    line = trim(line);
    if (!*line || *line == '#' || *line == ';' || *line == '[') return 0;

    char *equals = strchr(line, '=');
    if (!equals) return err_set(err, ERR_USAGE, "'%s' is not of the form name = value", line);
    *equals = 0;
    char *name = trim(line), *value = trim(equals + 1);
    const struct opt *o = find(tables, name, strlen(name), 0);
    if (!o) return err_set(err, ERR_USAGE, "there is no option '%s'", name);
    if (o->kind != OPT_FLAG) return set(o, value, err);

    bool on = strcmp(value, "true") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "1") == 0;
    bool off = strcmp(value, "false") == 0 || strcmp(value, "no") == 0 || strcmp(value, "0") == 0;
    if (!on && !off) return err_set(err, ERR_USAGE, "%s is true or false, not '%s'", name, value);
    *(bool *)o->to = on;
    return 0;
}

int opt_parse_ini(const struct opt *const *tables, char *text, const char *path, struct err *err) {
    int n_line = 0;
    for (char *line = text; line;) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        n_line++;
        int rc = parse_ini_line(tables, line, err);
        if (rc < 0) {
            err_note(err, "%s, line %d", path, n_line);
            return rc;
        }
        line = end ? end + 1 : NULL;
    }
    return 0;
}

void opt_print(const struct opt *const *tables, FILE *to) {
    for (; *tables; tables++)
        for (const struct opt *o = *tables; o->name || o->kind == OPT_HEADING; o++) {
            if (o->kind == OPT_HEADING) {
                fprintf(to, "\n%s\n", o->help);
                continue;
            }
            char left[64];
            snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : "  ",
                    o->letter ? o->letter : ' ', o->letter ? ", " : " ", o->name,
                    o->value ? " " : "", o->value ? o->value : "");
            fprintf(to, "  %-34s %s\n", left, o->help);
        }
}
