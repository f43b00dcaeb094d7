// SPDX-License-Identifier: GPL-2.0-only
/*
 * A model of how cowmem grants, takes away and shares pages (scripts/model runs it)
 *
 * There are two regions, 0 and its clone or snapshot 1, of NS pages in one leaf.
 * Each step that is atomic here is one that is atomic there, because it is a single
 * instruction or done under the page table lock, or that only touches what the
 * locks which are held keep from everybody else.  What the core kernel and the
 * CPU do without asking the module is modelled as well: TLBs, zapping, which lowers
 * the mapcount, then flushes TLBs, then lets go of the page, and GUP-fast.
 *
 * Memory is sequentially consistent here, so barriers are not checked.  Not modelled:
 * trees of more than one leaf, granting ahead, private mappings, fork(), MERGE, COPY
 * within one region (between two it is RESTORE), failing allocations, poison, and
 * ->mapping with its limbo: a page that was dropped is nobody's here, but is not a
 * new one either, as long as somebody refers to it.  Folios of more than one page are in
 * huge.pml.
 *
 * CASE_x chooses who takes part; RUN_x has the processes that it runs compiled in.
 * M_x breaks one rule (a mutant).
 */

#ifndef NS
#define NS	1		/* pages of a region */
#endif
#ifndef NP
#define NP	4		/* page frames that there are */
#endif
#define NL	4		/* leaves that there are */
#define NM	3		/* mappings: 0 and 1 of region 0, 2 of region 1 */
#define NC	3		/* CPUs; each runs in one mapping's address space */
#define Z	(NP + 1)	/* cowmem_zero_page, which is not counted */

#ifdef ALIAS
#define CPU_MAP(c) (c)
#else
#define CPU_MAP(c) ((c) == 2 -> 2 : 0)
#endif

/* Arrays of slots: of leaf, region, mapping or CPU x. Number 0 is no leaf, no page. */
#define AT(x, s) ((x) * NS + (s))
#define CUR(r, s) slot[AT(root[r], s)]

/* struct page */
byte ref[NP + 2], holders[NP + 2], mapcount[NP + 2], data[NP + 2];
bit dirty[NP + 2];

/* struct cowmem_node, struct cowmem_region */
byte leaf_refs[NL + 1], slot[(NL + 1) * NS];
bit granted[(NL + 1) * NS];
byte root[2];
bit hole_mapped[2 * NS];

#include "locks.pml"

/* Page tables, mm->tlb_flush_pending, TLBs */
byte pte[NM * NS], tlb[NC * NS], pending[NM];
bit pte_w[NM * NS], pte_d[NM * NS], tlb_w[NC * NS], tlb_d[NC * NS];

/*
 * What each region shows, by definition; how often region 0 began to be restored and was;
 * who is done.
 */
byte want[2 * NS];
byte begun, epoch;
byte finished;

/* Region 1 is a snapshot that has yielded, and nobody is to see it any more. */
bit yielded, unseen;

/* What went wrong is named in what spin prints. These are never set. */
hidden byte SHARED_WRITE, LOST_WRITE, STALE_READ, PIN_SWAPPED, PIN_CHANGED, INCONSISTENT_CUT,
	    PIN_KEPT, USE_AFTER_FREE, SEEN_AFTER_YIELD, GRANTED_IN_SHARED, KEEP_MISSED, TOO_SMALL;

#define LOCALS								\
	byte old, page, leaf, mapped, z, n, i, j, x, got;		\
	bit reuse, all

/*
 * Of those who share pages: what they share, and what that was at the instant of it; of a
 * page that is kept, whether it was written, was equal, is pinned.
 */
#define SHARES byte fresh, cut[NS]; bit was, equal, pinned

/* ---- what happens to memory ---- */

/* A page that may be written is one that only region @r reaches. */
#ifdef M_NO_CUT
/* As it is, once a clone can be seen: while it is made this one shares it too. */
#define IS_ALONE(r, s, p) (CUR(1 - (r), s) != p)
#else
#define IS_ALONE(r, s, p) (holders[p] == 1 && leaf_refs[root[r]] == 1)
#endif

/* Somebody stores @v into page @p, believing it to be page @s of region @r. */
inline store(r, s, p, v)
{
	assert(LOST_WRITE || CUR(r, s) == p);
	assert(SHARED_WRITE || IS_ALONE(r, s, p));
	data[p] = v;
	want[AT(r, s)] = v
}

/* ---- pages and leaves ---- */

inline put_page(p)
{
	d_step {
		if
		:: p && p != Z -> assert(USE_AFTER_FREE || ref[p]); ref[p]--
		:: else
		fi
	}
}

/* With one holder.  Nothing may know the frame from its former life. */
inline page_alloc(p)
{
	p = 1;
	do
	:: p <= NP && ref[p] -> p++
	:: else -> break
	od;
	assert(TOO_SMALL || p <= NP);
	j = 0;
	do
	:: j < NM * NS -> assert(USE_AFTER_FREE || pte[j] != p); j++
	:: else -> break
	od;
	j = 0;
	do
	:: j < NC * NS -> assert(USE_AFTER_FREE || tlb[j] != p); j++
	:: else -> break
	od;
	ref[p] = 1;
	holders[p] = 1;
	dirty[p] = 0
}

inline page_drop(p)
{
	holders[p]--;
	if
	:: !holders[p] -> ref[p]--
	:: else
	fi
}

/* Other regions may do this at any time, to what they hold. */
inline leaf_put(l)
{
	leaf_refs[l]--;
	if
	:: !leaf_refs[l] ->
		j = 0;
		do
		:: j < NS ->
			if
			:: slot[AT(l, j)] -> page_drop(slot[AT(l, j)])
			:: else
			fi;
			slot[AT(l, j)] = 0;
			granted[AT(l, j)] = 0;
			j++
		:: else -> break
		od
	:: else
	fi;
	j = 0
}

/* cowmem_tree_own(): make @l, a variable, a leaf that nobody else reaches. */
inline tree_own(l)
{
	d_step {
		if
		:: !l || leaf_refs[l] > 1 ->
			n = 1;
			do
			:: n <= NL && leaf_refs[n] -> n++
			:: else -> break
			od;
			assert(TOO_SMALL || n <= NL);
			leaf_refs[n] = 1;
			j = 0;
			do
			:: l && j < NS ->
				slot[AT(n, j)] = slot[AT(l, j)];
				if
				:: slot[AT(n, j)] -> holders[slot[AT(n, j)]]++
				:: else
				fi;
				j++
			:: else -> break
			od;
			if
			:: l -> leaf_put(l)
			:: else
			fi;
			l = n;
			n = 0;
			j = 0
		:: else
		fi
	}
}

/* ---- the core kernel ---- */

inline flush(m, s)
{
	j = 0;
	do
	:: j < NC ->
		if
		:: CPU_MAP(j) == m -> tlb[AT(j, s)] = 0; tlb_w[AT(j, s)] = 0; tlb_d[AT(j, s)] = 0
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0
}

/*
 * zap_page_range_single(), for unmap_mapping_pages(), munmap() and MADV_DONTNEED.
 * Who finds that another zap is under way flushes what that has not flushed yet.
 */
inline zap(m, s)
{
	d_step {
		z = pte[AT(m, s)];
		if
		:: z ->
			if
			:: z != Z ->
				mapcount[z]--;
				if
				:: pte_d[AT(m, s)] -> dirty[z] = 1
				:: else
				fi
			:: else
			fi;
			pte[AT(m, s)] = 0;
			pte_w[AT(m, s)] = 0;
			pte_d[AT(m, s)] = 0
		:: else
		fi;
		n = z || pending[m];
#ifdef M_NO_NESTED_FLUSH
		n = (z > 0);
#endif
		pending[m] = pending[m] + n
	}
	if
	:: n ->
		d_step { flush(m, s) }
		d_step { put_page(z); pending[m]--; z = 0; n = 0 }
	:: else
	fi
}

/* vm_insert_page(): @n is whether that worked.  What is writable is dirty. */
inline insert(m, s, p, w)
{
	d_step {
		n = !pte[AT(m, s)];
		if
		:: n ->
			pte[AT(m, s)] = p;
			pte_w[AT(m, s)] = w;
			pte_d[AT(m, s)] = w;
			if
			:: p != Z -> ref[p]++; mapcount[p]++
			:: else
			fi
		:: else
		fi;
		n = 0
	}
}

/* ---- grant.c and fault.c ---- */

inline unmap(r, s)
{
	if
	:: (r) == 0 ->
		zap(0, s);
#ifdef ALIAS
		zap(1, s)
#endif
	:: else -> zap(2, s)
	fi
}

/* cowmem_page_busy() */
#define BUSY(p, mine) (ref[p] != 1 + (mine))

/* unmap_ahead(): of page @p, or 0; the fault that found @mapped is one of mapping @m */
inline unmap_ahead(m, r, s, p)
{
	all = 1;
	if
	:: p && p == mapped ->
		zap(m, s);
#if defined(M_HERE_NO_CHECK)
		all = 0
#elif defined(M_HERE_MAPCOUNT)
		all = (mapcount[p] > 0)
#else
		all = BUSY(p, 1)
#endif
	:: else
	fi;
	if
	:: all -> unmap(r, s); hole_mapped[AT(r, s)] = 0
	:: else
	fi;
	all = 0
}

/* grant_leaf() of @leaf: sets @page */
inline grant_leaf(m, r, s)
{
	old = slot[AT(leaf, s)];
	if
	:: granted[AT(leaf, s)] ->
#ifndef M_GRANTED_NO_UNMAP
		/* Others may map it as it is. */
		if
		:: mapped -> zap(m, s)
		:: else
		fi;
#endif
		page = old
	:: else ->
		reuse = 0;
		/* reuse() */
		if
#ifdef M_GRANT_SHARED
		:: old ->
#else
		:: old && holders[old] == 1 ->
#endif
			if
			:: mapcount[old] -> unmap_ahead(m, r, s, old)
			:: else
			fi;
#if defined(M_REUSE_NO_REF) || defined(M_GRANT_SHARED)
			reuse = 1
#elif defined(M_REUSE_MAPCOUNT)
			reuse = !mapcount[old]
#else
			reuse = !BUSY(old, old == mapped)
#endif
		:: else
		fi;
		if
		:: reuse -> d_step { page = old; granted[AT(leaf, s)] = 1; dirty[old] = 1 }
		:: else ->
			/* replace() */
			d_step {
				page_alloc(page);
				j = 0;
				data[page] = data[old];
				dirty[page] = 1;
				granted[AT(leaf, s)] = 1;
				slot[AT(leaf, s)] = page
			}
			if
#if defined(M_SPLIT_NO_UNMAP)
			:: false ->
#elif defined(M_SPLIT_MAPCOUNT)
			:: (old -> mapcount[old] > 0 : hole_mapped[AT(r, s)]) ->
#elif defined(M_HOLE_NO_UNMAP)
			:: old && BUSY(old, old == mapped) ->
#else
			:: (old -> BUSY(old, old == mapped) : hole_mapped[AT(r, s)]) ->
#endif
				unmap_ahead(m, r, s, old)
			:: else
			fi;
			d_step {
				if
				:: old -> page_drop(old)
				:: else
				fi
			}
		fi
	fi;
	d_step { old = 0; reuse = 0 }
}

/* cowmem_begin_write(): sets @page.  @m is where a fault is, if it found @mapped. */
inline begin_write(m, r, s)
{
	down_read(r);
	leaf = root[r];
	if
#ifdef M_IGNORE_FROZEN
	:: !leaf ->
#else
	:: !leaf || leaf_refs[leaf] > 1 ->
#endif
		up_read(r);
		down_write(r);
		tree_own(root[r]);
		leaf = root[r];
#ifdef M_NO_DOWNGRADE
		up_write(r);
		down_read(r)
#else
		d_step { write_locked[r] = 0; read_locked[r]++ }
#endif
	:: else
	fi;
#ifndef M_WRITE_NO_LEAF_LOCK
	lock_leaf(r);
#endif
	grant_leaf(m, r, s);
	leaf = 0;
#ifdef M_EARLY_UNLOCK
	unlock_leaf(r)
#endif
}

inline end_write(r)
{
#if !defined(M_EARLY_UNLOCK) && !defined(M_WRITE_NO_LEAF_LOCK)
	unlock_leaf(r);
#endif
	up_read(r)
}

/* fault_write(): @mapped is what the core found, with a reference of its own */
inline fault_write(m, r, s)
{
	begin_write(m, r, s);
#ifdef M_INSERT_LATE
	end_write(r);
	insert(m, s, page, 1);
#else
	insert(m, s, page, 1);
	end_write(r);
#endif
	page = 0;
	d_step { put_page(mapped); mapped = 0 }
}

/* map_around(): all of the leaf */
inline map_around(m, r)
{
	i = 0;
	do
	:: i < NS ->
		d_step {
			page = CUR(r, i);
			if
			:: !page -> page = Z; hole_mapped[AT(r, i)] = 1
			:: else
			fi
		}
#ifdef M_READ_WRITABLE
		insert(m, i, page, page != Z);
#else
		insert(m, i, page, 0);
#endif
		i++
	:: else -> break
	od;
	atomic { i = 0; page = 0 }
}

/*
 * read_to_write(): memory may be locked, or populated, and then that takes a page from
 * nobody.  Or neither.
 */
#if defined(LOCKED) || defined(M_POPULATE_ANY)
#define READ_TO_WRITE(r) true
#elif defined(POPULATE)
#define READ_TO_WRITE(r) (!CUR(r, 0) || granted[AT(root[r], 0)])
#else
#define READ_TO_WRITE(r) false
#endif

/* fault_read() */
inline fault_read(m, r)
{
	down_read(r);
#ifndef M_READ_NO_LEAF_LOCK
	lock_leaf(r);
#endif
#if defined(LOCKED) || defined(POPULATE)
	if
	:: READ_TO_WRITE(r) ->
		unlock_leaf(r);
		up_read(r);
		fault_write(m, r, 0)
	:: true ->
#endif
		map_around(m, r);
#ifndef M_READ_NO_LEAF_LOCK
		unlock_leaf(r);
#endif
		up_read(r)
#if defined(LOCKED) || defined(POPULATE)
	fi
#endif
}

/* ---- what programs do ---- */

/* Load from memory, into @got. */
inline load(c, m, r, s)
{
	do
	:: d_step {
		tlb[AT(c, s)] ->
		got = data[tlb[AT(c, s)]];
		assert(STALE_READ || got == want[AT(r, s)])
	   };
	   break
	:: d_step {
		!tlb[AT(c, s)] && pte[AT(m, s)] ->
		tlb[AT(c, s)] = pte[AT(m, s)];
		tlb_w[AT(c, s)] = pte_w[AT(m, s)];
		tlb_d[AT(c, s)] = pte_d[AT(m, s)]
	   }
	:: !tlb[AT(c, s)] && !pte[AT(m, s)] -> fault_read(m, r)
	od
}

/* Store @v to memory.  Without the dirty bit the CPU looks at the PTE first. */
#define HIT(c, s) (tlb[AT(c, s)] && tlb_w[AT(c, s)] && tlb_d[AT(c, s)])
inline save(c, m, r, s, v)
{
	do
	:: d_step { HIT(c, s) -> store(r, s, tlb[AT(c, s)], v) }; break
	:: d_step {
		!HIT(c, s) && pte_w[AT(m, s)] ->
		pte_d[AT(m, s)] = 1;
		tlb[AT(c, s)] = pte[AT(m, s)];
		tlb_w[AT(c, s)] = 1;
		tlb_d[AT(c, s)] = 1
	   }
	:: d_step {
		!HIT(c, s) && !pte_w[AT(m, s)] ->
		mapped = pte[AT(m, s)];
		if
		:: mapped && mapped != Z -> ref[mapped]++
		:: else
		fi
	   };
	   fault_write(m, r, s)
	od
}

/* write() */
inline sys_write(r, s, v)
{
	begin_write(0, r, s);
#ifdef M_WRITE_LATE
	end_write(r);
	d_step { store(r, s, page, v); dirty[page] = 1 }
#else
#ifdef M_WRITE_FAULTS
	/* The source is this very page, and faults are not disabled. */
	if
	:: !pte[AT(0, s)] -> fault_read(0, r)
	:: else
	fi;
	page = CUR(r, s);
#endif
	d_step { store(r, s, page, v); dirty[page] = 1 }
	end_write(r);
#endif
	page = 0
}

/* get_user_pages_fast(): into @x, which has a reference then */
inline gup(m, r, s, write)
{
	do
	:: d_step { x = pte[AT(m, s)]; n = x && x != Z && (pte_w[AT(m, s)] || !(write)) };
		if
		:: n ->
			/* Unless the page was freed under us. */
			d_step {
				n = ref[x] > 0;
				ref[x] = ref[x] + n
			}
			if
			:: n ->
				n = 0;
#ifdef M_GUP_NO_RECHECK
				break
#else
				if
				:: d_step { pte[AT(m, s)] == x && (pte_w[AT(m, s)] || !(write)) }; break
				:: else -> put_page(x)
				fi
#endif
			:: else
			fi
		:: else ->
			if
			:: write ->
				d_step {
					mapped = pte[AT(m, s)];
					if
					:: mapped && mapped != Z -> ref[mapped]++
					:: else
					fi
				}
				fault_write(m, r, s)
			:: else -> fault_read(m, r)
			fi
		fi
	od
}

/* cowmem_peek(): the same for read() */
inline peek(r, s)
{
	down_read(r);
	lock_leaf(r);
	d_step { x = CUR(r, s); ref[x]++ }
	unlock_leaf(r);
	up_read(r)
}

/* ---- how a region shares its pages: cut.c and share.c ---- */

/* cut_ahead(), with the lock let go of after each page: ahead of the clone */
inline cut_ahead(r)
{
	i = 0;
	do
	:: i < NS ->
		down_write(r);
		if
		:: granted[AT(root[r], i)] ->
#ifndef M_AHEAD_NO_CUT
			unmap(r, i);
#endif
			/* revoke_idle() */
#ifdef M_AHEAD_REVOKE_BUSY
			granted[AT(root[r], i)] = 0
#else
			d_step {
				if
				:: !BUSY(CUR(r, i), 0) -> granted[AT(root[r], i)] = 0
				:: else
				fi
			}
#endif
		:: else
		fi;
		up_write(r);
		i++
	:: else -> break
	od;
	i = 0
}

/* cowmem_share_now(): @fresh becomes what region @r holds at one instant, by name @cut */
inline share_now(r)
{
#ifdef AHEAD
	cut_ahead(r);
#endif
#ifdef M_CLONE_READ_LOCK
	down_read(r);
#else
	down_write(r);
#endif
#ifndef M_NO_CUT
	/* cowmem_cut() */
	i = 0;
	do
	:: i < NS ->
		if
		:: granted[AT(root[r], i)] -> unmap(r, i)
		:: else
		fi;
		i++
	:: else -> break
	od;
#endif
	atomic { fresh = root[r]; leaf_refs[fresh]++; i = 0 }
#ifndef M_NO_BUSY_COPY
	/* copy_busy() */
	do
	:: i < NS ->
		page = CUR(r, i);
		if
#ifdef M_BUSY_MAPCOUNT
		:: granted[AT(root[r], i)] && mapcount[page] ->
#else
		:: granted[AT(root[r], i)] && BUSY(page, 0) ->
#endif
			tree_own(fresh);
			d_step {
				page_alloc(x);
				data[x] = data[page];
				slot[AT(fresh, i)] = x;
				page_drop(page);
				j = 0;
				x = 0
			}
		:: else
		fi;
		i++
	:: else -> break
	od;
#endif
	/* revoke() */
	atomic {
		i = 0;
		do
		:: i < NS ->
			if
#if defined(M_NO_REVOKE)
			:: false ->
#elif defined(M_REVOKE_BUSY)
			:: true ->
#else
			:: slot[AT(fresh, i)] == CUR(r, i) ->
#endif
				granted[AT(root[r], i)] = 0;
				assert(STALE_READ || data[CUR(r, i)] == want[AT(r, i)])
			:: else
			fi;
			cut[i] = data[slot[AT(fresh, i)]];
			i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < NS ->
			assert(GRANTED_IN_SHARED || leaf_refs[fresh] == 1 || !granted[AT(fresh, i)]);
			i++
		:: else -> break
		od;
		assert(INCONSISTENT_CUT || cut[0] >= cut[NS - 1]);
		i = 0;
		page = 0
	}
#if defined(M_CLONE_READ_LOCK)
	up_read(r)
#elif !defined(M_SHARE_KEEPS_LOCK)
	up_write(r)
#endif
}

/* @fresh is the tree of region @r from now on, which shows what was cut. */
inline install(r)
{
	n = fresh;
	fresh = root[r];
	root[r] = n;
	n = 0;
	i = 0;
	do
	:: i < NS ->
		assert(SHARED_WRITE || data[CUR(r, i)] == cut[i]);
		want[AT(r, i)] = cut[i];
		cut[i] = 0;
		i++
	:: else -> break
	od;
	i = 0
}

/* cowmem_tree_destroy() */
inline drop_fresh()
{
	d_step {
		if
		:: fresh -> leaf_put(fresh)
		:: else
		fi;
		fresh = 0
	}
}

/* ---- clone.c ---- */

/* Region 1, which is empty, becomes a clone of region 0. */
inline clone()
{
	share_now(0);
	/* The clone can be seen from here on. */
	d_step { install(1) }
}

/* munmap() and close() */
inline close_clone()
{
	i = 0;
	do
	:: i < NS -> zap(2, i); i++
	:: else -> break
	od;
	atomic { leaf = root[1]; root[1] = 0; leaf_put(leaf); leaf = 0; i = 0 }
}

/* ---- restore.c, copy.c and size.c ---- */

/* restore_locked(), or copy_install(): region @a becomes what was shared. */
inline restore_locked(a)
{
#ifndef M_RESTORE_NO_UNMAP
	i = 0;
	do
	:: i < NS ->
		if
		:: CUR(a, i) != slot[AT(fresh, i)] -> unmap(a, i)
		:: else
		fi;
		i++
	:: else -> break
	od;
#endif
	atomic { install(a); epoch = epoch + ((a) == 0) }
}

/* restore_whole(): region @a becomes what @b is at some instant before. */
inline restore(a, b)
{
	share_now(b);
	down_write(a);
	d_step { begun = begun + ((a) == 0) }
	restore_locked(a);
	up_write(a);
#ifdef M_SHARE_KEEPS_LOCK
	up_write(b);
#endif
	drop_fresh()
}

/* clean_record_shared_mapping_range() of one mapping: sets @was if the PTE was dirty */
inline take_dirty_bit(m)
{
	d_step {
		n = pte_d[AT(m, 0)];
		was = was || n;
		pte_d[AT(m, 0)] = 0;
		equal = (data[page] == cut[0])
	}
	if
	:: n ->
		d_step { flush(m, 0) }
		n = 0
	:: else
	fi
}

/* give_back() */
inline give_back()
{
#ifndef M_GIVE_BACK_NO_UNMAP
	unmap(0, 0);
#endif
	d_step {
		old = slot[AT(fresh, 0)];
		holders[old]++;
		slot[AT(root[0], 0)] = old;
		granted[AT(root[0], 0)] = 0;
		page_drop(page);
		assert(SHARED_WRITE || data[old] == cut[0]);
		want[AT(0, 0)] = cut[0];
		epoch++;
		old = 0
	}
}

/* Make a kept page what the snapshot has. */
inline copy_back()
{
	d_step {
		data[page] = data[slot[AT(fresh, 0)]];
		assert(SHARED_WRITE || data[page] == cut[0]);
		want[AT(0, 0)] = cut[0];
		epoch++
	}
}

/* pinned(): sets @pinned.  The reference count is the first to be looked at. */
inline look_for_pins()
{
#if defined(M_KEEP_PINNED_TOO)
	pinned = 0
#elif defined(M_KEEP_MAPCOUNT_FIRST)
	n = mapcount[page];
	d_step { pinned = (ref[page] != 1 + n); n = 0 }
#else
	n = ref[page];
	d_step { pinned = (n != 1 + mapcount[page]); n = 0 }
#endif
}

/* keep(): for regions of one page, and one mapping.  @was is whether it was written. */
inline keep()
{
	page = CUR(0, 0);
#ifdef M_KEEP_CLEAN_STAYS
	d_step { was = dirty[page]; dirty[page] = 0 }
	take_dirty_bit(0);
#else
	/* Not each time is it asked what was written. */
	if
	:: was = 1
	:: d_step { was = dirty[page]; dirty[page] = 0 }
	   take_dirty_bit(0)
	fi;
#endif
	look_for_pins();
#ifdef M_KEEP_CLEAN_STAYS
	if
	:: pinned -> give_back()
	:: !pinned && (was || dirty[page]) -> copy_back()
	/* Then it was equal when its PTE was looked at. */
	:: else -> assert(KEEP_MISSED || equal); epoch++
	fi;
#else
	if
	:: pinned || !was -> give_back()
	:: else -> copy_back()
	fi;
#endif
	d_step { page = 0; was = 0; pinned = 0; equal = 0; cut[0] = 0 }
}

/* RESTORE of region 0 with KEEP, from region 1, which is a snapshot and shared as it is */
inline restore_keep()
{
	d_step { fresh = root[1]; leaf_refs[fresh]++; cut[0] = want[AT(1, 0)] }
	down_write(0);
	begun++;
	if
	:: granted[AT(root[0], 0)] -> keep()
	:: else -> restore_locked(0)
	fi;
	up_write(0);
	drop_fresh()
}

inline discard(s)
{
	down_write(0);
	tree_own(root[0]);
#ifndef M_DISCARD_NO_UNMAP
	unmap(0, s);
#endif
	d_step {
		page = CUR(0, s);
		slot[AT(root[0], s)] = 0;
		granted[AT(root[0], s)] = 0;
		want[AT(0, s)] = 0;
		if
		:: page -> page_drop(page)
		:: else
		fi;
		page = 0
	}
	up_write(0)
}

/* ---- yield.c: region 1 is a snapshot, whose memory is taken back ---- */

/* steal(), and then the tree is destroyed */
inline yield_snapshot()
{
	down_write(1);
	yielded = 1;
#ifndef M_YIELD_NO_UNMAP
	i = 0;
	do
	:: i < NS -> zap(2, i); i++
	:: else -> break
	od;
#endif
	atomic { leaf = root[1]; root[1] = 0; i = 0; unseen = 1 }
	up_write(1);
	d_step { leaf_put(leaf); leaf = 0 }
}

/* cowmem_lock() for reading: @got is whether that fails */
inline lock_snapshot()
{
	down_read(1);
#ifdef M_YIELD_CHECK_EARLY
	got = equal;
#elif defined(M_YIELD_NO_CHECK)
	got = 0;
#else
	got = yielded;
#endif
	if
	:: got -> up_read(1)
	:: else
	fi
}

/* Load from a mapping of it, or die of SIGBUS: @was is whether. */
inline load_snapshot(s)
{
	do
	:: d_step {
		tlb[AT(2, s)] ->
		assert(SEEN_AFTER_YIELD || !unseen);
		assert(STALE_READ || data[tlb[AT(2, s)]] == want[AT(1, s)])
	   };
	   break
	:: d_step { !tlb[AT(2, s)] && pte[AT(2, s)] -> tlb[AT(2, s)] = pte[AT(2, s)] }
	:: !tlb[AT(2, s)] && !pte[AT(2, s)] ->
		equal = yielded;
		lock_snapshot();
		if
		:: got -> was = 1; break
		:: else ->
			lock_leaf(1);
			map_around(2, 1);
			unlock_leaf(1);
			up_read(1)
		fi
	od
}

/* RESTORE of region 0 from it */
inline restore_snapshot()
{
	equal = yielded;
	lock_snapshot();
	if
	:: got
	:: else ->
		d_step { fresh = root[1]; leaf_refs[fresh]++; cut[0] = want[AT(1, 0)] }
		up_read(1);
		down_write(0);
		begun++;
		restore_locked(0);
		up_write(0);
		drop_fresh()
	fi
}

/* ---- who takes part ---- */

#ifdef RUN_writer
/* A thread on CPU @c that stores @v, @v + 1, ... @k times. */
proctype writer(byte c, m, r, k, v)
{
	LOCALS;

	do
	:: k -> save(c, m, r, 0, v); k--; v++
	:: else -> break
	od;
	finished++
}
#endif

#ifdef RUN_reader
proctype reader(byte c, m, r, k)
{
	LOCALS;

	do
	:: k -> load(c, m, r, 0); k--
	:: else -> break
	od
}
#endif

#ifdef RUN_reader_of_both
proctype reader_of_both(byte c, m, r)
{
	LOCALS;

	load(c, m, r, 0);
	load(c, m, r, NS - 1)
}
#endif

#ifdef RUN_reader_for_ever
/* Reads for as long as there is a writer that is not done. */
proctype reader_for_ever(byte c, m, r)
{
	LOCALS;

	do
	:: !finished -> load(c, m, r, 0)
	:: finished -> break
	od
}
#endif

#ifdef RUN_follower
/* Page 1 is written once, and again after page 0 was seen to have been written. */
proctype follower(byte c, m)
{
	LOCALS;

	save(c, m, 0, 1, 1);
	load(c, m, 0, 0);
	if
	:: got == 3 -> save(c, m, 0, 1, 3)
	:: else
	fi
}
#endif

#ifdef RUN_caller_of_write
proctype caller_of_write(byte r, v)
{
	LOCALS;

	sys_write(r, 0, v);
	finished++
}
#endif

#ifdef RUN_cloner
proctype cloner(byte k)
{
	LOCALS;
	SHARES;

	do
	:: k ->
		clone();
		/* The clone is written or read before it goes. */
		if
		:: save(2, 2, 1, 0, 9)
		:: load(2, 2, 1, 0)
		:: skip
		fi;
		k--;
		if
		:: close_clone()
		:: !k -> break
		fi
	:: else -> break
	od
}
#endif

#ifdef RUN_cloner_only
/* Only clones: for cases that are large already. */
proctype cloner_only()
{
	LOCALS;
	SHARES;

	clone()
}
#endif

#ifdef RUN_closer
proctype closer()
{
	LOCALS;

	close_clone()
}
#endif

#ifdef RUN_dontneed
proctype dontneed(byte m, k)
{
	LOCALS;

	do
	:: k -> zap(m, 0); k--
	:: else -> break
	od
}
#endif

#ifdef RUN_writing_io
/* I/O that writes to memory: its page stays that of region 0 until it is through. */
proctype writing_io(byte v)
{
	LOCALS;

	gup(0, 0, 0, 1);
	got = begun;
	atomic {
		assert(USE_AFTER_FREE || ref[x]);
		/* A whole RESTORE since: it must not see this any more. */
		assert(PIN_KEPT || epoch <= got || CUR(0, 0) != x);
		assert(SHARED_WRITE || CUR(1, 0) != x);
		assert(PIN_SWAPPED || CUR(0, 0) == x || epoch);
		data[x] = v;
		if
		:: CUR(0, 0) == x -> want[0] = v
		:: else
		fi
	}
#ifndef CLEAN_IO
	/* Not everybody does. */
	dirty[x] = 1;
#endif
	put_page(x)
}
#endif

#ifdef RUN_leaving_reader
/* Region 1 hands its page to a pipe or a device, and goes: nobody may write that page. */
proctype leaving_reader()
{
	LOCALS;

	if
	:: gup(2, 1, 0, 0)
	:: peek(1, 0)
	fi;
	got = data[x];
	close_clone();
	d_step {
		assert(PIN_CHANGED || data[x] == got);
		assert(USE_AFTER_FREE || ref[x])
	}
	put_page(x)
}
#endif

#ifdef RUN_pinning_reader
/* What is read through a pin is the region's page, as long as nobody writes that. */
proctype pinning_reader()
{
	LOCALS;

	gup(0, 0, 0, 0);
	assert(PIN_SWAPPED || CUR(0, 0) == x);
	put_page(x)
}
#endif

#ifdef RUN_restorer
proctype restorer(byte a, b)
{
	LOCALS;
	SHARES;

	restore(a, b)
}
#endif

#ifdef RUN_keeper
proctype keeper(byte k)
{
	LOCALS;
	SHARES;

	do
	:: k -> restore_keep(); k--
	:: else -> break
	od
}
#endif

#ifdef RUN_yielder
proctype yielder()
{
	LOCALS;

	yield_snapshot()
}
#endif

#ifdef RUN_snapshot_reader
proctype snapshot_reader(byte k)
{
	LOCALS;
	bit was, equal;

	do
	:: k && !was -> load_snapshot(NS - 1); k--
	:: else -> break
	od
}
#endif

#ifdef RUN_snapshot_restorer
proctype snapshot_restorer()
{
	LOCALS;
	SHARES;

	restore_snapshot()
}
#endif

#ifdef RUN_discarder
proctype discarder()
{
	LOCALS;

	discard(0)
}
#endif

/* Region 0 alone has pages that were written once; no write access is granted. */
inline one_region()
{
	root[0] = 1;
	leaf_refs[1] = 1;
	i = 0;
	do
	:: i < NS ->
		slot[AT(1, i)] = i + 1;
		ref[i + 1] = 1;
		holders[i + 1] = 1;
		data[i + 1] = 1;
		want[AT(0, i)] = 1;
		i++
	:: else -> break
	od;
	i = 0
}

/* Region 1 is a clone of it. */
inline two_regions()
{
	one_region();
	root[1] = 1;
	leaf_refs[1] = 2;
	do
	:: i < NS -> want[AT(1, i)] = 1; i++
	:: else -> break
	od;
	i = 0
}

/* Both mappings of region 0 have been read. */
inline map_readonly()
{
	do
	:: i <= CPU_MAP(1) ->
		pte[AT(i, 0)] = 1;
		ref[1]++;
		mapcount[1]++;
		i++
	:: else -> break
	od;
	i = 0
}

init {
	byte i;

	atomic {
#if defined(CASE_clone)
		one_region();
		run writer(0, 0, 0, 2, 2);
		run reader(1, CPU_MAP(1), 0, 2);
		run cloner(1);
#elif defined(CASE_clone_twice)
		one_region();
		run writer(0, 0, 0, 2, 2);
		run cloner(2);
#elif defined(CASE_sys_write)
		one_region();
		run caller_of_write(0, 2);
		run writer(0, 0, 0, 1, 3);
		run cloner(1);
#elif defined(CASE_both_write)
		two_regions();
		run writer(0, 0, 0, 2, 2);
		run writer(2, 2, 1, 1, 8);
		run reader(1, CPU_MAP(1), 0, 1);
#elif defined(CASE_last_holder)
		two_regions();
		run writer(0, 0, 0, 2, 2);
		run reader(1, CPU_MAP(1), 0, 1);
		run closer();
#elif defined(CASE_dontneed)
		two_regions();
		run writer(0, 0, 0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 2);
		run dontneed(CPU_MAP(1), 1);
#elif defined(CASE_mapped)
		two_regions();
		map_readonly();
		run writer(0, 0, 0, 2, 2);
		run reader(1, CPU_MAP(1), 0, 2);
		run dontneed(CPU_MAP(1), 1);
#elif defined(CASE_mapped_owned)
		one_region();
		map_readonly();
		run caller_of_write(0, 2);
		run writer(0, 0, 0, 1, 3);
		run reader(1, CPU_MAP(1), 0, 2);
		run dontneed(CPU_MAP(1), 1);
#elif defined(CASE_dontneed_clone)
		one_region();
		run writer(0, 0, 0, 2, 2);
		run dontneed(0, 1);
		run cloner(1);
#elif defined(CASE_hole)
		run writer(0, 0, 0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 2);
		run dontneed(CPU_MAP(1), 1);
		run caller_of_write(0, 3);
#elif defined(CASE_io)
		one_region();
		run writing_io(2);
		run writer(1, 0, 0, 1, 3);
		run cloner(1);
#elif defined(CASE_io_keep)
		two_regions();
		run writing_io(2);
		run writer(1, 0, 0, 1, 3);
		run keeper(2);
#elif defined(CASE_io_keep_zap)
		two_regions();
		run writing_io(2);
		run dontneed(0, 1);
		run keeper(1);
#elif defined(CASE_leaving_reader)
		two_regions();
		run leaving_reader();
		run writer(0, 0, 0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 1);
#elif defined(CASE_cut)
		one_region();
		run writer(0, 0, 0, 2, 2);
		run follower(1, CPU_MAP(1));
		run cloner_only();
#elif defined(CASE_restore)
		two_regions();
		run writer(0, 0, 0, 2, 2);
		run reader(1, CPU_MAP(1), 0, 2);
		run restorer(0, 1);
#elif defined(CASE_restore_source)
		two_regions();
		run writer(0, 0, 0, 2, 2);
		run reader(2, 2, 1, 2);
		run restorer(1, 0);
#elif defined(CASE_restore_cut)
		two_regions();
		run writer(0, 0, 0, 1, 3);
		run follower(1, CPU_MAP(1));
		run reader_of_both(2, 2, 1);
		run restorer(1, 0);
#elif defined(CASE_restore_io)
		two_regions();
		run writing_io(2);
		run writer(1, 0, 0, 1, 3);
		run restorer(1, 0);
#elif defined(CASE_restore_written)
		two_regions();
		run writer(0, 0, 0, 1, 2);
		run writer(2, 2, 1, 1, 8);
		run restorer(0, 1);
#elif defined(CASE_keep)
		two_regions();
		run writer(0, 0, 0, 2, 2);
		run dontneed(0, 1);
		run keeper(2);
#elif defined(CASE_discard)
		two_regions();
		run writer(0, 0, 0, 2, 2);
		run reader(1, CPU_MAP(1), 0, 2);
		run discarder();
#elif defined(CASE_yield)
		two_regions();
		run writer(0, 0, 0, 2, 2);
		run snapshot_reader(2);
		run yielder();
#elif defined(CASE_yield_restore)
		two_regions();
		run writer(0, 0, 0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 1);
		run snapshot_restorer();
		run yielder();
#elif defined(CASE_restore_both_ways)
		two_regions();
		run writer(0, 0, 0, 1, 2);
		run restorer(0, 1);
		run restorer(1, 0);
#elif defined(CASE_progress)
		two_regions();
		run writer(0, 0, 0, 1, 2);
		run reader_for_ever(1, CPU_MAP(1), 0);
#elif defined(CASE_progress_owned)
		one_region();
		run writer(0, 0, 0, 1, 2);
		run reader_for_ever(1, CPU_MAP(1), 0);
#elif defined(CASE_progress_granted)
		one_region();
		granted[AT(1, 0)] = 1;
		run writer(0, 0, 0, 1, 2);
		run reader_for_ever(1, CPU_MAP(1), 0);
#elif defined(CASE_populate)
		two_regions();
		run pinning_reader();
		run reader(1, CPU_MAP(1), 0, 1);
#elif defined(CASE_populate_clone)
		one_region();
		granted[AT(1, 0)] = 1;
		run pinning_reader();
		run reader(1, CPU_MAP(1), 0, 1);
		run cloner_only();
#elif defined(CASE_progress_hole)
		run writer(0, 0, 0, 1, 2);
		run reader_for_ever(1, CPU_MAP(1), 0);
#else
#error "which case?"
#endif
	}
}
