/tmp/wt/conv/bsan/src/io/image_grid.o: src/io/image_grid.c \
 include/fdm/png.h include/fdm/status.h src/base/base.h
include/fdm/png.h:
include/fdm/status.h:
src/base/base.h:
