/tmp/wt/conv/bsan/src/nn/f32_map.o: src/nn/f32_map.c src/nn/f32_map.h \
 src/base/base.h include/fdm/status.h src/nn/backend.h \
 include/fdm/tensor.h src/nn/f32_layers.h
src/nn/f32_map.h:
src/base/base.h:
include/fdm/status.h:
src/nn/backend.h:
include/fdm/tensor.h:
src/nn/f32_layers.h:
