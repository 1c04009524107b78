/tmp/wt/conv/bsan/src/io/npz_write.o: src/io/npz_write.c \
 include/fdm/npz.h include/fdm/status.h include/fdm/tensor.h src/io/io.h \
 src/base/base.h src/io/npy.h src/io/text.h src/io/zip_write.h \
 src/io/atomic_file.h
include/fdm/npz.h:
include/fdm/status.h:
include/fdm/tensor.h:
src/io/io.h:
src/base/base.h:
src/io/npy.h:
src/io/text.h:
src/io/zip_write.h:
src/io/atomic_file.h:
