/tmp/wt/conv/bsan/src/process/schedule.o: src/process/schedule.c \
 include/fdm/process.h include/fdm/status.h
include/fdm/process.h:
include/fdm/status.h:
