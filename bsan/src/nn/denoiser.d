/tmp/wt/conv/bsan/src/nn/denoiser.o: src/nn/denoiser.c \
 include/fdm/denoiser.h include/fdm/config.h include/fdm/precond.h \
 include/fdm/status.h include/fdm/tensor.h src/base/base.h \
 include/fdm/safetensors.h src/nn/weights.h src/nn/graph.h \
 src/nn/backend.h simd/kernels.h
include/fdm/denoiser.h:
include/fdm/config.h:
include/fdm/precond.h:
include/fdm/status.h:
include/fdm/tensor.h:
src/base/base.h:
include/fdm/safetensors.h:
src/nn/weights.h:
src/nn/graph.h:
src/nn/backend.h:
simd/kernels.h:
