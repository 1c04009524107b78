/tmp/wt/conv/bsan/src/base/tensor.o: src/base/tensor.c \
 src/base/tensor_set.h src/base/base.h include/fdm/status.h \
 include/fdm/tensor.h
src/base/tensor_set.h:
src/base/base.h:
include/fdm/status.h:
include/fdm/tensor.h:
