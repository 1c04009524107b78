/tmp/wt/conv/bsan/src/sample/options.o: src/sample/options.c \
 src/sample/internal.h src/base/base.h include/fdm/status.h \
 include/fdm/sample.h include/fdm/random.h
src/sample/internal.h:
src/base/base.h:
include/fdm/status.h:
include/fdm/sample.h:
include/fdm/random.h:
