/tmp/wt/conv/bsan/src/base/base.o: src/base/base.c src/base/base.h \
 include/fdm/status.h
src/base/base.h:
include/fdm/status.h:
