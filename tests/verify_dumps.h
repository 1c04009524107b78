/* verify_dumps.h - test helper: dumps as a GPU's user would make them, right ones and such with a planted bug. */
#ifndef FDM_TEST_VERIFY_DUMPS_H
#define FDM_TEST_VERIFY_DUMPS_H

#include "fdm/denoiser.h"
#include "fdm/verify.h"

/* X(enumerator, what it is, golden it is planted in, where (a module name, or which call of the layer), first module that
 * the report must name, words that the diagnosis must have) */
#define PLANTED_BUGS(X)                                                                                                                          \
    X(BUG_EPS, "eps 1e-5 in a group norm", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.enc.8x8_block0.norm1",                           \
      "model.enc.8x8_block0.norm1", "eps")                                                                                                       \
    X(BUG_UNBIASED, "unbiased variance", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.dec.8x8_in0.norm0", "model.dec.8x8_in0.norm0",      \
      "biased")                                                                                                                                  \
    X(BUG_GROUPS, "half the groups", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.dec.16x16_up.norm0", "model.dec.16x16_up.norm0",        \
      "groups")                                                                                                                                  \
    X(BUG_PADDING, "circular padding", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.dec.8x8_block1.conv0",                               \
      "model.dec.8x8_block1.conv0", "circular")                                                                                                  \
    X(BUG_FILTER, "another resampling filter", "net_EDMPrecond_ncsnpp_r16", "model.enc.8x8_down.conv0", "model.enc.8x8_down.conv0",              \
      "[1,1]")                                                                                                                                   \
    X(BUG_SKIP_SCALE, "no sqrt(1/2) after the skip", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.enc.8x8_block0.conv1",                 \
      "model.enc.8x8_block0", "sqrt(1/2)")                                                                                                       \
    X(BUG_ATTENTION_SCALE, "scores not divided by sqrt(C)", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "1", "model.dec.8x8_in0.proj",          \
      "sqrt(C)")                                                                                                                                 \
    X(BUG_SOFTMAX_AXIS, "softmax over queries", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "0", "model.enc.16x16_block0.proj", "keys")         \
    X(BUG_QKV_ORDER, "k, q, v for q, k, v", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "1", "model.dec.8x8_in0.proj", "q, k, v")               \
    X(BUG_HALVES, "embedding halves not swapped", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "0", "model.map_layer0", "swapped")               \
    X(BUG_NO_BIAS, "dropped bias", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.dec.16x16_block0.conv1",                                 \
      "model.dec.16x16_block0.conv1", "bias is added")                                                                                           \
    X(BUG_STALE_EMA, "raw instead of averaged weights", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "", "model.map_augment", "--other")          \
    X(BUG_MULTIPLIER, "fdm_multiplier 1", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "", "c_in", "fdm_multiplier 1")                           \
    X(BUG_CLAMPED, "sigma clamped", "net_FDM_VEPrecond_ncsnpp_tiny_r16_m2_aug", "", "model.map_noise", "clamped")                                \
    X(BUG_OVERFLOW, "fp16 overflow", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.dec.8x8_in1.conv0", "model.dec.8x8_in1.conv0", "")      \
    X(BUG_HALF_SUMS, "sums in fp16", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.enc.8x8_block0.conv0",                                 \
      "model.enc.8x8_block0.conv0", "")                                                                                                          \
    X(BUG_LABEL_SCALE, "labels not scaled", "net_VPPrecond_ddpmpp_tiny_r16_lab", "model.map_label", "model.map_label", "sqrt(label_dim)")        \
    X(BUG_SKIP_INDEX, "the next skip", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "3", "model.dec.16x16_block1.norm0", "in place of")          \
    X(BUG_TRANSPOSED, "transposed 1x1", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.enc.16x16_block0.proj",                             \
      "model.enc.16x16_block0.proj", "transposed")                                                                                               \
    X(BUG_SIGMA_DATA, "sigma_data 1", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "", "self", "sigma_data 1")                                   \
    X(BUG_FLIPPED, "convolution instead of correlation", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.enc.8x8_down.conv1",              \
      "model.enc.8x8_down.conv1", "flipped")                                                                                                     \
    X(BUG_NO_AFFINE, "affine(emb) not added", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.dec.16x16_block1.norm1",                      \
      "model.dec.16x16_block1.norm1", "affine")                                                                                                  \
    X(BUG_NO_SILU, "no SiLU", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.dec.8x8_block0.norm0", "model.dec.8x8_block0.conv0", "SiLU")   \
    X(BUG_FRAMEWORK, "EDM's c_in", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "", "c_in", "not of edm")                                 \
    X(BUG_RELATIVE, "one layer off by a factor", "net_FDM_EDMPrecond_ddpmpp_tiny_r16_m2_aug", "model.enc.8x8_block0.conv0",                    \
      "model.enc.8x8_block0.conv0", "")

enum planted_bug {
#define BUG_ENUM(e, what, golden, where, first, words) e,
    PLANTED_BUGS(BUG_ENUM)
#undef BUG_ENUM
        BUG_COUNT
};

struct planted {
    const char *what, *golden, *where, *first, *words;
};
extern const struct planted planted_bugs[BUG_COUNT];

/* What a dump is made with. */
struct dump_spec {
    const fdm_tensors *model; /* a golden net_*: weights and inputs */
    const char *backend;      /* as in fdm_run_options */
    int bug;                  /* enum planted_bug, or -1 */
    double size;              /* of BUG_RELATIVE: the factor minus 1 */
    double sigma;             /* instead of the golden's, or 0 */
};
/* x, sigma, labels; out, F_x and every module's output. */
void make_dump(fdm_tensors *dump, const struct dump_spec *spec);
/* A copy of a set, values and all. */
void copy_tensors(fdm_tensors *to, const fdm_tensors *from);
/* Adds a relative 1e-3 to every weight: those of another moment. */
void other_weights(fdm_tensors *to, const fdm_tensors *model);

#endif
