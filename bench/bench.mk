# Benchmarks: `fdm bench` against the peers that are there (compare.py), how cost grows (scaling.py), one small program per
# bench/bench_*.c; and the paper's claim in miniature (reproduce.py).  Included by the Makefile.
BENCH_SRC := $(filter-out bench/bench_mpi.c,$(sort $(wildcard bench/bench_*.c)))
# Peers in C, where they are installed (libdnnl-dev, libblis-openmp-dev).
BENCH_MAKES := $(filter bench% $(BUILD)/bench/%,$(MAKECMDGOALS))
HAVE_DNNL := $(and $(BENCH_MAKES),$(call compiles,\043include <oneapi/dnnl/dnnl.h>\nint main(void){return dnnl_version() == 0;}\n,-ldnnl))
BENCH_LEFT_OUT := $(if $(HAVE_DNNL),,bench/bench_onednn.c) $(if $(HAVE_BLIS),,bench/bench_blis.c)
BENCH_BIN := $(patsubst bench/%.c,$(BUILD)/bench/%,$(filter-out $(BENCH_LEFT_OUT),$(BENCH_SRC)))
-include $(BENCH_BIN:%=%.d)

$(BUILD)/bench/bench_onednn: BENCH_LIBS = -ldnnl
$(BUILD)/bench/bench_ranks: BENCH_LIBS = $(call mpi_libs,$(MPI_KIND))
$(BUILD)/bench/bench_ranks: BENCH_OBJ = $(BUILD)/src/cli/ranks_mpi.$(MPI_KIND).o
$(BUILD)/bench/bench_ranks: $(BUILD)/src/cli/ranks_mpi.$(MPI_KIND).o
$(BUILD)/bench/%: $(BUILD)/bench/%.o $(BUILD)/libfdm.a $(BUILD)/objects.stamp
	@echo "  LINK  $@"
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $< $(BENCH_OBJ) $(BUILD)/libfdm.a $(BENCH_LIBS) $(LIBS)
.SECONDARY: $(BENCH_BIN:%=%.o)

# One for each MPI that is here.
define bench_mpi_rule
$(BUILD)/bench/bench_mpi-$(1): bench/bench_mpi.c $(BUILD)/src/cli/ranks_mpi.$(1).o $(BUILD)/libfdm.a
	@mkdir -p $$(@D)
	@echo "  LINK  $$@"
	$(Q)$$(CC) $$(CPPFLAGS_ALL) $$(call mpi_cflags,$(1)) $$(CFLAGS_ALL) -O3 $$(LDFLAGS) -o $$@ $$< $(BUILD)/src/cli/ranks_mpi.$(1).o \
	  $(BUILD)/libfdm.a $$(LIBS) $$(call mpi_libs,$(1))
endef
$(foreach m,$(MPIS),$(eval $(call bench_mpi_rule,$(m))))
# BENCH_MPI_RANKS: how many; BENCH_MPI_RATES, such as "1gbit 200mbit": between machines that are network namespaces (netlab.py; as
# root, Open MPI) instead of within one.  BENCH_ARGS: rounds, and a number of floats to be the only message.
BENCH_MPI_RANKS ?= 2 4
BENCH_MPI_RATES ?=
.PHONY: bench-mpi
ifeq ($(BENCH_MPI_RATES),)
bench-mpi: $(MPIS:%=$(BUILD)/bench/bench_mpi-%)
	@for m in $(MPIS); do for n in $(BENCH_MPI_RANKS); do mpirun.$$m -n $$n $(BUILD)/bench/bench_mpi-$$m $(BENCH_ARGS) || exit; done; done
else
bench-mpi: $(BUILD)/bench/bench_mpi-openmpi
	@for rate in $(BENCH_MPI_RATES); do for n in $(BENCH_MPI_RANKS); do echo "$$rate:"; \
	  $(or $(BENCH_DRIVER),$(error no python3)) bench/netlab.py mpirun --hosts $$n --rate $$rate -- $(abspath $<) $(BENCH_ARGS) || exit; done; done
endif

# BENCH_PYTHON: one or more interpreters that may have torch, onnxruntime, matplotlib; by default those that are found.
# BENCH_ARGS: options of compare.py, such as --quick, --what forward, --help; of scaling.py for bench-scaling.
BENCH_PYTHON  ?=
BENCH_DRIVER  ?= $(firstword $(BENCH_PYTHON) $(shell command -v python3))
BENCH_COMPARE  = $(or $(BENCH_DRIVER),$(error no python3: the comparison needs one)) bench/compare.py --build $(BUILD) \
                 $(BENCH_PYTHON:%=--python %)
.PHONY: bench bench-programs bench-network bench-train bench-scaling bench-cluster bench-cluster-check
bench-programs: $(BENCH_BIN)
bench: all bench-programs
	$(BENCH_COMPARE) $(BENCH_ARGS)
bench-network: all bench-programs
	$(BENCH_COMPARE) --what forward $(BENCH_ARGS)
bench-train: all bench-programs
	$(BENCH_COMPARE) --what train,gradients $(BENCH_ARGS)
bench-scaling: all
	$(or $(BENCH_DRIVER),$(error no python3)) bench/scaling.py --build $(BUILD) $(BENCH_ARGS)

# What training on many machines should give; and that against runs over ranks in network namespaces (as root).
bench-cluster: all
	$(or $(BENCH_DRIVER),$(error no python3)) bench/cluster_model.py --build $(BUILD) $(BENCH_ARGS)
bench-cluster-check: all $(BUILD)/bench/bench_ranks
	$(or $(BENCH_DRIVER),$(error no python3)) bench/cluster_check.py --build $(BUILD) $(BENCH_ARGS)

# EDM, VP and VE against their FDM versions, trained here on the shipped pictures: eight minutes on two quiet cores, or hours, resumable.
# REPRODUCE_ARGS: options of reproduce.py, such as "--only 16", --jobs 1, --help.
.PHONY: reproduce reproduce-quick
REPRODUCE = $(or $(BENCH_DRIVER),$(error no python3)) bench/reproduce.py --build $(BUILD) $(BENCH_PYTHON:%=--python %)
reproduce: all
	$(REPRODUCE) $(REPRODUCE_ARGS)
reproduce-quick: all
	$(REPRODUCE) --quick $(REPRODUCE_ARGS)

# Pickles of PyTorch through fdm import, the large ones too: 223 MB and 300 MB, in both layouts.  Figures: bench/results/import.md.
.PHONY: check-import
check-import: all
	@printf '%s\n' '# Pickles of PyTorch through `fdm import`' '' \
	  '`make check-import BENCH_PYTHON="..."` (tests/import_peer.py). CIFAR-10 snapshot: a network of the published sizes, random weights, as the' \
	  'published program pickles it. Seconds include syncing the file written.' >$(BUILD)/import.md
	@mkdir -p $(BUILD)/import
	@for python in $(or $(BENCH_PYTHON),$(BENCH_DRIVER)); do \
	  rm -rf $(BUILD)/import/scratch; $$python bench/child_torch.py make ddpmpp $(BUILD)/import/cifar.safetensors && \
	  PYTHONDONTWRITEBYTECODE=1 FDM_LARGE=1 FDM_LARGE_MODEL=$(BUILD)/import/cifar.safetensors FDM_REPORT=$(BUILD)/import.md \
	    $$python tests/import_peer.py $(BUILD)/fdm $(BUILD)/import/scratch | tee $(BUILD)/import/log && ! grep ^FAIL $(BUILD)/import/log || exit 1; done
	@rm -rf $(BUILD)/import && mv $(BUILD)/import.md bench/results/import.md && cat bench/results/import.md

# fdm verify against PyTorch: every framework clean, 24 planted bugs, bf16, gradients, sampling, a large network, 200 random ones.
.PHONY: check-verify
check-verify: all
	@for python in $(or $(BENCH_PYTHON),$(BENCH_DRIVER)); do \
	  $$python bench/check_verify.py $(BUILD)/fdm clean bugs bf16 gradients sampler large --random 200 || exit 1; done
