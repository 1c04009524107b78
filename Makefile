# fdm - the CPU ground truth of the Fast Diffusion Model.  `make help` lists the targets.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

CC      ?= gcc
BUILD   ?= build
PREFIX  ?= /usr/local
OPT     ?= -O2
SANITIZE ?=
WERROR  ?= -Werror

PKG_CONFIG ?= pkg-config
WARN := -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Wpointer-arith
DEPS := jansson libzip zlib stb
DEP_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(DEPS) 2>/dev/null)
DEP_LIBS   := $(shell $(PKG_CONFIG) --libs $(DEPS) 2>/dev/null)
CHECK_CFLAGS := $(shell $(PKG_CONFIG) --cflags check 2>/dev/null)
CHECK_LIBS   := $(shell $(PKG_CONFIG) --libs check 2>/dev/null)

# Optional: BLIS gives the reference backend a fast dgemm.
BLIS_DIRS := $(wildcard /usr/include/*/blis-openmp /usr/include/*/blis-pthread /usr/include/blis /usr/local/include/blis)
BLIS_CFLAGS := $(addprefix -I,$(firstword $(BLIS_DIRS)))
HAVE_BLIS := $(shell printf '\043include <cblas.h>\nint main(void){cblas_dgemm(CblasRowMajor,CblasNoTrans,CblasNoTrans,0,0,0,0,0,1,0,1,0,0,1);return 0;}' | $(CC) $(BLIS_CFLAGS) -x c - -o /dev/null -lblis 2>/dev/null && echo 1)
ifeq ($(HAVE_BLIS),1)
BLIS_CFLAGS += -DFDM_HAVE_BLIS
BLIS_LIBS := -lblis
else
BLIS_CFLAGS :=
endif

ifneq ($(SANITIZE),)
SAN := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all -g
endif

# One definition of "deterministic floating point" for every file; see CONTRACT P1 in the README.
FP     := -ffp-contract=off -fno-fast-math
CPPFLAGS_ALL := -Iinclude -Isrc -I. -D_GNU_SOURCE $(DEP_CFLAGS) $(BLIS_CFLAGS) $(CPPFLAGS)
CFLAGS_ALL   := -std=c11 $(OPT) -g $(WARN) $(FP) -fPIC -fvisibility=hidden -fopenmp -MMD -MP $(SAN) $(CFLAGS)
LIBS := $(DEP_LIBS) $(BLIS_LIBS) -lm

ISA_portable := -DFDM_ISA_PORTABLE
ISA_avx2     := -DFDM_ISA_AVX2 -mavx2 -mfma
ISA_avx512   := -DFDM_ISA_AVX512 -mavx2 -mfma -mavx512f -mavx512dq -mavx512bw -mavx512vl -mprefer-vector-width=512

LIB_DIRS := base process precond nn reference random train sample io verify
LIB_SRC  := $(foreach d,$(LIB_DIRS),$(wildcard src/$(d)/*.c))
CLI_SRC  := $(wildcard src/cli/*.c)
# simd/: run-time dispatch once; *_<isa>.c for that ISA; every other file three times.
SIMD_ONCE := $(wildcard simd/cpu.c simd/dispatch.c)
SIMD_PER  := $(foreach i,portable avx2 avx512,$(wildcard simd/*_$(i).c))
SIMD_ALL  := $(filter-out $(SIMD_ONCE) $(SIMD_PER),$(wildcard simd/*.c))

LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o) $(SIMD_ONCE:%.c=$(BUILD)/%.o) \
            $(foreach i,portable avx2 avx512,$(patsubst %.c,$(BUILD)/%.$(i).o,$(filter %_$(i).c,$(SIMD_PER)) $(SIMD_ALL)))
CLI_OBJ  := $(CLI_SRC:%.c=$(BUILD)/%.o)
TEST_SRC := $(wildcard tests/test_*.c)
TEST_BIN := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
TEST_HELP_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(TEST_SRC) $(wildcard tests/fuzz_*.c),$(wildcard tests/*.c)))

.PHONY: all
all: $(BUILD)/libfdm.a $(if $(CLI_SRC),$(BUILD)/fdm)

$(BUILD)/libfdm.a: $(LIB_OBJ)
	@rm -f $@; ar rcs $@ $^

$(BUILD)/fdm: $(CLI_OBJ) $(BUILD)/libfdm.a
	$(CC) $(CFLAGS_ALL) -o $@ $(CLI_OBJ) $(BUILD)/libfdm.a $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CHECK_CFLAGS) $(CFLAGS_ALL) -c -o $@ $<

define isa_rule
$(BUILD)/%.$(1).o: %.c
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS_ALL) $$(CFLAGS_ALL) -O3 $$(ISA_$(1)) -c -o $$@ $$<
endef
$(foreach i,portable avx2 avx512,$(eval $(call isa_rule,$(i))))

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_HELP_OBJ) $(BUILD)/libfdm.a
	$(CC) $(CFLAGS_ALL) -o $@ $< $(TEST_HELP_OBJ) $(BUILD)/libfdm.a $(CHECK_LIBS) $(LIBS)

.PHONY: tests check
tests: $(TEST_BIN)
check: all tests
	@status=0; for t in $(TEST_BIN); do echo "== $$t"; $$t || status=1; done; exit $$status

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
