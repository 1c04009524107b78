/* rank_tree.c - recursive halving and its way back. */
#include "train/rank_tree.h"

#include "base/base.h"

enum { MAX_LEVELS = 32, LINE = 16 /* elements: halves begin where vectors do */ };

struct range {
    size_t first, end;
};

/* The two halves of a range; the lower one is not the shorter one. */
static void halve(struct range whole, struct range *low, struct range *high) {
    const size_t count = whole.end - whole.first, half = fdm_round_up((count + 1) / 2, LINE);
    const size_t middle = whole.first + (half < count ? half : count);
    *low = (struct range){whole.first, middle};
    *high = (struct range){middle, whole.end};
}

size_t fdm_rank_tree_scratch(size_t count) { return fdm_round_up((count + 1) / 2, LINE); }

static fdm_status swap(const struct fdm_rank_tree *t, int peer, const char *send, struct range sent, char *receive,
                       struct range received, fdm_error *err) {
    const fdm_exchange what = {.channel = FDM_CHANNEL_GRADIENT,
                               .to = peer,
                               .from = peer,
                               .send = send,
                               .send_bytes = (sent.end - sent.first) * t->element,
                               .receive = receive,
                               .receive_bytes = (received.end - received.first) * t->element};
    return t->ranks->exchange(t->ranks, &what, err);
}

fdm_status fdm_rank_tree_sum(const struct fdm_rank_tree *t, void *data, size_t count, fdm_error *err) {
    struct range mine = {0, count}, given[MAX_LEVELS] = {{0}};
    const size_t element = t->element;
    char *at = data;
    int level = 0;
    fdm_status status = FDM_OK;
    for (int m = 1; m < t->ranks->size && status == FDM_OK; m *= 2, level++) {
        struct range low, high;
        halve(mine, &low, &high);
        const bool upper = t->ranks->rank & m;
        mine = upper ? high : low;
        given[level] = upper ? low : high;
        status = swap(t, t->ranks->rank ^ m, at + given[level].first * element, given[level], t->scratch, mine, err);
        if (status == FDM_OK) t->add(t->user, at + mine.first * element, t->scratch, mine.end - mine.first);
    }
    for (int m = t->ranks->size / 2; m > 0 && status == FDM_OK; m /= 2) {
        const struct range theirs = given[--level];
        status = swap(t, t->ranks->rank ^ m, at + mine.first * element, mine, at + theirs.first * element, theirs, err);
        mine = (struct range){mine.first < theirs.first ? mine.first : theirs.first,
                              mine.end > theirs.end ? mine.end : theirs.end};
    }
    return status;
}
