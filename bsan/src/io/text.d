/tmp/wt/conv/bsan/src/io/text.o: src/io/text.c src/io/text.h \
 src/base/base.h include/fdm/status.h
src/io/text.h:
src/base/base.h:
include/fdm/status.h:
