/tmp/wt/conv/bsan/simd/conv_dispatch.o: simd/conv_dispatch.c simd/conv.h \
 simd/kernels.h include/fdm/status.h
simd/conv.h:
simd/kernels.h:
include/fdm/status.h:
