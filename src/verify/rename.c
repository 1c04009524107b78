/* rename.c - renaming by pattern. */
#include "verify/rename.h"

#include <stdlib.h>
#include <string.h>

#include "io/text.h"

enum { MAX_STARS = 9 };

/* A stretch of text. */
struct span {
    const char *at;
    size_t length;
};

/* One rule, borrowed from the list of rules. */
struct rule {
    struct span from, to;
};

static size_t count_stars(struct span s) {
    size_t n = 0;
    for (size_t i = 0; i < s.length; i++) n += s.at[i] == '*';
    return n;
}

/* The rule at the start of *rules, which moves on to the next one. */
static fdm_status next_rule(struct rule *rule, const char **rules, fdm_error *err) {
    const size_t length = strcspn(*rules, ",");
    const char *equals = memchr(*rules, '=', length);
    if (!equals)
        return fdm_fail(err, FDM_BAD_USAGE, "renaming rule \"%.*s\" has no '='; write FROM=TO", (int)fdm_min_int(200, (int)length),
                        *rules);
    rule->from = (struct span){*rules, (size_t)(equals - *rules)};
    rule->to = (struct span){equals + 1, length - rule->from.length - 1};
    if (count_stars(rule->from) > MAX_STARS || count_stars(rule->to) > count_stars(rule->from))
        return fdm_fail(err, FDM_BAD_USAGE,
                        "renaming rule \"%.*s\": TO has more * than FROM, or FROM more than %d; name the parts apart",
                        (int)fdm_min_int(200, (int)length), *rules, (int)MAX_STARS);
    *rules += length;
    if (**rules == ',') ++*rules;
    return FDM_OK;
}

/* Matches the whole of `name`, each * as little as it can; on a dead end only the last * is widened, which is enough:
 * whatever an earlier one could take more, a later one can take. */
static bool match(struct span stars[MAX_STARS], struct span pattern, const char *name) {
    size_t p = 0, n = 0, star_p = 0, star_n = 0, found = 0;
    bool starred = false;
    while (name[n]) {
        if (p < pattern.length && pattern.at[p] == '*') {
            stars[found++] = (struct span){name + n, 0};
            star_p = ++p;
            star_n = n;
            starred = true;
        } else if (p < pattern.length && (pattern.at[p] == '?' || pattern.at[p] == name[n])) {
            p++;
            n++;
        } else if (starred) {
            n = ++star_n;
            p = star_p;
            stars[found - 1].length++;
        } else {
            return false;
        }
    }
    for (; p < pattern.length && pattern.at[p] == '*'; p++) stars[found++] = (struct span){name + n, 0};
    return p == pattern.length;
}

static char *substitute(struct span to, const struct span stars[MAX_STARS]) {
    struct fdm_text text = {0};
    size_t used = 0;
    fdm_text_add(&text, "", 0);
    for (size_t i = 0; i < to.length; i++) {
        if (to.at[i] == '*') {
            fdm_text_add(&text, stars[used].at, stars[used].length);
            used++;
        } else {
            fdm_text_add(&text, to.at + i, 1);
        }
    }
    if (!text.failed) return text.bytes;
    fdm_text_free(&text);
    return NULL;
}

fdm_status fdm_rename(char **out, const char *rules, const char *name, fdm_error *err) {
    struct span stars[MAX_STARS] = {{0}};
    struct rule rule;
    *out = NULL;
    while (rules && *rules) {
        fdm_status status = next_rule(&rule, &rules, err);
        if (status) return status;
        if (!match(stars, rule.from, name)) continue;
        *out = substitute(rule.to, stars);
        return *out ? FDM_OK : fdm_fail_oom(err, "name", rule.to.length);
    }
    *out = fdm_strdup(name);
    return *out ? FDM_OK : fdm_fail_oom(err, "name", strlen(name));
}

fdm_status fdm_rename_check(const char *rules, fdm_error *err) {
    struct rule rule;
    fdm_status status = FDM_OK;
    while (rules && *rules && !status) status = next_rule(&rule, &rules, err);
    return status;
}
