/tmp/wt/conv/bsan/src/io/npy.o: src/io/npy.c src/io/npy.h src/base/base.h \
 include/fdm/status.h include/fdm/tensor.h src/io/text.h \
 src/base/tensor_set.h include/fdm/npz.h src/io/atomic_file.h src/io/io.h
src/io/npy.h:
src/base/base.h:
include/fdm/status.h:
include/fdm/tensor.h:
src/io/text.h:
src/base/tensor_set.h:
include/fdm/npz.h:
src/io/atomic_file.h:
src/io/io.h:
