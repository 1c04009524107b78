/tmp/wt/conv/bsan/src/precond/precond.o: src/precond/precond.c \
 include/fdm/precond.h include/fdm/status.h src/base/base.h \
 include/fdm/process.h
include/fdm/precond.h:
include/fdm/status.h:
src/base/base.h:
include/fdm/process.h:
