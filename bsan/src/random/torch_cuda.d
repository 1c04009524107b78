/tmp/wt/conv/bsan/src/random/torch_cuda.o: src/random/torch_cuda.c \
 src/random/internal.h include/fdm/random.h include/fdm/status.h
src/random/internal.h:
include/fdm/random.h:
include/fdm/status.h:
