/* report.c - results as JSON and as tables.
 * Owns: nothing. Does not: compute anything. Runs on: the main thread. */
#include "coordinator/cli/report.h"

#include <inttypes.h>
#include <stdio.h>

json_t *report_workers(const struct cluster *cluster) {
    json_t *list = json_array();
    for (uint32_t i = 0; cluster && i < cluster_n_workers(cluster); i++) {
        struct cluster_worker w;
        cluster_worker_at(cluster, i, &w);
        json_array_append_new(list,
                json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:i}", "name", w.name,
                        "transport", w.transport, "isa", w.isa, "experts", (json_int_t)w.n_experts,
                        "bytes", (json_int_t)w.bytes, "rows", (json_int_t)w.rows, "expert_calls",
                        (json_int_t)w.expert_calls, "busy_seconds", (double)w.busy_ns / 1e9,
                        "rtt_us", (double)w.rtt_ns / 1e3, "lost", (int)w.lost, "threads",
                        (int)w.n_threads));
    }
    return list;
}

json_t *report_wire(const struct cluster *cluster) {
    struct cluster_wire wire = {0};
    if (cluster) cluster_wire(cluster, &wire);
    return json_pack("{s:I, s:I, s:I, s:I}", "messages_out", (json_int_t)wire.messages_out,
            "messages_in", (json_int_t)wire.messages_in, "bytes_out", (json_int_t)wire.bytes_out,
            "bytes_in", (json_int_t)wire.bytes_in);
}

/* Milliseconds a step of each part, in the order of the columns. */
struct step_ms {
    double attention, dense, experts, dispatch, wait, merge, head, other, total;
};

static struct step_ms step_ms(const struct engine_times *t) {
    double n = t->steps ? (double)t->steps * 1e6 : 1;
    struct step_ms ms = {.attention = (double)t->attention_ns / n,
            .dense = (double)t->dense_ns / n,
            .experts = (double)t->cluster.own_ns / n,
            .dispatch = (double)(t->route_ns + t->cluster.dispatch_ns) / n,
            .wait = (double)t->cluster.wait_ns / n,
            .merge = (double)(t->cluster.merge_ns + t->finish_ns) / n,
            .head = (double)t->head_ns / n,
            .total = (double)t->total_ns / n};
    ms.other = ms.total - ms.attention - ms.dense - ms.experts - ms.dispatch - ms.wait - ms.merge -
               ms.head;
    if (ms.other < 0) ms.other = 0;
    return ms;
}

json_t *report_steps(const struct engine_times *times) {
    struct step_ms ms = step_ms(times);
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "attention", ms.attention,
            "dense", ms.dense, "experts", ms.experts, "dispatch", ms.dispatch, "wait", ms.wait,
            "merge", ms.merge, "head", ms.head, "draft", 0.0, "other", ms.other);
}

json_t *report_ids(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

int report_print(json_t *object, struct err *err) {
    if (!object) return err_set(err, ERR_NO_MEMORY, "no memory for the result");
    int failed = json_dumpf(object, stdout, JSON_REAL_PRECISION(9));
    failed |= putchar('\n') == EOF || fflush(stdout) != 0;
    json_decref(object);
    return failed ? err_set(err, ERR_IO, "cannot write the result to stdout") : 0;
}

void report_show_workers(const struct cluster *cluster) {
    fprintf(stderr, "\n  %-12s %-9s %-12s %7s %8s %9s %8s %8s %8s\n", "worker", "transport", "isa",
            "threads", "experts", "MiB", "calls", "busy s", "rtt us");
    for (uint32_t i = 0; i < cluster_n_workers(cluster); i++) {
        struct cluster_worker w;
        cluster_worker_at(cluster, i, &w);
        fprintf(stderr, "  %-12s %-9s %-12s %7u %8" PRIu64 " %9.1f %8" PRIu64 " %8.2f %8.0f%s\n",
                w.name, w.transport, w.isa, w.n_threads, w.n_experts, (double)w.bytes / (1 << 20),
                w.expert_calls, (double)w.busy_ns / 1e9, (double)w.rtt_ns / 1e3,
                w.lost ? "  lost" : "");
    }
}

void report_show_steps(const struct engine_times *times) {
    struct step_ms ms = step_ms(times);
    fprintf(stderr,
            "\n  a token's %.2f ms: attention %.2f, shared experts %.2f, own experts %.2f, "
            "dispatch %.2f, "
            "wait %.2f, merge %.2f, head %.2f, other %.2f\n",
            ms.total, ms.attention, ms.dense, ms.experts, ms.dispatch, ms.wait, ms.merge, ms.head,
            ms.other);
}
