/tmp/wt/conv/bsan/src/io/safetensors_write.o: src/io/safetensors_write.c \
 include/fdm/safetensors.h include/fdm/status.h include/fdm/tensor.h \
 src/base/tensor_set.h src/base/base.h src/io/atomic_file.h src/io/io.h \
 src/io/text.h
include/fdm/safetensors.h:
include/fdm/status.h:
include/fdm/tensor.h:
src/base/tensor_set.h:
src/base/base.h:
src/io/atomic_file.h:
src/io/io.h:
src/io/text.h:
