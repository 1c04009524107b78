/tmp/wt/conv/bsan/src/nn/backend_f32.o: src/nn/backend_f32.c \
 src/nn/f32_layers.h src/nn/backend.h include/fdm/tensor.h \
 include/fdm/status.h
src/nn/f32_layers.h:
src/nn/backend.h:
include/fdm/tensor.h:
include/fdm/status.h:
