/tmp/wt/conv/bsan/simd/conv_portable.portable.o: simd/conv_portable.c \
 simd/conv.h simd/kernels.h include/fdm/status.h simd/v16.h \
 simd/v16_portable.h simd/conv_impl.h
simd/conv.h:
simd/kernels.h:
include/fdm/status.h:
simd/v16.h:
simd/v16_portable.h:
simd/conv_impl.h:
