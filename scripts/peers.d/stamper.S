/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All that QEMU runs in peers.d/qemu: a BIOS that writes 1, 2, 3... into one page after
 * the other, see peers.d/stamps.c, and never stops.  64 KiB that end where the CPU begins.
 */
#include "stamper.h"

	.code16
	.org 0
start:
	cli
	lgdtl %cs:gdt_pointer - start
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $8, $0xf0000 + protected - start

	.code32
protected:
	movw $16, %ax
	movw %ax, %ds
	xorl %ebx, %ebx
	xorl %ecx, %ecx
next:
	incl %ebx
	addl $STEP, %ecx
	andl $PAGES - 1, %ecx
	movl %ecx, %eax
	shll $12, %eax
	movl %ebx, BASE(%eax)
	jmp next

	.balign 8
gdt:
	.quad 0
	/* Code and data, both of them all there is. */
	.quad 0x00cf9a000000ffff
	.quad 0x00cf92000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long 0xf0000 + gdt - start

	.org 0xfff0
	.code16
	ljmp $0xf000, $start - start
	.org 0x10000
