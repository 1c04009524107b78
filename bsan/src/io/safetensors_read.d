/tmp/wt/conv/bsan/src/io/safetensors_read.o: src/io/safetensors_read.c \
 include/fdm/safetensors.h include/fdm/status.h include/fdm/tensor.h \
 src/base/tensor_set.h src/base/base.h src/io/io.h
include/fdm/safetensors.h:
include/fdm/status.h:
include/fdm/tensor.h:
src/base/tensor_set.h:
src/base/base.h:
src/io/io.h:
