/tmp/wt/conv/bsan/src/process/oscillator.o: src/process/oscillator.c \
 include/fdm/process.h include/fdm/status.h src/base/base.h
include/fdm/process.h:
include/fdm/status.h:
src/base/base.h:
