/tmp/wt/conv/bsan/src/verify/compare.o: src/verify/compare.c \
 include/fdm/compare.h include/fdm/status.h include/fdm/tensor.h \
 src/base/base.h
include/fdm/compare.h:
include/fdm/status.h:
include/fdm/tensor.h:
src/base/base.h:
