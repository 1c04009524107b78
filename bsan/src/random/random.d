/tmp/wt/conv/bsan/src/random/random.o: src/random/random.c \
 src/random/internal.h include/fdm/random.h include/fdm/status.h \
 src/base/base.h
src/random/internal.h:
include/fdm/random.h:
include/fdm/status.h:
src/base/base.h:
