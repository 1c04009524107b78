/tmp/wt/conv/bsan/src/nn/block.o: src/nn/block.c src/nn/graph.h \
 include/fdm/config.h include/fdm/precond.h include/fdm/status.h \
 include/fdm/tensor.h include/fdm/denoiser.h src/nn/backend.h
src/nn/graph.h:
include/fdm/config.h:
include/fdm/precond.h:
include/fdm/status.h:
include/fdm/tensor.h:
include/fdm/denoiser.h:
src/nn/backend.h:
