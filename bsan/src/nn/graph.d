/tmp/wt/conv/bsan/src/nn/graph.o: src/nn/graph.c src/nn/graph.h \
 include/fdm/config.h include/fdm/precond.h include/fdm/status.h \
 include/fdm/tensor.h include/fdm/denoiser.h src/nn/backend.h \
 src/base/base.h
src/nn/graph.h:
include/fdm/config.h:
include/fdm/precond.h:
include/fdm/status.h:
include/fdm/tensor.h:
include/fdm/denoiser.h:
src/nn/backend.h:
src/base/base.h:
