/tmp/wt/conv/bsan/src/nn/attention.o: src/nn/attention.c src/base/base.h \
 include/fdm/status.h src/nn/f32_layers.h src/nn/backend.h \
 include/fdm/tensor.h src/nn/f32_map.h simd/conv.h simd/kernels.h \
 simd/kernel_table.h
src/base/base.h:
include/fdm/status.h:
src/nn/f32_layers.h:
src/nn/backend.h:
include/fdm/tensor.h:
src/nn/f32_map.h:
simd/conv.h:
simd/kernels.h:
simd/kernel_table.h:
