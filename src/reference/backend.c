/* backend.c - the reference backend's table of layer functions. */
#include "reference/reference.h"

static const struct fdm_backend reference_table = {
    .name = "reference",
    .dtype = FDM_F64,
    .map_bytes = fdm_ref_map_bytes,
    .attention_scratch = fdm_ref_attention_scratch,
    .conv2d_scratch = fdm_ref_conv2d_scratch,
    .conv2d_packed_bytes = fdm_ref_conv2d_packed_bytes,
    .conv2d_pack = fdm_ref_conv2d_pack,
    .linear_packed_bytes = fdm_ref_linear_packed_bytes,
    .linear_pack = fdm_ref_linear_pack,
    .groupnorm_packed_bytes = fdm_ref_groupnorm_packed_bytes,
    .groupnorm_pack = fdm_ref_groupnorm_pack,
    .freqs_packed_bytes = fdm_ref_freqs_packed_bytes,
    .freqs_pack = fdm_ref_freqs_pack,
    .map_import = fdm_ref_map_import,
    .map_export = fdm_ref_map_export,
    .vec_import = fdm_ref_vec_import,
    .vec_export = fdm_ref_vec_export,
    .noise_embedding = fdm_ref_noise_embedding,
    .swap_halves = fdm_ref_swap_halves,
    .linear = fdm_ref_linear,
    .conv2d = fdm_ref_conv2d,
    .resample = fdm_ref_resample,
    .groupnorm = fdm_ref_groupnorm,
    .attention = fdm_ref_attention,
    .concat = fdm_ref_concat,
    .add = fdm_ref_add,
};

const struct fdm_backend *fdm_backend_reference(void) { return &reference_table; }
