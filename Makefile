# SPDX-License-Identifier: GPL-2.0-only
#
# make            build cowmem.ko for the running kernel, or another: KDIR=/its/build/tree
# make help       the rest
#
# This file only names the jobs; scripts/ does them.

KDIR ?= /lib/modules/$(shell uname -r)/build
PREFIX ?= /usr
LIBDIR ?= $(PREFIX)/lib
W ?= 1
# It has to be absolute, as make -C changes the directory.
override DESTDIR := $(if $(DESTDIR),$(abspath $(DESTDIR)))
export COWMEM_BUILD := $(CURDIR)/build

# A kernel by name is one that scripts/kernels keeps.
ifdef KERNEL
export KERNEL
module_kdir = $$(scripts/kernels get $(KERNEL))/build
else
module_kdir = $(KDIR)
endif

all modules:
	@kdir="$(module_kdir)" && scripts/build-module "$$kdir" W=$(W)

modules_install:
	@kdir="$(module_kdir)" && ko=$$(scripts/build-module "$$kdir" W=$(W)) && \
	$(MAKE) -C "$$kdir" M="$${ko%/*}" modules_install

tools:
	@scripts/build-tools PREFIX=$(PREFIX) LIBDIR=$(LIBDIR)

# All but the module. ldconfig has to know of the new library, unless this only fills a package or an image.
install: tools
	install -D -m 644 uapi/linux/cowmem.h $(DESTDIR)$(PREFIX)/include/linux/cowmem.h
	install -D -m 644 scripts/99-cowmem.rules $(DESTDIR)$(PREFIX)/lib/udev/rules.d/99-cowmem.rules
	@scripts/build-tools install DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) LIBDIR=$(LIBDIR)
	[ "$(DESTDIR)" ] || PATH=$$PATH:/sbin:/usr/sbin ldconfig

# What install would put there. Directories stay: others may use them.
uninstall:
	@rm -rf $(COWMEM_BUILD)/uninstall
	@$(MAKE) -s install DESTDIR=$(COWMEM_BUILD)/uninstall
	cd $(COWMEM_BUILD)/uninstall && find . ! -type d | while read -r file; do \
		rm -f "$(DESTDIR)/$$file" || exit; \
	done
	[ "$(DESTDIR)" ] || PATH=$$PATH:/sbin:/usr/sbin ldconfig

# What has nothing to say of another architecture.
deb test-packages demo lint model peers clients bench: x86_only
x86_only:
	@[ "$(or $(ARCH),x86_64)" = x86_64 ] || { echo "make $(MAKECMDGOALS) is for x86-64 alone"; exit 1; }

deb:
	@scripts/deb

test-packages:
	@scripts/test-packages

demo:
	@scripts/demo

check:
	@EFFORT=$(EFFORT) TEST="$(TEST)" scripts/check $(KERNEL)

lint:
	@scripts/lint $(KERNEL)

uapi-record:
	@scripts/uapi --record

model:
	@scripts/model

torture:
	@MINUTES=$(MINUTES) SEED=$(SEED) EPISODE=$(EPISODE) scripts/torture

peers:
	@scripts/peers $(or $(KERNEL),6.1) $(PEER)

clients:
	@scripts/clients $(if $(KERNEL),--kernel $(KERNEL)) $(CLIENT)

bench:
	@BASE=$(BASE) MODE="$(MODE)" scripts/bench $(CASE)

vm:
	@scripts/vm

clean:
	rm -rf build

help:
	@echo 'make                     build the module for the running kernel, in build/RELEASE/'
	@echo 'make KDIR=DIR            ... for the kernel whose build tree is DIR'
	@echo 'make KERNEL=6.1          ... for a kernel of scripts/kernels (6.1, 6.12, 7.3, 7.3-debug)'
	@echo 'make demo                see what it does: boots a guest, nothing touches this machine'
	@echo 'make check [KERNEL=6.1]  build without a warning, run every test: on 6.1, 6.12 and 7.3-debug'
	@echo 'make check EFFORT=100    ... all the random operations and rounds, of which it does a quarter otherwise'
	@echo 'make check TEST="clone restore" [KERNEL=6.1]  ... only these selftests'
	@echo 'make check ARCH=arm64    ... what runs in guests, in those of arm64: on 6.1 and 6.12'
	@echo 'make lint [KERNEL=6.1]   compilers, sparse, checkpatch, kernel-doc, shellcheck: all quiet?'
	@echo 'make uapi-record         write down what has come to the UAPI header, for good'
	@echo 'make model               check the models of the protocol with spin (two minutes)'
	@echo 'make torture [KERNEL=6.1] [MINUTES=10] [SEED=N]  random operations against a model, 100,000 clones'
	@echo 'make peers [KERNEL=6.1] [PEER=fio]  fio, stress-ng, gdb, CRIU, Java, SQLite, git, QEMU and others, run on regions and on a mount'
	@echo 'make clients [KERNEL=6.12] [CLIENT=qemu]  QEMU, Redis, SQLite and others with cowmem, beside the usual way: one table'
	@echo 'make bench               measure it beside fork, memfd and others: CASE=, KERNEL="6.1 6.12"'
	@echo 'scripts/bench --here     ... on this machine, with the module that is loaded'
	@echo 'make bench BASE=FILE     ... and tell what got worse than in a run before: a copy of its results.jsonl'
	@echo 'make vm [KERNEL=6.1]     a shell in a guest with the module loaded'
	@echo '... KERNEL=6.1 ARCH=arm64  make, make check, make torture, make vm: for that architecture'
	@echo 'make modules_install     install the module (INSTALL_MOD_PATH=)'
	@echo 'make install             install libcowmem, cowctl, headers, manual pages, udev rule (DESTDIR=, PREFIX=/usr, LIBDIR=)'
	@echo 'make uninstall           take that away again'
	@echo 'make tools               build libcowmem and cowctl, in build/tools/'
	@echo 'make deb                 build the Debian packages, in build/deb/'
	@echo 'make test-packages       install, upgrade, remove and purge them in a chroot, on 6.1 and 6.12'
	@echo 'make clean               remove build/; the fetched kernels stay in ~/.cache/cowmem'

.PHONY: all modules modules_install tools install uninstall deb test-packages demo check lint uapi-record model torture
.PHONY: peers clients bench vm clean help x86_only
