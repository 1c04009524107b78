/tmp/wt/conv/bsan/src/base/version.o: src/base/version.c \
 include/fdm/version.h include/fdm/status.h
include/fdm/version.h:
include/fdm/status.h:
