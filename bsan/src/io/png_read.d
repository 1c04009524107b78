/tmp/wt/conv/bsan/src/io/png_read.o: src/io/png_read.c include/fdm/png.h \
 include/fdm/status.h /usr/include/stb/stb_image.h src/io/io.h \
 src/base/base.h include/fdm/tensor.h
include/fdm/png.h:
include/fdm/status.h:
/usr/include/stb/stb_image.h:
src/io/io.h:
src/base/base.h:
include/fdm/tensor.h:
