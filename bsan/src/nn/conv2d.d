/tmp/wt/conv/bsan/src/nn/conv2d.o: src/nn/conv2d.c src/base/base.h \
 include/fdm/status.h src/nn/f32_layers.h src/nn/backend.h \
 include/fdm/tensor.h src/nn/f32_map.h simd/conv.h simd/kernels.h
src/base/base.h:
include/fdm/status.h:
src/nn/f32_layers.h:
src/nn/backend.h:
include/fdm/tensor.h:
src/nn/f32_map.h:
simd/conv.h:
simd/kernels.h:
