# fdm - the CPU ground truth of the Fast Diffusion Model.  `make help` lists the targets.
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

ifeq ($(origin CC),default)
CC := gcc
endif
BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
LIBDIR   ?= $(PREFIX)/lib
OPT      ?= -O2
SANITIZE ?=
WERROR   ?= -Werror
Q        := $(if $(V),,@)

VERSION := $(shell sed -n 's/^\#define FDM_VERSION "\([0-9.]*\)".*/\1/p' include/fdm/version.h)
SONAME  := libfdm.so.$(firstword $(subst ., ,$(VERSION)))

# ---- What to build -------------------------------------------------------------------------------------------
ISAS     := portable avx2 avx512
LIB_DIRS := base process precond nn reference random train sample simulate io verify metric
LIB_SRC  := $(sort $(foreach d,$(LIB_DIRS),$(wildcard src/$(d)/*.c)))
CLI_SRC  := $(sort $(wildcard src/cli/*.c))
# simd/: run-time dispatch once; *_<isa>.c for that ISA; every other file three times.
SIMD_ONCE := $(wildcard simd/cpu.c simd/dispatch.c simd/*_dispatch.c)
SIMD_PER  := $(foreach i,$(ISAS),$(wildcard simd/*_$(i).c))
SIMD_ALL  := $(filter-out $(SIMD_ONCE) $(SIMD_PER),$(wildcard simd/*.c))

LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o) $(SIMD_ONCE:%.c=$(BUILD)/%.o) \
            $(foreach i,$(ISAS),$(patsubst %.c,$(BUILD)/%.$(i).o,$(filter %_$(i).c,$(SIMD_PER)) $(SIMD_ALL)))
MPI_SRC  := src/cli/ranks_mpi.c
CLI_OBJ  := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(MPI_SRC),$(CLI_SRC)))
TEST_SRC := $(sort $(wildcard tests/test_*.c))
TEST_BIN := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
TEST_HELP_SRC := $(filter-out $(TEST_SRC) $(wildcard tests/fuzz_*.c),$(wildcard tests/*.c))
TEST_HELP_OBJ := $(TEST_HELP_SRC:%.c=$(BUILD)/%.o)

# ---- What this machine has -----------------------------------------------------------------------------------
# Goals that compile nothing themselves need none of it: `make test` on a bare machine first installs compilers.
PLAIN_GOALS := help clean demo test deps sanitize sanitize-threads emulate-avx512 uninstall format-check
ifneq ($(filter-out $(PLAIN_GOALS),$(or $(MAKECMDGOALS),all)),)

PKG_CONFIG ?= pkg-config
CC_VERSION := $(shell $(CC) --version 2>/dev/null | head -n 1)
ifeq ($(CC_VERSION),)
$(error no compiler: $(CC) does not run. On Debian or Ubuntu: apt install gcc libc6-dev)
endif
ifeq ($(shell command -v $(PKG_CONFIG)),)
$(error $(PKG_CONFIG) is missing. On Debian or Ubuntu: apt install pkg-config)
endif
have = $(shell $(PKG_CONFIG) --exists $(1) 2>/dev/null && $(PKG_CONFIG) --modversion $(1))
# $(call require,pkg-config name,Debian package,what for)
require = $(if $(call have,$(1)),,$(error $(1) is missing ($(3)). On Debian or Ubuntu: apt install $(2)))
$(call require,jansson,libjansson-dev,JSON)
$(call require,zlib,zlib1g-dev,PNG and zip archives)
$(call require,stb,libstb-dev,PNG files)
DEPS := jansson zlib stb
DEP_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(DEPS)))
DEP_LIBS   := $(shell $(PKG_CONFIG) --libs $(DEPS))
# The tests alone; libzip makes the archives that the library's own reader is held against.
CHECK_VERSION := $(and $(call have,libzip),$(call have,check))
CHECK_CFLAGS  := $(shell $(PKG_CONFIG) --cflags check libzip 2>/dev/null)
CHECK_LIBS    := $(shell $(PKG_CONFIG) --libs check libzip 2>/dev/null)

compiles = $(shell printf '$(1)' | $(CC) -x c - -o /dev/null $(2) 2>/dev/null && echo yes)
# Optional: OpenMP; without it everything runs on one thread.  WITH_OPENMP=no leaves it out.
HAVE_OPENMP := $(if $(filter no,$(WITH_OPENMP)),,$(call compiles,\043include <omp.h>\nint main(void){return omp_get_max_threads() < 1;}\n,-fopenmp))
OPENMP := $(if $(HAVE_OPENMP),-fopenmp,-Wno-unknown-pragmas -Wno-unused-parameter)
# Optional: BLIS gives the reference backend a fast dgemm.  BLIS=no leaves it out.
BLIS_DIRS := $(wildcard /usr/include/*/blis-openmp /usr/include/*/blis-pthread /usr/include/blis /usr/local/include/blis)
BLIS_INC  := $(addprefix -isystem ,$(firstword $(BLIS_DIRS)))
HAVE_BLIS := $(if $(filter no,$(BLIS)),,$(call compiles,\043include <cblas.h>\nint \
  main(void){cblas_dgemm(CblasRowMajor,CblasNoTrans,CblasNoTrans,0,0,0,0,0,1,0,1,0,0,1);return 0;}\n,$(BLIS_INC) -lblis))
BLIS_CFLAGS := $(if $(HAVE_BLIS),$(BLIS_INC) -DFDM_HAVE_BLIS)
BLIS_LIBS   := $(if $(HAVE_BLIS),-lblis)
# Optional, and opened only when `fdm metric` needs eigenvalues: LAPACK.  LAPACK=no leaves it out.
HAVE_LAPACK := $(if $(filter no,$(LAPACK)),,$(call compiles,void dsyevr_(void);int main(void){dsyevr_();return 0;}\n,-l:liblapack.so.3))
LAPACK_CFLAGS := $(if $(filter no,$(LAPACK)),-DFDM_NO_LAPACK)
LAPACK_LIBS   := $(if $(filter no,$(LAPACK)),,-ldl)

# Optional: cairo draws the figures of `fdm process`; the command alone needs it, not the library.  CAIRO=no leaves it out.
HAVE_CAIRO := $(if $(filter no,$(CAIRO)),,$(and $(call have,cairo),$(call have,cairo-svg),$(call have,cairo)))
CAIRO_CFLAGS := $(if $(HAVE_CAIRO),$(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags cairo)) -DFDM_HAVE_CAIRO)
CAIRO_LIBS   := $(if $(HAVE_CAIRO),$(shell $(PKG_CONFIG) --libs cairo))

# Optional: MPI, for the command alone (work shared by several machines): the first of these that is here.  MPI=openmpi or
# mpich chooses, MPI=1 insists on one, MPI=no leaves it out.
PC_openmpi := ompi-c
PC_mpich   := mpich
MPIS := $(foreach m,openmpi mpich,$(if $(call have,$(PC_$(m))),$(m)))
MPI_KIND := $(or $(if $(filter no,$(MPI)),none),$(firstword $(filter $(or $(filter openmpi mpich,$(MPI)),%),$(MPIS))),none)
ifneq ($(filter-out no,$(MPI)),)
$(if $(filter none,$(MPI_KIND)),$(error MPI=$(MPI): not found. On Debian or Ubuntu: apt install libopenmpi-dev, or libmpich-dev))
endif
mpi_cflags = $(if $(filter none,$(1)),,$(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags $(PC_$(1)))) -DFDM_HAVE_MPI)
mpi_libs   = $(if $(filter none,$(1)),,$(shell $(PKG_CONFIG) --libs $(PC_$(1))))

CPU_FLAGS := $(shell grep -m1 '^flags' /proc/cpuinfo 2>/dev/null)
has_all = $(if $(filter-out $(CPU_FLAGS),$(1)),,yes)
CPU_ISA := portable$(if $(call has_all,avx2 fma), avx2)$(if $(call has_all,avx2 fma avx512f avx512dq avx512bw avx512vl), avx512)

define DETECTED
fdm $(VERSION) -> $(BUILD)/
  compiler  $(CC_VERSION)
  OpenMP    $(if $(HAVE_OPENMP),yes,no: one thread only$(if $(filter no,$(WITH_OPENMP)),, (for clang: apt install libomp-dev)))
  BLIS      $(if $(HAVE_BLIS),yes,no: the reference backend uses its own loops$(if $(filter no,$(BLIS)),, (apt install libblis-openmp-dev)))
  LAPACK    $(if $(HAVE_LAPACK),yes,no: fdm metric is off$(if $(filter no,$(LAPACK)),, (apt install liblapack3)))
  cairo     $(or $(HAVE_CAIRO),no: fdm process draws no figures$(if $(filter no,$(CAIRO)),, (apt install libcairo2-dev)))
  MPI       $(if $(filter none,$(MPI_KIND)),no: fdm runs on one machine$(if $(filter no,$(MPI)),, (apt install libopenmpi-dev)),$(MPI_KIND) $(call have,$(PC_$(MPI_KIND))))
  jansson   $(call have,jansson)
  zlib      $(call have,zlib)
  stb       $(call have,stb)
  Check     $(or $(CHECK_VERSION),no: tests are off (apt install check libzip-dev))
  this CPU  $(CPU_ISA)
endef
ifneq ($(filter all config,$(or $(MAKECMDGOALS),all)),)
ifeq ($(FDM_QUIET_CONFIG),)
$(info $(DETECTED))
endif
endif
endif

# ---- Flags ---------------------------------------------------------------------------------------------------
WARN := -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wpointer-arith
ifneq ($(findstring clang,$(CC)),)
WARN += -Wno-pass-failed # an `omp simd` that an optimisation level does not follow is no error
endif
# One definition of "deterministic floating point" for every file (README, promise P1); after CFLAGS so that it wins.
FP   := -ffp-contract=off -fno-fast-math
ifneq ($(SANITIZE),)
SAN := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all -DFDM_POISON
ifeq ($(findstring clang,$(CC)),)
SAN += -Wno-format-truncation -Wno-maybe-uninitialized # gcc: false alarms in instrumented code
endif
endif
CPPFLAGS_ALL := -Iinclude -Isrc -I. -D_GNU_SOURCE $(DEP_CFLAGS) $(BLIS_CFLAGS) $(LAPACK_CFLAGS) $(CAIRO_CFLAGS) $(CPPFLAGS)
CFLAGS_ALL   := -std=c11 $(OPT) -g $(WARN) -fPIC -fvisibility=hidden $(OPENMP) $(SAN) $(CFLAGS) $(FP)
LIBS         := -Wl,--as-needed $(DEP_LIBS) $(BLIS_LIBS) $(LAPACK_LIBS) -lm -pthread

ISA_portable := -DFDM_ISA_PORTABLE
ISA_avx2     := -DFDM_ISA_AVX2 -mavx2 -mfma
ISA_avx512   := -DFDM_ISA_AVX512 -mavx2 -mfma -mavx512f -mavx512dq -mavx512bw -mavx512vl -mprefer-vector-width=512
# The avx512 kernels where there is no AVX-512, for the tests: slow, and not what a compiler makes of the real ones.
ifneq ($(EMULATE_AVX512),)
ifneq ($(CC_VERSION),)
ifeq ($(call compiles,\043include <simde/x86/avx512.h>\nint main(void){return 0;}\n),)
$(error simde/x86/avx512.h is missing (EMULATE_AVX512). On Debian or Ubuntu: apt install libsimde-dev)
endif
endif
CPPFLAGS_ALL += -DFDM_AVX512_EMULATED
ISA_avx512   := -DFDM_ISA_AVX512 -Itests/avx512_emulated -Wno-psabi $(filter -m%,$(ISA_avx2))
endif

# ---- Library and command -------------------------------------------------------------------------------------
.PHONY: all lib config
all: lib $(if $(CLI_SRC),$(BUILD)/fdm) $(BUILD)/fdm.pc
lib: $(BUILD)/libfdm.a $(BUILD)/libfdm.so
config: ;@:

# A stamp holds what the outputs depend on beyond their files; it is touched only when its text changes.
define stamp
@mkdir -p $(@D)
@printf '%s\n' "$$STAMP_TEXT" | cmp -s - $@ || printf '%s\n' "$$STAMP_TEXT" >$@
endef
.PHONY: FORCE
FORCE:
$(BUILD)/flags.stamp: export STAMP_TEXT = $(CC) $(CC_VERSION) $(CPPFLAGS_ALL) $(CHECK_CFLAGS) $(CFLAGS_ALL) $(LDFLAGS) $(CAIRO_LIBS) $(LIBS)
$(BUILD)/flags.stamp: FORCE
	$(stamp)
$(BUILD)/objects.stamp: export STAMP_TEXT = $(LIB_OBJ) | $(CLI_OBJ) $(MPI_KIND) | $(TEST_HELP_OBJ)
$(BUILD)/objects.stamp: FORCE
	$(stamp)

$(BUILD)/libfdm.a: $(LIB_OBJ) $(BUILD)/objects.stamp
	@echo "  AR    $@"
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJ)

$(BUILD)/libfdm.so: $(LIB_OBJ) $(BUILD)/objects.stamp
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS_ALL) -shared -Wl,-soname,$(SONAME) $(if $(SANITIZE),,-Wl,-z,defs) $(LDFLAGS) -o $@ $(LIB_OBJ) $(LIBS)

# fdm with the MPI that was chosen; fdm-openmpi, fdm-mpich, for whoever wants the other one, too.
define mpi_rules
$(BUILD)/src/cli/ranks_mpi.$(1).o: $(MPI_SRC) $(BUILD)/flags.stamp
	@mkdir -p $$(@D)
	@echo "  CC    $$< ($(1))"
	$(Q)$$(CC) $$(CPPFLAGS_ALL) $$(call mpi_cflags,$(1)) $$(CFLAGS_ALL) -MMD -MP -c -o $$@ $$<
$(BUILD)/fdm-$(1) $(if $(filter $(1),$(MPI_KIND)),$(BUILD)/fdm): $(CLI_OBJ) $(BUILD)/src/cli/ranks_mpi.$(1).o $(BUILD)/libfdm.a $(BUILD)/objects.stamp
	@echo "  LINK  $$@"
	$(Q)$$(CC) $$(CFLAGS_ALL) $$(LDFLAGS) -o $$@ $$(filter %.o %.a,$$^) $$(CAIRO_LIBS) $$(LIBS) $$(call mpi_libs,$(1))
$(BUILD)/tests/mpi/patience-$(1): $(BUILD)/tests/mpi/patience.o $(BUILD)/src/cli/ranks_mpi.$(1).o $(BUILD)/libfdm.a
	$(Q)$$(CC) $$(CFLAGS_ALL) $$(LDFLAGS) -o $$@ $$^ $$(LIBS) $$(call mpi_libs,$(1))
endef
$(foreach m,none $(MPIS),$(eval $(call mpi_rules,$(m))))

$(BUILD)/tests/mpi/slow_calls.so: tests/mpi/slow_calls.c $(BUILD)/flags.stamp
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -fvisibility=default -shared -o $@ $<

$(BUILD)/tests/%.o: tests/%.c $(BUILD)/flags.stamp
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CHECK_CFLAGS) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.c $(BUILD)/flags.stamp
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

define isa_rule
$(BUILD)/%.$(1).o: %.c $(BUILD)/flags.stamp
	@mkdir -p $$(@D)
	@echo "  CC    $$< ($(1))"
	$(Q)$$(CC) $$(CPPFLAGS_ALL) $$(CFLAGS_ALL) $(if $(SANITIZE),,-O3) $$(ISA_$(1)) -MMD -MP -c -o $$@ $$<
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))

-include $(patsubst %.o,%.d,$(LIB_OBJ) $(CLI_OBJ) $(MPIS:%=$(BUILD)/src/cli/ranks_mpi.%.o) $(TEST_HELP_OBJ) $(TEST_BIN:%=%.o))

# ---- Install -------------------------------------------------------------------------------------------------
define PC_TEXT
prefix=$(abspath $(PREFIX))
libdir=$(abspath $(LIBDIR))
includedir=$${prefix}/include

Name: fdm
Description: CPU ground truth of the Fast Diffusion Model
Version: $(VERSION)
Cflags: -I$${includedir}
Libs: -L$${libdir} -lfdm
Libs.private: $(DEP_LIBS) $(BLIS_LIBS) $(LAPACK_LIBS) $(if $(HAVE_OPENMP),-fopenmp) -lm -pthread
endef
$(BUILD)/fdm.pc: export STAMP_TEXT = $(PC_TEXT)
$(BUILD)/fdm.pc: FORCE
	$(stamp)

.PHONY: install uninstall
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include/fdm
	install -m 755 $(BUILD)/fdm $(DESTDIR)$(PREFIX)/bin/fdm
	install -m 644 $(BUILD)/libfdm.a $(DESTDIR)$(LIBDIR)/libfdm.a
	install -m 755 $(BUILD)/libfdm.so $(DESTDIR)$(LIBDIR)/libfdm.so.$(VERSION)
	ln -sf libfdm.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libfdm.so
	install -m 644 include/fdm.h $(DESTDIR)$(PREFIX)/include/fdm.h
	install -m 644 include/fdm/*.h $(DESTDIR)$(PREFIX)/include/fdm/
	install -m 644 $(BUILD)/fdm.pc $(DESTDIR)$(LIBDIR)/pkgconfig/fdm.pc

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/fdm $(DESTDIR)$(LIBDIR)/libfdm.a $(DESTDIR)$(LIBDIR)/libfdm.so.$(VERSION) \
	  $(DESTDIR)$(LIBDIR)/$(SONAME) $(DESTDIR)$(LIBDIR)/libfdm.so $(DESTDIR)$(LIBDIR)/pkgconfig/fdm.pc \
	  $(DESTDIR)$(PREFIX)/include/fdm.h
	rm -rf $(DESTDIR)$(PREFIX)/include/fdm

# ---- Tests ---------------------------------------------------------------------------------------------------
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_HELP_OBJ) $(BUILD)/libfdm.a $(BUILD)/objects.stamp
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $< $(TEST_HELP_OBJ) $(BUILD)/libfdm.a $(CHECK_LIBS) $(LIBS)
.SECONDARY: $(TEST_BIN:%=%.o) $(TEST_HELP_OBJ)

.PHONY: tests run-tests run-units test demo run-demo deps sanitize sanitize-threads run-races emulate-avx512
tests: $(TEST_BIN)

# run-*: for a machine that has everything.  test and demo first install what is missing; being a make of its
# own, the second step then sees what was installed.
run-tests: all tests
	@CC="$(CC)" MAKE="$(MAKE)" SANITIZE="$(SANITIZE)" bash tests/run.sh $(BUILD) $(TESTS)
test:
	@CC="$(CC)" .ci/install-deps test
	@$(MAKE) --no-print-directory run-tests
deps:
	@CC="$(CC)" .ci/install-deps test

demo:
	@CC="$(CC)" .ci/install-deps build
	@$(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc)) run-demo
run-demo: $(BUILD)/fdm
	@bash data/demo.sh $(BUILD)

# clang, if there: gcc takes many minutes to instrument the kernels.  Without BLIS, whose memory pools look like leaks
# and which hides our own matrix product from the sanitizers.
SANITIZE_CC = $(or $(shell command -v clang),$(CC))
sanitize:
	@$(MAKE) --no-print-directory CC=$(SANITIZE_CC) BUILD=$(BUILD)-asan SANITIZE=address,undefined OPT=-O1 BLIS=no MPI=no run-tests

# The threads that are not OpenMP's (whose barriers ThreadSanitizer does not know): ranks as threads, each with another one that
# sends its gradients while the backward pass makes them.
RACES := test_ranks test_train_ranks
sanitize-threads:
	@$(MAKE) --no-print-directory CC=$(SANITIZE_CC) BUILD=$(BUILD)-tsan SANITIZE=thread WITH_OPENMP=no OPT=-O1 BLIS=no LAPACK=no CAIRO=no MPI=no run-races
run-races: $(RACES:%=$(BUILD)/tests/%)
	@SANITIZE="$(SANITIZE)" bash tests/run.sh $(BUILD) $(RACES)

# Every test that compares instruction sets, on a machine that lacks one of them (libsimde-dev).
emulate-avx512:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-avx512 EMULATE_AVX512=yes run-tests

# ---- Figures, and the long checks of the process library --------------------------------------------------------
FIGURES := scale.svg moments.svg phase.svg clouds.png strip.png descent.svg orders.svg reverse.svg nfe.svg
FIGURE_ARGS_strip := --image data/emoji32.zip --index 7
.PHONY: figures process-check
figures: all
	@mkdir -p data/figures
	@for figure in $(FIGURES); do echo "  FIGURE data/figures/$$figure"; \
	  case $$figure in strip.*) more="$(FIGURE_ARGS_strip)" ;; *) more= ;; esac; \
	  $(BUILD)/fdm process -q --figure $${figure%.*} $$more --plot data/figures/$$figure || exit; done

# 10^7 particles in every regime, orders of convergence with narrow error bars, and the simulators' speed on one core.
process-check: all $(BUILD)/tests/test_simulate $(BUILD)/bench/bench_simulate
	FDM_TEST_PARTICLES=10000000 CK_DEFAULT_TIMEOUT=3600 $(BUILD)/tests/test_simulate
	OMP_NUM_THREADS=1 $(BUILD)/bench/bench_simulate --threads 1

# ---- Analysis ------------------------------------------------------------------------------------------------
CLANG_TIDY ?= clang-tidy
TIDY_SRC   := $(LIB_SRC) $(CLI_SRC) $(SIMD_ONCE) $(SIMD_ALL) $(filter %_portable.c,$(SIMD_PER))
.PHONY: tidy format-check
tidy: $(TIDY_SRC:%=$(BUILD)/tidy/%.ok)
$(BUILD)/tidy/%.ok: % .clang-tidy $(wildcard include/fdm/*.h src/*/*.h simd/*.h) $(BUILD)/flags.stamp
	@mkdir -p $(@D)
	@echo "  TIDY  $<"
	$(Q)$(CLANG_TIDY) --quiet --warnings-as-errors='*' $< -- -std=c11 $(CPPFLAGS_ALL) $(call mpi_cflags,$(MPI_KIND)) $(OPENMP) $(ISA_portable) 2>$@.log \
	  || { cat $@.log; exit 1; }
	@touch $@

format-check:
	@command -v clang-format >/dev/null || { echo "clang-format is missing: apt install clang-format"; exit 1; }
	@clang-format --dry-run --Werror $(wildcard include/*.h include/fdm/*.h) $(shell find src simd tests bench -name '*.[ch]')

-include tests/fuzz.mk
-include bench/bench.mk

.PHONY: clean help
clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-avx512

define HELP
make            the library ($(BUILD)/libfdm.a, libfdm.so) and the command ($(BUILD)/fdm)
make demo       installs what is missing, builds, draws labelled pictures, compares with the published output, trains a network
make test       installs what is missing, builds, runs every test; the last line says how many passed
make install    PREFIX=$(PREFIX) DESTDIR=  (and make uninstall)

make lib        the library alone            make tests      the test programs, without running them
make run-tests  the tests, installs nothing; TESTS='test_compare cli' runs only those
make sanitize   build and tests under ASan and UBSan ($(BUILD)-asan/)
make sanitize-threads   ThreadSanitizer on gradients that are summed over ranks ($(BUILD)-tsan/)
make emulate-avx512   the tests with the avx512 kernels emulated on AVX2 ($(BUILD)-avx512/), where a CPU has no AVX-512
make figures    the figures of the method, data/figures/ (cairo)
make process-check   10^7 particles against closed forms, orders of convergence, particle steps per second (a minute)
make fuzz       the fuzzers, make fuzz-smoke a minute of them (clang)
make bench      fdm against the peers that are here (PyTorch, ONNX Runtime, oneDNN, BLIS): BENCH_ARGS=--quick, BENCH_PYTHON=...
make bench-mpi  gradients summed over MPI ranks, against MPI_Allreduce: BENCH_MPI_RANKS="2 4", BENCH_MPI_RATES="1gbit 200mbit" as root
make bench-scaling   cost against threads, batch, resolution, width; an estimate for 64 cores
make bench-cluster   a model of training on 1 to 256 machines (make bench-cluster-check: against ranks in network namespaces, as root)
make reproduce  the paper's claim in miniature, trained here: hours, resumable; make reproduce-quick: ten minutes (bench/reproduce.py)
make check-import    fdm import against PyTorch with large files: seconds and memory, bench/results/import.md (BENCH_PYTHON=...)
make check-verify    fdm verify against PyTorch: planted bugs, false alarms, a large network (BENCH_PYTHON=...)
make tidy       clang-tidy, warnings as errors    make format-check   clang-format, changes nothing
make config     what was detected here            make deps           only installs what is missing
make clean

Variables: CC=gcc|clang  BUILD=dir  OPT=-O2  CFLAGS=  WERROR=  BLIS=no  LAPACK=no  CAIRO=no  MPI=openmpi|mpich|no  WITH_OPENMP=no  SANITIZE=address,undefined  V=1 (show commands)
endef
help: export HELP_TEXT = $(HELP)
help:
	@printf '%s\n' "$$HELP_TEXT"
