/tmp/wt/conv/bsan/simd/elementwise.portable.o: simd/elementwise.c \
 simd/kernel_table.h simd/kernels.h include/fdm/status.h simd/v16.h \
 simd/v16_portable.h
simd/kernel_table.h:
simd/kernels.h:
include/fdm/status.h:
simd/v16.h:
simd/v16_portable.h:
