/tmp/wt/conv/bsan/src/reference/groupnorm.o: src/reference/groupnorm.c \
 src/reference/reference.h src/base/base.h include/fdm/status.h \
 src/nn/backend.h include/fdm/tensor.h
src/reference/reference.h:
src/base/base.h:
include/fdm/status.h:
src/nn/backend.h:
include/fdm/tensor.h:
