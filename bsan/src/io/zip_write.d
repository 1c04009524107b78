/tmp/wt/conv/bsan/src/io/zip_write.o: src/io/zip_write.c \
 src/io/zip_write.h src/base/base.h include/fdm/status.h \
 src/io/atomic_file.h src/io/text.h
src/io/zip_write.h:
src/base/base.h:
include/fdm/status.h:
src/io/atomic_file.h:
src/io/text.h:
