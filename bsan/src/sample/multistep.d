/tmp/wt/conv/bsan/src/sample/multistep.o: src/sample/multistep.c \
 src/sample/internal.h src/base/base.h include/fdm/status.h \
 include/fdm/sample.h include/fdm/random.h
src/sample/internal.h:
src/base/base.h:
include/fdm/status.h:
include/fdm/sample.h:
include/fdm/random.h:
