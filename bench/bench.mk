# Benchmarks: one program per bench/bench_*.c, and the network against its peers.  Included by the Makefile.
BENCH_SRC := $(sort $(wildcard bench/bench_*.c))
BENCH_BIN := $(BENCH_SRC:bench/%.c=$(BUILD)/bench/%)
BENCH_PYTHON ?= /usr/bin/python3
-include $(BENCH_BIN:%=%.d)

$(BUILD)/bench/%: $(BUILD)/bench/%.o $(BUILD)/libfdm.a $(BUILD)/objects.stamp
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) $(BENCH_LDFLAGS) -o $@ $< $(BUILD)/libfdm.a $(LIBS)
# bench/profile.h puts a clock around the backend's functions
$(BUILD)/bench/bench_train: BENCH_LDFLAGS = -Wl,--wrap=fdm_backend_f32
.SECONDARY: $(BENCH_BIN:%=%.o)

.PHONY: bench bench-network bench-train
bench: $(BENCH_BIN)
# BENCH_PYTHON: an interpreter that has torch (Debian: apt install python3-torch); BENCH_ARGS: more options
bench-network: $(BUILD)/bench/bench_network
	$(BENCH_PYTHON) bench/bench_network.py --fdm $< --torch $(BENCH_PYTHON) $(BENCH_ARGS)
bench-train: $(BUILD)/bench/bench_train
	$(BENCH_PYTHON) bench/bench_train.py --fdm $< --torch $(BENCH_PYTHON) $(BENCH_ARGS)
