/tmp/wt/conv/bsan/src/io/png_write.o: src/io/png_write.c \
 include/fdm/png.h include/fdm/status.h src/io/atomic_file.h \
 src/base/base.h src/io/io.h include/fdm/tensor.h \
 /usr/include/stb/stb_image_write.h
include/fdm/png.h:
include/fdm/status.h:
src/io/atomic_file.h:
src/base/base.h:
src/io/io.h:
include/fdm/tensor.h:
/usr/include/stb/stb_image_write.h:
