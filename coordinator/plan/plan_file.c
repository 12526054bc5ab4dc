/* plan_file.c - placements written by hand or by a planner, as JSON:
 *
 *   {"experts": [{"layer": 3, "expert": 7, "workers": ["local", "attic"]},
 *                {"layer": "*", "expert": "*", "workers": ["attic"]}]}
 *
 * "*" stands for all. Of several entries for an expert the first wins. "local" is the coordinator's own
 * worker, other names are those the workers joined with.
 * Owns: nothing. Does not: read the file. Runs on: any thread. */
#include "coordinator/plan/plan.h"

#include <jansson.h>
#include <string.h>

/* One entry's "layer" or "expert": a number, or "*" for all. */
struct choice {
    bool all;
    json_int_t number;
};

static int read_choice(
        const json_t *entry, const char *key, size_t at, struct choice *out, struct err *err) {
    const json_t *value = json_object_get(entry, key);
    if (json_is_string(value) && strcmp(json_string_value(value), "*") == 0) {
        *out = (struct choice){.all = true};
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return err_set(
                err, ERR_BAD_INPUT, "entry %zu: \"%s\" is neither a number nor \"*\"", at, key);
    *out = (struct choice){.number = json_integer_value(value)};
    return 0;
}

static int read_workers(const struct plan_request *request, const json_t *entry, size_t at,
        uint64_t *out_set, struct err *err) {
    const json_t *names = json_object_get(entry, "workers");
    if (!json_is_array(names) || json_array_size(names) == 0)
        return err_set(err, ERR_BAD_INPUT, "entry %zu: \"workers\" is not a list of names", at);

    *out_set = 0;
    size_t i;
    const json_t *name;
    json_array_foreach(names, i, name) {
        const char *text = json_string_value(name);
        uint32_t w = 0;
        while (w < request->n_workers &&
                !(text && request->workers[w].usable &&
                        strcmp(text, w == 0 ? "local" : request->workers[w].name) == 0))
            w++;
        if (w == request->n_workers)
            return err_set(err, ERR_BAD_INPUT, "entry %zu: there is no worker \"%s\"", at,
                    text ? text : "(not a string)");
        *out_set |= UINT64_C(1) << w;
    }
    return 0;
}

static int apply_entry(const struct plan_request *request, const json_t *entry, size_t at,
        struct plan_room *room, struct placement *placement, struct err *err) {
    struct choice layer_choice = {0}, expert_choice = {0};
    uint64_t set = 0;
    int rc = read_choice(entry, "layer", at, &layer_choice, err);
    if (rc == 0) rc = read_choice(entry, "expert", at, &expert_choice, err);
    if (rc == 0) rc = read_workers(request, entry, at, &set, err);
    if (rc < 0) return rc;

    bool applied = false;
    for (uint32_t i = 0; i < request->n_layers; i++) {
        const struct plan_layer *layer = &request->layers[i];
        if (!layer_choice.all && layer_choice.number != layer->layer) continue;
        for (uint32_t e = 0; e < layer->n_expert; e++) {
            if (!expert_choice.all && expert_choice.number != e) continue;
            applied = true;
            if (placement_holders(placement, layer->layer, e)) continue;
            for (uint32_t w = 0; w < request->n_workers; w++) {
                if (!(set >> w & 1)) continue;
                if (room->left[w] < layer->expert_bytes)
                    return err_set(err, ERR_NO_MEMORY,
                            "worker %s has no room for expert %u of layer %u",
                            request->workers[w].name, e, layer->layer);
                room->left[w] -= layer->expert_bytes;
                placement_add(placement, layer->layer, e, w);
            }
        }
    }
    if (!applied) return err_set(err, ERR_BAD_INPUT, "entry %zu names no expert of this model", at);
    return 0;
}

int plan_place_file(const struct plan_request *request, struct plan_room *room,
        struct placement *placement, struct err *err) {
    json_error_t where;
    json_t *root = json_loads(request->file_text, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return err_set(
                err, ERR_BAD_INPUT, "the plan is not JSON: line %d: %s", where.line, where.text);

    const json_t *entries = json_object_get(root, "experts");
    int rc = json_is_array(entries)
                     ? 0
                     : err_set(err, ERR_BAD_INPUT, "the plan has no list \"experts\"");
    size_t at;
    const json_t *entry;
    json_array_foreach(entries, at, entry) {
        if (rc == 0) rc = apply_entry(request, entry, at, room, placement, err);
    }
    json_decref(root);

    for (uint32_t i = 0; rc == 0 && i < request->n_layers; i++)
        for (uint32_t e = 0; rc == 0 && e < request->layers[i].n_expert; e++)
            if (!placement_holders(placement, request->layers[i].layer, e))
                rc = err_set(err, ERR_BAD_INPUT, "the plan says nothing of expert %u of layer %u",
                        e, request->layers[i].layer);
    return rc;
}
