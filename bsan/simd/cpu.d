/tmp/wt/conv/bsan/simd/cpu.o: simd/cpu.c simd/kernels.h \
 include/fdm/status.h
simd/kernels.h:
include/fdm/status.h:
