/* emulation.c - number formats: names, rounding, and which layers compute in which. */
#include "fdm/emulation.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"

static const struct {
    const char *name;
    int bits, emin;
} formats[FDM_FORMAT_COUNT] = {
#define FORMAT_ROW(e, name, bits, emin, max) [e] = {name, bits, emin},
    FDM_FORMATS(FORMAT_ROW)
#undef FORMAT_ROW
};

static const char *const class_names[FDM_LAYER_CLASS_COUNT] = {
#define CLASS_ROW(e, name) [e] = name,
    FDM_LAYER_CLASSES(CLASS_ROW)
#undef CLASS_ROW
};

const char *fdm_format_name(fdm_format format) {
    return (unsigned)format < FDM_FORMAT_COUNT ? formats[format].name : "?";
}

bool fdm_format_find(fdm_format *format, const char *name) {
    for (int i = 0; i < FDM_FORMAT_COUNT; i++)
        if (strcmp(name, formats[i].name) == 0) {
            *format = (fdm_format)i;
            return true;
        }
    return false;
}

double fdm_format_unit(fdm_format format) {
    return (unsigned)format < FDM_FORMAT_COUNT ? 1.0 / (double)((int64_t)1 << formats[format].bits) : 0;
}

const char *fdm_layer_class_name(fdm_layer_class layers) {
    return (unsigned)layers < FDM_LAYER_CLASS_COUNT ? class_names[layers] : "?";
}

/* ---- rounding ---- */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* f32 bits without their low `drop` bits, to the nearest, ties to even: adding half a unit less one (and one more where
 * the last kept bit is odd) carries into the kept part exactly where it should, up to infinity. */
static uint32_t drop_bits(uint32_t bits, int drop) {
    const uint32_t odd = bits >> drop & 1, half = ((uint32_t)1 << (drop - 1)) - 1;
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits | 0x00400000u) >> drop << drop; /* NaN: quiet */
    return (bits + half + odd) >> drop << drop;
}

/* binary16: below 2^-14 its numbers are multiples of 2^-24, so that adding 0.5 (whose unit in f32 is 2^-24) rounds to one
 * of them; from 65520 on the nearest is infinity. */
static float round_f16(float x) {
    const uint32_t bits = bits_of(x), sign = bits & 0x80000000u, magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x477ff000u && magnitude <= 0x7f800000u) return float_of(sign | 0x7f800000u);
    if (magnitude < 0x38800000u) return float_of(sign | bits_of((float_of(magnitude) + 0.5f) - 0.5f));
    return float_of(drop_bits(bits, 13));
}

float fdm_format_round(fdm_format format, float x) {
    switch (format) {
    case FDM_FORMAT_TF32: return float_of(drop_bits(bits_of(x), 13));
    case FDM_FORMAT_BF16: return float_of(drop_bits(bits_of(x), 16));
    case FDM_FORMAT_FP16: return round_f16(x);
    default: return x;
    }
}

uint16_t fdm_float_to_bf16(float x) { return (uint16_t)(drop_bits(bits_of(x), 16) >> 16); }

float fdm_float_from_bf16(uint16_t bits) { return float_of((uint32_t)bits << 16); }

uint16_t fdm_float_to_f16(float x) {
    const uint32_t bits = bits_of(round_f16(x)), magnitude = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude >= 0x7f800000u) return (uint16_t)(sign | 0x7c00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x38800000u) return (uint16_t)(sign | (magnitude - 0x38000000u) >> 13);
    return (uint16_t)(sign | (uint16_t)(float_of(magnitude) * 0x1p24f)); /* subnormal: a whole number of 2^-24 */
}

float fdm_float_from_f16(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return float_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude >= 0x0400u) return float_of(sign | ((magnitude << 13) + 0x38000000u));
    return float_of(sign | bits_of((float)magnitude * 0x1p-24f));
}

/* ---- which layers ---- */

fdm_emulation fdm_emulation_of(fdm_format format) {
    fdm_emulation e = {{FDM_FORMAT_FP32}};
    for (int i = 0; i < FDM_LAYER_CLASS_COUNT; i++)
        if (format != FDM_FORMAT_TF32 || i == FDM_LAYERS_CONV) e.format[i] = format;
    return e;
}

static bool set_one(fdm_emulation *e, const char *part, size_t length) {
    char text[32];
    if (length >= sizeof text) return false;
    memcpy(text, part, length);
    text[length] = '\0';
    char *equals = strchr(text, '=');
    if (!equals) return false;
    *equals = '\0';
    for (int i = 0; i < FDM_LAYER_CLASS_COUNT; i++)
        if (strcmp(text, class_names[i]) == 0) return fdm_format_find(&e->format[i], equals + 1);
    return false;
}

fdm_status fdm_emulation_set(fdm_emulation *emulation, const char *list, fdm_error *err) {
    fdm_emulation e = *emulation;
    for (const char *part = list;;) {
        const size_t length = strcspn(part, ",");
        if (!set_one(&e, part, length))
            return fdm_fail(err, FDM_BAD_USAGE,
                            "\"%.*s\" is not class=format; classes are conv, linear, attention, norm, formats fp32, tf32, "
                            "bf16, fp16", (int)(length < 100 ? length : 100), part);
        if (!part[length]) break;
        part += length + 1;
    }
    *emulation = e;
    return FDM_OK;
}
