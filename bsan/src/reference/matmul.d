/tmp/wt/conv/bsan/src/reference/matmul.o: src/reference/matmul.c \
 src/reference/reference.h src/base/base.h include/fdm/status.h \
 src/nn/backend.h include/fdm/tensor.h
src/reference/reference.h:
src/base/base.h:
include/fdm/status.h:
src/nn/backend.h:
include/fdm/tensor.h:
