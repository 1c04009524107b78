/tmp/wt/conv/bsan/simd/dispatch.o: simd/dispatch.c simd/kernels.h \
 include/fdm/status.h src/base/base.h simd/kernel_table.h
simd/kernels.h:
include/fdm/status.h:
src/base/base.h:
simd/kernel_table.h:
