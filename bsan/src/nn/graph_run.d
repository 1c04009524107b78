/tmp/wt/conv/bsan/src/nn/graph_run.o: src/nn/graph_run.c src/base/base.h \
 include/fdm/status.h src/nn/graph.h include/fdm/config.h \
 include/fdm/precond.h include/fdm/tensor.h include/fdm/denoiser.h \
 src/nn/backend.h
src/base/base.h:
include/fdm/status.h:
src/nn/graph.h:
include/fdm/config.h:
include/fdm/precond.h:
include/fdm/tensor.h:
include/fdm/denoiser.h:
src/nn/backend.h:
