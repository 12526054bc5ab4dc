/* mbox_test.c - the bounded mailbox, with one thread and with several. */
#include "proto/base/mbox.h"

#include "proto/base/mono.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define PATIENCE (20 * MONO_S)

struct note {
    struct mbox_item item;
    uint32_t number;
};

static struct mbox *new_box(uint32_t max_items, uint64_t max_bytes) {
    struct err err = ERR_INIT;
    struct mbox *box = NULL;
    assert_int_equal(mbox_new(max_items, max_bytes, &box, &err), 0);
    return box;
}

static uint32_t get_number(struct mbox *box) {
    struct mbox_item *item = NULL;
    assert_int_equal(mbox_get(box, mono_after(PATIENCE), &item), 1);
    return ((struct note *)item)->number;
}

static void messages_come_out_as_they_went_in(void **state) {
    (void)state;
    struct mbox *box = new_box(8, 1000);
    struct note notes[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    for (int i = 0; i < 3; i++)
        assert_int_equal(mbox_put(box, &notes[i].item, 0), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(get_number(box), i);
    struct mbox_item *item = NULL;
    assert_int_equal(mbox_get(box, 0, &item), 0);
    assert_null(item);
    mbox_close(box);
    mbox_unref(box);
}

static void a_full_box_refuses_until_there_is_room(void **state) {
    (void)state;
    struct mbox *box = new_box(2, 100);
    struct note notes[4] = {
            {.item.n_bytes = 60}, {.item.n_bytes = 41}, {.item.n_bytes = 40}, {.item.n_bytes = 0}};
    assert_int_equal(mbox_put(box, &notes[0].item, 0), 0);
    assert_int_equal(mbox_put(box, &notes[1].item, mono_after(MONO_MS)), ERR_TIMEOUT);
    assert_int_equal(mbox_put(box, &notes[2].item, 0), 0);
    assert_int_equal(mbox_put(box, &notes[3].item, 0), ERR_TIMEOUT); /* two are inside */
    get_number(box);
    assert_int_equal(mbox_put(box, &notes[3].item, 0), 0);
    mbox_close(box);
    mbox_unref(box);
}

static void an_empty_box_takes_a_message_of_any_size(void **state) {
    (void)state;
    struct mbox *box = new_box(4, 100);
    struct note large = {.item.n_bytes = UINT64_MAX}, small = {.item.n_bytes = 1};
    assert_int_equal(mbox_put(box, &large.item, 0), 0);
    assert_int_equal(mbox_put(box, &small.item, 0), ERR_TIMEOUT);
    get_number(box);
    assert_int_equal(mbox_put(box, &small.item, 0), 0);
    assert_int_equal(mbox_put(box, &large.item, 0), ERR_TIMEOUT);
    mbox_close(box);
    mbox_unref(box);
}

static void closing_hands_back_what_is_left_and_refuses_more(void **state) {
    (void)state;
    struct mbox *box = new_box(4, 100);
    struct note notes[2] = {{.number = 0}, {.number = 1}};
    struct mbox *sender = mbox_ref(box);
    mbox_put(box, &notes[0].item, 0);
    mbox_put(box, &notes[1].item, 0);
    struct mbox_item *left = mbox_close(box);
    assert_ptr_equal(left, &notes[0].item);
    assert_ptr_equal(left->next, &notes[1].item);
    mbox_unref(box);
    assert_true(mbox_is_closed(sender));
    assert_int_equal(mbox_put(sender, &notes[0].item, MONO_NEVER), ERR_PEER_LOST);
    mbox_unref(sender);
}

static void a_wake_counts_once_and_before_messages(void **state) {
    (void)state;
    struct mbox *box = new_box(4, 100);
    struct note note = {.number = 7};
    struct mbox_item *item = NULL;
    mbox_put(box, &note.item, 0);
    mbox_wake(box);
    mbox_wake(box);
    assert_int_equal(mbox_get(box, MONO_NEVER, &item), ERR_INTERRUPTED);
    assert_int_equal(get_number(box), 7);
    assert_int_equal(mbox_get(box, 0, &item), 0);
    mbox_close(box);
    mbox_unref(box);
}

struct sender {
    struct mbox *box;
    struct note notes[500];
    int rc;
};

static void *send_all(void *arg) {
    struct sender *sender = arg;
    for (uint32_t i = 0; i < 500 && sender->rc == 0; i++) {
        sender->notes[i].number = i;
        sender->notes[i].item.n_bytes = 1 + i % 30;
        sender->rc = mbox_put(sender->box, &sender->notes[i].item, MONO_NEVER);
    }
    mbox_unref(sender->box);
    return NULL;
}

static void several_senders_wait_for_room_and_all_get_through(void **state) {
    (void)state;
    enum { SENDERS = 4 };
    struct mbox *box = new_box(3, 40);
    struct sender *senders = calloc(SENDERS, sizeof *senders);
    pthread_t threads[SENDERS];
    assert_non_null(senders);
    for (int s = 0; s < SENDERS; s++) {
        senders[s].box = mbox_ref(box);
        assert_int_equal(pthread_create(&threads[s], NULL, send_all, &senders[s]), 0);
    }
    uint32_t next[SENDERS] = {0};
    for (int i = 0; i < SENDERS * 500; i++) {
        struct mbox_item *item = NULL;
        assert_int_equal(mbox_get(box, mono_after(PATIENCE), &item), 1);
        int s = 0;
        while ((struct note *)item < senders[s].notes ||
                (struct note *)item >= senders[s].notes + 500)
            s++;
        assert_int_equal(((struct note *)item)->number, next[s]++);
    }
    for (int s = 0; s < SENDERS; s++) {
        pthread_join(threads[s], NULL);
        assert_int_equal(senders[s].rc, 0);
    }
    mbox_close(box);
    mbox_unref(box);
    free(senders);
}

static void closing_frees_those_who_wait_for_room(void **state) {
    (void)state;
    struct mbox *box = new_box(2, 1000);
    struct sender *sender = calloc(1, sizeof *sender);
    pthread_t thread;
    assert_non_null(sender);
    sender->box = mbox_ref(box);
    assert_int_equal(pthread_create(&thread, NULL, send_all, sender), 0);
    get_number(box);
    mbox_close(box);
    pthread_join(thread, NULL);
    assert_int_equal(sender->rc, ERR_PEER_LOST);
    mbox_unref(box);
    free(sender);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(messages_come_out_as_they_went_in),
            cmocka_unit_test(a_full_box_refuses_until_there_is_room),
            cmocka_unit_test(an_empty_box_takes_a_message_of_any_size),
            cmocka_unit_test(closing_hands_back_what_is_left_and_refuses_more),
            cmocka_unit_test(a_wake_counts_once_and_before_messages),
            cmocka_unit_test(several_senders_wait_for_room_and_all_get_through),
            cmocka_unit_test(closing_frees_those_who_wait_for_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
