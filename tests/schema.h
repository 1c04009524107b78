/* schema.h - a JSON value against a JSON Schema, as far as src/verify/report.schema.json goes. */
#ifndef FDM_TESTS_SCHEMA_H
#define FDM_TESTS_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Whether `value` is as `schema` demands; if not, `why` says where and what.  Understands type, const, enum, required,
 * properties, additionalProperties, items, oneOf and $ref to the root's $defs; anything else is an error of the schema. */
bool schema_accepts(const json_t *schema, const json_t *value, char *why, size_t size);

#endif
