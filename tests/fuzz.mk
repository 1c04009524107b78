# Fuzzers: tests/fuzz_NAME.c with seeds in tests/corpus/NAME/ and words in tests/corpus/NAME.dict (optional).
#   make fuzz          every fuzzer for FUZZ_SECONDS seconds (60)      FUZZ="npz png": only these
#   make fuzz-smoke    the same for 3 seconds
# What they find beyond the seeds stays in $(BUILD)/fuzz/corpus/NAME and is their start the next time; an input that
# crashes is kept as $(BUILD)/fuzz/NAME-crash-*.  Needs clang with libFuzzer (Debian: clang, libclang-rt-*-dev).
#
# A new fuzzer: write tests/fuzz_NAME.c, name the sources that it should instrument beyond src/base and src/io below.
FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 60
FUZZ         ?= $(patsubst tests/fuzz_%.c,%,$(sort $(wildcard tests/fuzz_*.c)))
FUZZ_DIR     := $(BUILD)/fuzz
FUZZ_SRC     := $(sort $(wildcard src/base/*.c src/io/*.c))
FUZZ_EXTRA_config := src/nn/config.c
FUZZ_LIBS_config   = $(BUILD)/libfdm.a -lgomp $(BLIS_LIBS)
FUZZ_EXTRA_settings := src/train/settings.c
FUZZ_LIBS_settings  = $(BUILD)/libfdm.a -lgomp $(BLIS_LIBS)
FUZZ_EXTRA_published := src/train/published.c src/nn/config.c src/nn/weights.c
FUZZ_LIBS_published  = $(BUILD)/libfdm.a -lgomp $(BLIS_LIBS)
# Room for bombs.  Slow inputs the fuzzer itself finds, by CPU time (fuzz_clock.h); -timeout is for those without an end.
FUZZ_LONG := pickle published

# The mode macro leaves out checksums, which no fuzzer can guess.
FUZZ_CFLAGS := -std=c11 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DFDM_FUZZ_OWN_STB \
               -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -Wno-unknown-pragmas $(FP)

.PHONY: fuzz fuzz-smoke fuzz-build
fuzz-build: $(FUZZ:%=$(FUZZ_DIR)/fuzz_%)

$(FUZZ_DIR)/%.o: %.c $(BUILD)/flags.stamp tests/fuzz.mk
	@mkdir -p $(@D)
	@echo "  FUZZ  $<"
	$(Q)$(FUZZ_CC) $(CPPFLAGS_ALL) $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<

# An archive, so that a fuzzer is linked only with what it uses.
$(FUZZ_DIR)/libfuzz.a: $(FUZZ_SRC:%.c=$(FUZZ_DIR)/%.o)
	$(Q)rm -f $@ && ar rcs $@ $^

define fuzz_rule
$(FUZZ_DIR)/fuzz_$(1): $(FUZZ_DIR)/tests/fuzz_$(1).o $(FUZZ_EXTRA_$(1):%.c=$(FUZZ_DIR)/%.o) $(FUZZ_DIR)/libfuzz.a \
                       $(filter %.a,$(FUZZ_LIBS_$(1)))
	@echo "  LINK  $$@"
	$(Q)$$(FUZZ_CC) $$(FUZZ_CFLAGS) -o $$@ $$(filter %.o,$$^) $(FUZZ_DIR)/libfuzz.a $(FUZZ_LIBS_$(1)) \
	  $$(filter-out -lstb,$$(DEP_LIBS)) -lm
endef
$(foreach f,$(FUZZ),$(eval $(call fuzz_rule,$(f))))
.SECONDARY: $(FUZZ:%=$(FUZZ_DIR)/tests/fuzz_%.o)

-include $(patsubst %.c,$(FUZZ_DIR)/%.d,$(FUZZ_SRC) $(FUZZ:%=tests/fuzz_%.c))

fuzz: fuzz-build
	@for f in $(FUZZ); do \
	  echo "== fuzz_$$f, $(FUZZ_SECONDS) s"; mkdir -p $(FUZZ_DIR)/corpus/$$f tests/corpus/$$f; \
	  dict=tests/corpus/$$f.dict; [ -f $$dict ] && dict=-dict=$$dict || dict=; \
	  case " $(FUZZ_LONG) " in *" $$f "*) max_len=65536 ;; *) max_len=4096 ;; esac; \
	  $(FUZZ_DIR)/fuzz_$$f -max_total_time=$(FUZZ_SECONDS) -max_len=$$max_len -timeout=120 -rss_limit_mb=4096 \
	    -print_final_stats=1 -artifact_prefix=$(FUZZ_DIR)/$$f- $$dict $(FUZZ_DIR)/corpus/$$f tests/corpus/$$f \
	    2>$(FUZZ_DIR)/$$f.log || { tail -n 60 $(FUZZ_DIR)/$$f.log; exit 1; }; \
	  grep -E 'number_of_executed_units|peak_rss' $(FUZZ_DIR)/$$f.log; grep -E 'cov: ' $(FUZZ_DIR)/$$f.log | tail -n 1; \
	done
fuzz-smoke:
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=3
