/tmp/wt/conv/bsan/src/io/file_map.o: src/io/file_map.c src/io/io.h \
 src/base/base.h include/fdm/status.h include/fdm/tensor.h
src/io/io.h:
src/base/base.h:
include/fdm/status.h:
include/fdm/tensor.h:
