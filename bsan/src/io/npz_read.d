/tmp/wt/conv/bsan/src/io/npz_read.o: src/io/npz_read.c include/fdm/npz.h \
 include/fdm/status.h include/fdm/tensor.h src/base/tensor_set.h \
 src/base/base.h src/io/io.h src/io/npy.h src/io/text.h
include/fdm/npz.h:
include/fdm/status.h:
include/fdm/tensor.h:
src/base/tensor_set.h:
src/base/base.h:
src/io/io.h:
src/io/npy.h:
src/io/text.h:
