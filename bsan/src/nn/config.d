/tmp/wt/conv/bsan/src/nn/config.o: src/nn/config.c include/fdm/config.h \
 include/fdm/precond.h include/fdm/status.h include/fdm/tensor.h \
 src/base/base.h src/nn/graph.h include/fdm/denoiser.h src/nn/backend.h
include/fdm/config.h:
include/fdm/precond.h:
include/fdm/status.h:
include/fdm/tensor.h:
src/base/base.h:
src/nn/graph.h:
include/fdm/denoiser.h:
src/nn/backend.h:
