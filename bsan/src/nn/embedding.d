/tmp/wt/conv/bsan/src/nn/embedding.o: src/nn/embedding.c \
 src/nn/f32_layers.h src/nn/backend.h include/fdm/tensor.h \
 include/fdm/status.h simd/kernel_table.h simd/kernels.h
src/nn/f32_layers.h:
src/nn/backend.h:
include/fdm/tensor.h:
include/fdm/status.h:
simd/kernel_table.h:
simd/kernels.h:
