/tmp/wt/conv/bsan/src/random/mt19937.o: src/random/mt19937.c \
 include/fdm/random.h include/fdm/status.h
include/fdm/random.h:
include/fdm/status.h:
