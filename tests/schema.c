/* schema.c - a small JSON Schema validator. */
#include "schema.h"

#include <stdio.h>
#include <string.h>

struct validation {
    const json_t *root;
    char *why;
    size_t size;
};

static bool check(const struct validation *v, const json_t *schema, const json_t *value, const char *where);

static bool complain(const struct validation *v, const char *where, const char *what) {
    snprintf(v->why, v->size, "%s: %s", where, what);
    return false;
}

static bool has_type(const json_t *value, const char *type) {
    if (strcmp(type, "object") == 0) return json_is_object(value);
    if (strcmp(type, "array") == 0) return json_is_array(value);
    if (strcmp(type, "string") == 0) return json_is_string(value);
    if (strcmp(type, "integer") == 0) return json_is_integer(value);
    if (strcmp(type, "number") == 0) return json_is_number(value);
    return strcmp(type, "null") == 0 && json_is_null(value);
}

static bool check_type(const struct validation *v, const json_t *type, const json_t *value, const char *where) {
    if (json_is_string(type) && has_type(value, json_string_value(type))) return true;
    for (size_t i = 0; i < json_array_size(type); i++)
        if (has_type(value, json_string_value(json_array_get(type, i)))) return true;
    return complain(v, where, "wrong type");
}

static bool check_members(const struct validation *v, const json_t *schema, const json_t *value, const char *where) {
    const json_t *properties = json_object_get(schema, "properties"), *others = json_object_get(schema, "additionalProperties");
    const char *key;
    json_t *member;
    char place[256];
    json_object_foreach((json_t *)value, key, member) {
        const json_t *known = json_object_get(properties, key), *rule = known ? known : others;
        snprintf(place, sizeof place, "%.150s.%.80s", where, key);
        if (json_is_false(rule)) return complain(v, place, "not in the schema");
        if (rule && !check(v, rule, member, place)) return false;
    }
    const json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        snprintf(place, sizeof place, "%.150s.%.80s", where, name);
        if (!json_object_get(value, name)) return complain(v, place, "missing");
    }
    return true;
}

static bool check_choice(const struct validation *v, const json_t *choices, const json_t *value, const char *where) {
    int fitting = 0;
    for (size_t i = 0; i < json_array_size(choices); i++) fitting += check(v, json_array_get(choices, i), value, where);
    return fitting == 1 || (fitting > 1 && complain(v, where, "fits several of oneOf"));
}

static bool check_keyword(const struct validation *v, const char *keyword, const json_t *rule, const json_t *schema,
                          const json_t *value, const char *where) {
    if (strcmp(keyword, "$ref") == 0) {
        const char *name = json_string_value(rule);
        const json_t *target = strncmp(name, "#/$defs/", 8) == 0 ? json_object_get(json_object_get(v->root, "$defs"), name + 8) : NULL;
        return target ? check(v, target, value, where) : complain(v, where, "the schema refers to nothing");
    }
    if (strcmp(keyword, "type") == 0) return check_type(v, rule, value, where);
    if (strcmp(keyword, "const") == 0) return json_equal(rule, value) || complain(v, where, "another constant");
    if (strcmp(keyword, "oneOf") == 0) return check_choice(v, rule, value, where);
    if (strcmp(keyword, "enum") == 0) {
        for (size_t i = 0; i < json_array_size(rule); i++)
            if (json_equal(json_array_get(rule, i), value)) return true;
        return complain(v, where, "not one of the choices");
    }
    if (strcmp(keyword, "properties") == 0) return !json_is_object(value) || check_members(v, schema, value, where);
    if (strcmp(keyword, "additionalProperties") == 0)
        return json_object_get(schema, "properties") || !json_is_object(value) || check_members(v, schema, value, where);
    if (strcmp(keyword, "items") == 0) {
        for (size_t i = 0; i < json_array_size(value); i++)
            if (!check(v, rule, json_array_get(value, i), where)) return false;
        return true;
    }
    for (const char *const *k = (const char *const[]){"$schema", "title", "description", "$defs", "required", NULL}; *k; k++)
        if (strcmp(keyword, *k) == 0) return true;
    return complain(v, keyword, "a keyword that this validator does not know");
}

static bool check(const struct validation *v, const json_t *schema, const json_t *value, const char *where) {
    const char *keyword;
    json_t *rule;
    json_object_foreach((json_t *)schema, keyword, rule) {
        if (!check_keyword(v, keyword, rule, schema, value, where)) return false;
    }
    return true;
}

bool schema_accepts(const json_t *schema, const json_t *value, char *why, size_t size) {
    const struct validation v = {schema, why, size};
    snprintf(why, size, "nothing");
    return check(&v, schema, value, "$");
}
