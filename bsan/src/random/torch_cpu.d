/tmp/wt/conv/bsan/src/random/torch_cpu.o: src/random/torch_cpu.c \
 src/random/internal.h include/fdm/random.h include/fdm/status.h
src/random/internal.h:
include/fdm/random.h:
include/fdm/status.h:
