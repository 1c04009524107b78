/tmp/wt/conv/bsan/src/nn/weights.o: src/nn/weights.c src/nn/weights.h \
 src/nn/graph.h include/fdm/config.h include/fdm/precond.h \
 include/fdm/status.h include/fdm/tensor.h include/fdm/denoiser.h \
 src/nn/backend.h src/base/base.h
src/nn/weights.h:
src/nn/graph.h:
include/fdm/config.h:
include/fdm/precond.h:
include/fdm/status.h:
include/fdm/tensor.h:
include/fdm/denoiser.h:
src/nn/backend.h:
src/base/base.h:
