/tmp/wt/conv/bsan/src/io/atomic_file.o: src/io/atomic_file.c \
 src/io/atomic_file.h src/base/base.h include/fdm/status.h src/io/io.h \
 include/fdm/tensor.h
src/io/atomic_file.h:
src/base/base.h:
include/fdm/status.h:
src/io/io.h:
include/fdm/tensor.h:
