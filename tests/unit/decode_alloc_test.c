/* decode_alloc_test.c - the decode loop allocates nothing: not on the coordinator, not in a worker.
 *
 * The linker sends every allocation of our code to the counters here (--wrap); what libraries do
 * inside is theirs. One worker runs as a thread over inproc, so its loop is counted too. */
#include "coordinator/cli/app.h"
#include "coordinator/engine/generate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static atomic_ulong n_allocations;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **out, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **out, size_t align, size_t n);

void *__wrap_malloc(size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_realloc(p, n);
}

int __wrap_posix_memalign(void **out, size_t align, size_t n) {
    atomic_fetch_add(&n_allocations, 1);
    return __real_posix_memalign(out, align, n);
}

struct watch {
    unsigned n_texts;
    unsigned long at_start; /* allocations when the first text came */
    unsigned long at_end;
};

static void on_text(void *arg, const char *bytes, size_t n) {
    (void)bytes;
    (void)n;
    struct watch *watch = arg;
    watch->at_end = atomic_load(&n_allocations);
    if (watch->n_texts++ == 0) watch->at_start = watch->at_end;
}

static void decode_with(uint32_t n_workers) {
    struct app_options options = APP_OPTIONS_DEFAULTS;
    struct app app = {0};
    struct err err = ERR_INIT;
    options.transport = "inproc";
    options.local_workers = n_workers;
    options.threads = 2;
    options.general.quiet = true;
    options.ctx = 256;
    const char *model = "deploy/demo/potluck-demo.gguf";
    if (app_open(&app, &options, model, &(struct app_needs){0}, &err) < 0)
        fail_msg("%s: %s", err.where, err.what);

    struct tok_ids prompt = {0};
    const char *text = "<|im_start|>user\nWhat is a bridge?<|im_end|>\n<|im_start|>assistant\n";
    assert_int_equal(tok_encode(app.tok, text, strlen(text), TOK_PARSE_SPECIAL, &prompt, &err), 0);

    struct watch watch = {0};
    struct generate_options generation = {.sample = SAMPLE_DEFAULTS,
            .n_max = 100,
            .ignore_eos = true,
            .stops = {"no such text", "nor this"},
            .n_stops = 2,
            .arg = &watch,
            .text = on_text};
    generation.sample.repeat_penalty = 1.1f;
    struct generate_result result;
    if (generate(app.engine, app.session, app.tok, prompt.ids, (uint32_t)prompt.n, &generation,
                &result, &err) < 0)
        fail_msg("%s: %s", err.where, err.what);
    assert_int_equal(result.tokens.n, 100);
    assert_true(watch.n_texts > 50);
    assert_true(watch.at_start > 0); /* the counters count */
    assert_int_equal(watch.at_end - watch.at_start, 0);
    generate_result_fini(&result);
    tok_ids_fini(&prompt);
    app_close(&app);
}

static void decoding_alone_allocates_nothing(void **state) {
    (void)state;
    decode_with(0);
}

static void decoding_with_a_worker_allocates_nothing_on_either_side(void **state) {
    (void)state;
    decode_with(1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(decoding_alone_allocates_nothing),
            cmocka_unit_test(decoding_with_a_worker_allocates_nothing_on_either_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
