/tmp/wt/conv/bsan/src/random/philox.o: src/random/philox.c \
 include/fdm/random.h include/fdm/status.h
include/fdm/random.h:
include/fdm/status.h:
