/tmp/wt/conv/bsan/src/nn/groupnorm.o: src/nn/groupnorm.c \
 src/nn/f32_layers.h src/nn/backend.h include/fdm/tensor.h \
 include/fdm/status.h src/nn/f32_map.h src/base/base.h \
 simd/kernel_table.h simd/kernels.h
src/nn/f32_layers.h:
src/nn/backend.h:
include/fdm/tensor.h:
include/fdm/status.h:
src/nn/f32_map.h:
src/base/base.h:
simd/kernel_table.h:
simd/kernels.h:
