/* labels.c - dataset.json: a class or a vector for every image. */
#include "io/labels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fdm/dataset.h"
#include "io/json_scan.h"

struct reader {
    struct fdm_json json;
    const struct fdm_entries *e;
    struct fdm_labels *labels;
    unsigned char *seen; /* (count): which images have a label */
    char *scratch;
    double *row; /* the vector at hand, (FDM_DATASET_MAX_LABEL_DIM) */
    fdm_error *err;
};

static fdm_status bad_json(const struct reader *r) {
    return fdm_fail(r->err, FDM_BAD_INPUT, "%s: dataset.json: %s (byte %zu)", r->e->label,
                    r->json.problem ? r->json.problem : "bad JSON", r->json.at);
}

/* `why` about the label of the file named in scratch. */
static fdm_status bad_label(const struct reader *r, const char *why) {
    return fdm_fail(r->err, FDM_BAD_INPUT, "%s: dataset.json: label of \"%.200s\": %s (byte %zu)", r->e->label,
                    r->scratch, why, r->json.at);
}

static fdm_status read_class(struct reader *r, size_t image) {
    int64_t value;
    if (!fdm_json_integer(&r->json, &value))
        return bad_label(r, "a class from 0 on, or a list of numbers, is expected");
    if (value < 0) return bad_label(r, "a class below 0; count classes from 0");
    if (value >= FDM_DATASET_MAX_LABEL_DIM)
        return bad_label(r, "a class beyond 65535; number the classes from 0 on");
    if (r->labels->vectors) return bad_label(r, "a class, where others have vectors");
    if (!r->labels->classes && !(r->labels->classes = calloc(r->e->count, sizeof *r->labels->classes)))
        return fdm_fail_oom(r->err, "labels", r->e->count * sizeof *r->labels->classes);
    if (image == SIZE_MAX) return FDM_OK;
    r->labels->classes[image] = (int32_t)value;
    r->labels->dim = fdm_max_int(r->labels->dim, (int)value + 1);
    return FDM_OK;
}

/* Behind its '['. */
static fdm_status read_vector(struct reader *r, size_t image) {
    struct fdm_labels *l = r->labels;
    int n = 0;
    if (!r->row && !(r->row = malloc(FDM_DATASET_MAX_LABEL_DIM * sizeof *r->row)))
        return fdm_fail_oom(r->err, "label", FDM_DATASET_MAX_LABEL_DIM * sizeof *r->row);
    do {
        if (n == FDM_DATASET_MAX_LABEL_DIM) return bad_label(r, "a vector of more than 65536 elements");
        if (!fdm_json_number(&r->json, &r->row[n])) return bad_label(r, r->json.problem);
        if (!isfinite((float)r->row[n++])) return bad_label(r, "a number beyond the range of float");
    } while (fdm_json_take(&r->json, ','));
    if (!fdm_json_expect(&r->json, ']')) return bad_json(r);
    if (l->classes) return bad_label(r, "a vector, where others have classes");
    if (l->vectors && n != l->dim) return bad_label(r, "its vector has another length than the ones before");
    if (!l->vectors) {
        size_t bytes;
        if (!fdm_mul_size(&bytes, r->e->count, (size_t)n * sizeof(float)) || !(l->vectors = malloc(bytes)))
            return fdm_fail(r->err, FDM_NO_RESOURCE, "%s: out of memory (%zu label vectors of %d elements)",
                            r->e->label, r->e->count, n);
        l->dim = n;
    }
    for (int i = 0; i < n && image != SIZE_MAX; i++) l->vectors[image * (size_t)n + (size_t)i] = (float)r->row[i];
    return FDM_OK;
}

/* ["name", label] */
static fdm_status read_pair(struct reader *r) {
    struct fdm_json *j = &r->json;
    size_t length;
    if (!fdm_json_expect(j, '[') || !fdm_json_string(j, r->scratch, &length) || !fdm_json_expect(j, ','))
        return bad_json(r);
    if (!fdm_entry_name_ok(r->scratch)) return bad_label(r, "the name leads out of the set");
    size_t image = fdm_entries_find(r->e, r->scratch);
    if (image != SIZE_MAX && r->seen[image]) return bad_label(r, "a second one; keep one of them");
    if (image != SIZE_MAX) r->seen[image] = 1;
    fdm_status status = fdm_json_take(j, '[') ? read_vector(r, image) : read_class(r, image);
    if (!status && !fdm_json_expect(j, ']')) status = bad_json(r);
    return status;
}

static fdm_status read_list(struct reader *r) {
    fdm_status status = FDM_OK;
    if (fdm_json_word(&r->json, "null")) return FDM_OK;
    if (!fdm_json_expect(&r->json, '[')) return bad_json(r);
    if (!fdm_json_take(&r->json, ']')) {
        do status = read_pair(r);
        while (!status && fdm_json_take(&r->json, ','));
        if (!status && !fdm_json_expect(&r->json, ']')) status = bad_json(r);
    }
    for (size_t i = 0; i < r->e->count && !status; i++)
        if (!r->seen[i])
            status =
                fdm_fail(r->err, FDM_BAD_INPUT,
                         "%s: dataset.json: no label for \"%.200s\"; add one, or write \"labels\": null for a set "
                         "without",
                         r->e->label, r->e->items[i].name);
    return status;
}

static fdm_status read_document(struct reader *r) {
    struct fdm_json *j = &r->json;
    bool found = false;
    size_t length;
    if (!fdm_json_expect(j, '{')) return bad_json(r);
    if (!fdm_json_take(j, '}')) {
        do {
            if (!fdm_json_string(j, r->scratch, &length) || !fdm_json_expect(j, ':')) return bad_json(r);
            if (strcmp(r->scratch, "labels") == 0) {
                if (found)
                    return fdm_fail(r->err, FDM_BAD_INPUT, "%s: dataset.json: \"labels\" occurs twice",
                                    r->e->label);
                found = true;
                fdm_status status = read_list(r);
                if (status) return status;
            } else if (!fdm_json_skip(j, r->scratch))
                return bad_json(r);
        } while (fdm_json_take(j, ','));
        if (!fdm_json_expect(j, '}')) return bad_json(r);
    }
    if (!fdm_json_finished(j)) return bad_json(r);
    if (!found)
        return fdm_fail(r->err, FDM_BAD_INPUT,
                        "%s: dataset.json: no \"labels\"; write \"labels\": null for a set without", r->e->label);
    return FDM_OK;
}

fdm_status fdm_labels_parse(struct fdm_labels *labels, const void *text, size_t size, const struct fdm_entries *e,
                            fdm_error *err) {
    struct reader r = {.json = {.bytes = text, .end = size}, .e = e, .labels = labels, .err = err};
    memset(labels, 0, sizeof *labels);
    r.scratch = malloc(size + 1);
    r.seen = calloc(e->count, 1);
    fdm_status status = r.scratch && r.seen ? read_document(&r) : fdm_fail_oom(err, "dataset.json", size);
    free(r.scratch);
    free(r.seen);
    free(r.row);
    if (status) fdm_labels_free(labels);
    return status;
}

fdm_status fdm_labels_read(struct fdm_labels *labels, const struct fdm_entries *e, fdm_error *err) {
    struct fdm_blob blob;
    memset(labels, 0, sizeof *labels);
    if (!e->json.name) return FDM_OK;
    fdm_status status = fdm_entries_read(&blob, e, &e->json, true, err);
    if (status) return status;
    status = fdm_labels_parse(labels, blob.bytes, blob.size, e, err);
    fdm_blob_free(&blob);
    return status;
}

void fdm_labels_free(struct fdm_labels *labels) {
    free(labels->classes);
    free(labels->vectors);
    memset(labels, 0, sizeof *labels);
}
