/tmp/wt/conv/bsan/src/io/tensorfile.o: src/io/tensorfile.c \
 include/fdm/tensorfile.h include/fdm/status.h include/fdm/tensor.h \
 include/fdm/npz.h include/fdm/safetensors.h src/io/io.h src/base/base.h
include/fdm/tensorfile.h:
include/fdm/status.h:
include/fdm/tensor.h:
include/fdm/npz.h:
include/fdm/safetensors.h:
src/io/io.h:
src/base/base.h:
