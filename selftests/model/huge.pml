// SPDX-License-Identifier: GPL-2.0-only
/*
 * A model of areas that one folio backs, and that a PMD may map (scripts/model runs it)
 *
 * As in cowmem.pml, to which it is a supplement: what that shows of single pages is not
 * shown once more.  An area has NS pages here, and one leaf.  A region is one area.  Two
 * folios can be had, of pages 1 and 2, and 3 and 4; the other page frames are single ones.
 *
 * What the core kernel does without our locks is modelled step by step: it maps a folio
 * that ->fault returned locked, and unlocks it, or asks ->page_mkwrite in between; it zaps
 * a PMD, or splits it, which of a file's mapping leaves nothing; GUP-fast.
 *
 * Not modelled: dirty bits, private mappings, more than one area, so that no leaf lock has
 * more folios noted than it can, the names of granted pages, and what cowmem.pml leaves out.
 *
 * CASE_x chooses who takes part; RUN_x has the processes that it runs compiled in.
 * M_x breaks one rule (a mutant).
 */
#define NS	2		/* pages of an area */
#define NF	(2 * NS)	/* page frames that are of folios */
#define NP	(NF + 4)	/* page frames that there are */
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

/* The folio of a page goes by the number of its first one. */
hidden byte folio[NP + 2] = { 0, 1, 1, 3, 3, 5, 6, 7, 8, 9 };
#define FOLIO(p) folio[p]
#define HUGE(p) ((p) && (p) <= NF)

/* Is leaf @l all of a folio, in order? */
#define WHOLE(l) ((slot[AT(l, 0)] == 1 || slot[AT(l, 0)] == 1 + NS) && \
		  slot[AT(l, 1)] == slot[AT(l, 0)] + 1)
/* Is slot @s of @l a page of a folio that belongs there?  How many of @f are there? */
#define AT_HOME(l, s, f) (slot[AT(l, s)] == (f) + (s))
#define NR_HOME(l, f) (AT_HOME(l, 0, f) + AT_HOME(l, 1, f))

/* struct folio; how many slots hold a page */
byte ref[NP + 2], holders[NP + 2], mapcount[NP + 2];
bit locked[NF + 1];
byte data[NP + 2], slots_of[NP + 2];

/* struct cowmem_node, struct cowmem_region; cowmem_leaf_lock.given, of regions */
byte leaf_refs[NL + 1], slot[(NL + 1) * NS];
bit granted[(NL + 1) * NS];
byte root[2];
bit hole_mapped[2], given[2 * (NF + 1)];

#include "locks.pml"

/* Page tables: a PMD is none, one of a folio, or that of a page table; TLBs */
byte pmd[NM], pte[NM * NS], tlb[NC * NS], pending[NM];
bit pmd_w[NM], has_table[NM], pte_w[NM * NS], tlb_w[NC * NS];
/* The folio of a PMD that is being split, for as long as the page table lock is held. */
byte splitting[NM];

#define PMD_NONE(m) (!pmd[m] && !has_table[m])
#define MAPPED(m, s) (pmd[m] -> pmd[m] + (s) : pte[AT(m, s)])
#define WRITABLE(m, s) (pmd[m] -> pmd_w[m] : pte_w[AT(m, s)])

/* What each region shows, by definition; who is done. */
byte want[2 * NS];
byte finished;

/* What went wrong is named in what spin prints. These are never set. */
hidden byte SHARED_WRITE, LOST_WRITE, STALE_READ, PIN_SWAPPED, PIN_CHANGED, INCONSISTENT_CUT,
	    USE_AFTER_FREE, GRANTED_IN_SHARED, NOT_GRANTED, BOTH_MAPPED, TOO_SMALL;

#define LOCALS byte old, page, leaf, mapped, z, y, n, i, j, x, got; bit lent, done

/* Of those who share pages: what they share, and what that was at the instant of it. */
#define SHARES byte fresh, cut[NS]

/* ---- what happens to memory ---- */

/* Somebody stores @v into page @p, believing it to be page @s of region @r. */
inline store(r, s, p, v)
{
	assert(LOST_WRITE || CUR(r, s) == p);
	assert(SHARED_WRITE || (slots_of[p] == 1 && leaf_refs[root[r]] == 1));
	assert(NOT_GRANTED || granted[AT(root[r], s)]);
	data[p] = v;
	want[AT(r, s)] = v
}

/* ---- pages and leaves ---- */

inline put_page(p)
{
	d_step {
		if
		:: p && p != Z ->
			assert(USE_AFTER_FREE || ref[FOLIO(p)]);
			ref[FOLIO(p)]--
		:: else
		fi
	}
}

/* Nothing may know the frame from its former life. */
inline is_free(p)
{
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
	j = 0;
	do
	:: j < NM -> assert(USE_AFTER_FREE || pmd[j] != p); j++
	:: else -> break
	od;
	j = 0;
	assert(USE_AFTER_FREE || !slots_of[p])
}

/* A single page, with one holder */
inline page_alloc(p)
{
	p = NF + 1;
	do
	:: p <= NP && ref[p] -> p++
	:: else -> break
	od;
	assert(TOO_SMALL || p <= NP);
	is_free(p);
	ref[p] = 1;
	holders[p] = 1;
	slots_of[p] = 1
}

/* A folio, if there is one, or 0; nobody holds its pages yet. */
inline folio_alloc(p)
{
	p = (ref[1] -> (ref[1 + NS] -> 0 : 1 + NS) : 1);
	if
	:: p ->
		is_free(p);
		is_free(p + 1);
		assert(USE_AFTER_FREE || !locked[p]);
		ref[p] = 1
	:: else
	fi
}

inline page_hold(p) { holders[FOLIO(p)]++; slots_of[p]++ }

inline page_drop(p)
{
	slots_of[p]--;
	holders[FOLIO(p)]--;
	if
	:: !holders[FOLIO(p)] -> ref[FOLIO(p)]--
	:: else
	fi
}

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

inline leaf_alloc(l)
{
	l = 1;
	do
	:: l <= NL && leaf_refs[l] -> l++
	:: else -> break
	od;
	assert(TOO_SMALL || l <= NL);
	leaf_refs[l] = 1
}

/* cowmem_tree_own(): make @l, a variable, a leaf that nobody else reaches. */
inline tree_own(l)
{
	d_step {
		if
		:: !l || leaf_refs[l] > 1 ->
			leaf_alloc(n);
			j = 0;
			do
			:: l && j < NS ->
				slot[AT(n, j)] = slot[AT(l, j)];
				if
				:: slot[AT(n, j)] -> page_hold(slot[AT(n, j)])
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

/* Pages of a folio are granted only while all that is held of it is here, at home. */
inline check_grants(l)
{
#ifndef LAX
	i = 0;
	do
	:: i < NS ->
		assert(GRANTED_IN_SHARED || !l || !granted[AT(l, i)] || (leaf_refs[l] == 1 &&
		       (!HUGE(slot[AT(l, i)]) ||
			holders[FOLIO(slot[AT(l, i)])] == NR_HOME(l, FOLIO(slot[AT(l, i)])))));
		i++
	:: else -> break
	od;
	i = 0
#else
	skip
#endif
}

/* ---- the core kernel ---- */

inline flush(m, s)
{
	j = 0;
	do
	:: j < NC ->
		if
		:: CPU_MAP(j) == m -> tlb[AT(j, s)] = 0; tlb_w[AT(j, s)] = 0
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0
}

/* __split_huge_pmd(), all of which is done under the page table lock */
inline split(m)
{
	atomic {
		!splitting[m] ->
		d_step {
			if
			:: pmd[m] ->
				flush(m, 0);
				flush(m, 1);
				mapcount[pmd[m]]--;
				assert(USE_AFTER_FREE || ref[pmd[m]]);
				ref[pmd[m]]--;
				pmd[m] = 0;
				pmd_w[m] = 0
			:: else
			fi
		}
	}
}

/* The same, and those who look at the PMD without that lock see what it is meanwhile. */
inline split_slowly(m)
{
	atomic {
		!splitting[m] ->
		splitting[m] = pmd[m];
		pmd[m] = 0;
		pmd_w[m] = 0
	}
	d_step {
		z = splitting[m];
		if
		:: z ->
			flush(m, 0);
			flush(m, 1);
			mapcount[z]--;
			assert(USE_AFTER_FREE || ref[z]);
			ref[z]--
		:: else
		fi;
		splitting[m] = 0;
		z = 0
	}
}

inline zap_pte(m, s, p)
{
	p = pte[AT(m, s)];
	if
	:: p && p != Z -> mapcount[FOLIO(p)]--
	:: else
	fi;
	pte[AT(m, s)] = 0;
	pte_w[AT(m, s)] = 0
}

inline zap_end(m)
{
	if
	:: n ->
		d_step { flush(m, 0); flush(m, 1) }
		d_step { put_page(z); put_page(y); pending[m]--; z = 0; y = 0; n = 0 }
	:: else
	fi
}

/* zap_page_range_single() of one page: a PMD is split. */
inline zap(m, s)
{
	if
	:: pmd[m] -> split(m)
	:: else
	fi;
	d_step {
		zap_pte(m, s, z);
		n = z || pending[m];
		pending[m] = pending[m] + n
	}
	zap_end(m)
}

/* The same of an area */
inline zap_area(m)
{
	d_step {
		if
		:: pmd[m] ->
			z = pmd[m];
			mapcount[z]--;
			pmd[m] = 0;
			pmd_w[m] = 0
		:: else ->
			zap_pte(m, 0, z);
			zap_pte(m, 1, y)
		fi;
		n = z || y || pending[m];
		pending[m] = pending[m] + n
	}
	zap_end(m)
}

inline set_pte(m, s, p, w)
{
	if
	:: !pte[AT(m, s)] ->
		pte[AT(m, s)] = p;
		pte_w[AT(m, s)] = w;
		if
		:: p != Z -> ref[FOLIO(p)]++; mapcount[FOLIO(p)]++
		:: else
		fi
	:: else
	fi
}

/*
 * finish_fault() and what is done after it: map @page, whose folio is locked, and which the
 * fault has a reference to, by a PMD if there is none.
 */
inline core_map(m, s, w)
{
	atomic {
		!splitting[m] ->
		if
		:: PMD_NONE(m) ->
			pmd[m] = FOLIO(page);
			pmd_w[m] = w;
			mapcount[FOLIO(page)]++
#ifdef FALLBACK
		/* There was no memory for it, or processes may switch it off. */
		:: PMD_NONE(m) -> has_table[m] = 1; put_page(page); set_pte(m, s, page, w)
#endif
		:: pmd[m] -> put_page(page)
		:: has_table[m] ->
			/* As 7.3 does, or as others. */
			if
			:: !pte[AT(m, 1 - (s))] ->
				x = FOLIO(page);
				set_pte(m, 0, x, w);
				x++;
				set_pte(m, 1, x, w);
				x = 0
			:: set_pte(m, s, page, w)
			fi;
			put_page(page)
		fi
	}
	d_step { locked[FOLIO(page)] = 0; page = 0 }
}

/* vm_insert_pages(): does not expect that a PMD maps the area. */
inline insert(m, s, p, w)
{
	assert(BOTH_MAPPED || !pmd[m]);
	has_table[m] = 1;
	set_pte(m, s, p, w)
}

/* ---- huge.c and map.c ---- */

#define GIVEN(r, f) given[(r) * (NF + 1) + (f)]

/* cowmem_pmd_give(): let the core map @page of region @r, whose folio is @x. */
inline pmd_give(r)
{
	GIVEN(r, x) = 1;
	atomic { !locked[x] -> locked[x] = 1 }
	x = 0
}

/* cowmem_pmd_barrier() */
inline barrier(r, s)
{
	d_step {
		assert(USE_AFTER_FREE || !GIVEN(r, 1) || ref[1]);
		assert(USE_AFTER_FREE || !GIVEN(r, 1 + NS) || ref[1 + NS])
	}
	atomic {
#if defined(M_WAIT_BY_INDEX)
		/* What is there now is not what was there when a fault was given it. */
		!HUGE(CUR(r, s)) || !locked[FOLIO(CUR(r, s))] ->
#elif !defined(M_NO_WAIT)
		!(GIVEN(r, 1) && locked[1]) && !(GIVEN(r, 1 + NS) && locked[1 + NS]) ->
#endif
		GIVEN(r, 1) = 0;
		GIVEN(r, 1 + NS) = 0
	}
}

/* cowmem_unmap(), of one page or an area */
inline unmap(r, s)
{
	barrier(r, s);
	zap(2 * (r), s);
#ifdef ALIAS
	if
	:: (r) == 0 -> zap(1, s)
	:: else
	fi
#endif
}

inline unmap_area(r)
{
	barrier(r, 0);
	zap_area(2 * (r));
#ifdef ALIAS
	if
	:: (r) == 0 -> zap_area(1)
	:: else
	fi
#endif
}

/* cowmem_page_busy() */
#define BUSY(p, mine) (ref[FOLIO(p)] != 1 + (mine))

/* cowmem_area_exclusive(): is all that is held of the folio of @p here, and nobody shares it? */
#ifdef M_REUSE_ELSEWHERE
#define EXCLUSIVE(r, s, p) true
#else
#define EXCLUSIVE(r, s, p) (leaf_refs[root[r]] == 1 && AT_HOME(root[r], s, FOLIO(p)) && \
			    holders[FOLIO(p)] == NR_HOME(root[r], FOLIO(p)))
#endif

/* cowmem_area_folio(): may a PMD map region @r? */
#define AREA_FOLIO(r, w) (root[r] && WHOLE(root[r]) && \
	(!(w) || (granted[AT(root[r], 0)] && granted[AT(root[r], 1)])))

/* ---- making folios: for a hole, or for a stream that copies what is shared ---- */

/* folio_to_copy() */
#define TO_COPY(r, s) (root[r] && WHOLE(root[r]) && !granted[AT(root[r], 0)] && \
	!granted[AT(root[r], 1)] && !EXCLUSIVE(r, s, CUR(r, s)))
#define BARE(r) (!root[r] || (!CUR(r, 0) && !CUR(r, 1)))

#ifdef STREAM
/* It begins with the first page. */
#define WANTED(r, s) (BARE(r) || (!(s) && TO_COPY(r, s)))
#elif defined(CASE_huge_hole)
#define WANTED(r, s) BARE(r)
#endif

/* install(): @page becomes what backs region @r, whose lock is held. */
inline install_folio(r)
{
	if
	:: old || hole_mapped[r] -> unmap_area(r); hole_mapped[r] = 0
	:: else
	fi;
	d_step {
		leaf_alloc(x);
		i = 0;
		do
		:: i < NS ->
			slot[AT(x, i)] = page + i;
			page_hold(page + i);
			granted[AT(x, i)] = 1;
			i++
		:: else -> break
		od;
		if
		:: root[r] -> leaf_put(root[r])
		:: else
		fi;
		root[r] = x;
		x = 0;
		i = 0
	}
}

/* cowmem_make_huge(): region->lock is held for reading, and not afterwards. */
inline make_huge(r, s)
{
#ifndef M_COPY_NO_LEAF_LOCK
	lock_leaf(r);
#endif
	d_step { old = (TO_COPY(r, s) -> CUR(r, 0) : 0) }
#ifndef M_COPY_NO_REF
	d_step {
		assert(USE_AFTER_FREE || !old || ref[old]);
		ref[old] = ref[old] + (old > 0)
	}
#endif
#ifndef M_COPY_NO_LEAF_LOCK
	unlock_leaf(r);
#endif
	up_read(r);
	d_step {
		folio_alloc(page);
		if
		:: page -> data[page] = data[old]
		:: else
		fi
	}
	if
	:: page ->
		d_step {
			assert(USE_AFTER_FREE || !old || ref[old]);
			data[page + 1] = data[old + (old > 0)]
		}
		down_write(r);
		if
#ifdef M_COPY_NO_CHECK
		:: true ->
#else
		:: (old -> TO_COPY(r, s) && CUR(r, 0) == old : BARE(r)) ->
#endif
			install_folio(r)
		:: else -> ref[page] = 0
		fi;
		up_write(r)
	:: else
	fi;
#ifndef M_COPY_NO_REF
	put_page(old);
#endif
	d_step { page = 0; old = 0 }
}

/* ---- grant.c ---- */

/* unmap_ahead(), of @old */
inline unmap_ahead(m, r, s)
{
	if
	:: old && old == mapped -> zap(m, s); n = BUSY(old, 1)
	:: else -> n = 1
	fi;
	if
	:: n -> n = 0; unmap(r, s); hole_mapped[r] = (root[r] && !CUR(r, 1 - (s)) && hole_mapped[r])
	:: else
	fi
}

/* cowmem_area_reuse(): sets @done */
inline area_reuse(r, s)
{
	if
	:: EXCLUSIVE(r, s, old) ->
		unmap_area(r);
#ifdef M_REUSE_NO_REF
		n = 1;
#else
		n = !BUSY(old, old == mapped);
#endif
		if
		:: n ->
			/* grant_area() */
			d_step {
				n = 0;
				i = 0;
				do
				:: i < NS ->
					granted[AT(leaf, i)] = granted[AT(leaf, i)] ||
							       AT_HOME(leaf, i, FOLIO(old));
					i++
				:: else -> break
				od;
				i = 0;
				done = 1
			}
		:: else
		fi
	:: else
	fi
}

/* replace() */
inline replace(m, r, s)
{
	d_step {
		page_alloc(page);
		data[page] = data[old]
	}
#if !defined(M_REPLACE_NO_BARRIER) && !defined(M_WAIT_BY_INDEX)
	if
	:: WHOLE(leaf) -> barrier(r, s)
	:: else
	fi;
#endif
	d_step {
		granted[AT(leaf, s)] = 1;
		slot[AT(leaf, s)] = page
	}
	if
	:: (old -> BUSY(old, old == mapped) : hole_mapped[r]) -> unmap_ahead(m, r, s)
	:: else
	fi;
	d_step {
		if
		:: old -> page_drop(old)
		:: else
		fi
	}
}

/* grant_leaf() of @leaf: sets @page */
inline grant_leaf(m, r, s)
{
	old = slot[AT(leaf, s)];
	if
	:: granted[AT(leaf, s)] ->
		if
		:: mapped -> zap(m, s)
		:: else
		fi
	:: else ->
		if
		:: HUGE(old) -> area_reuse(r, s)
		:: old && !HUGE(old) && holders[old] == 1 ->
			if
			:: mapcount[old] -> unmap_ahead(m, r, s)
			:: else
			fi;
			d_step { done = !BUSY(old, old == mapped); granted[AT(leaf, s)] = done }
		:: else
		fi;
		if
		:: done
		:: else -> replace(m, r, s)
		fi
	fi;
	d_step { page = slot[AT(leaf, s)]; old = 0; done = 0; check_grants(leaf) }
}

/* cowmem_begin_write(): sets @page.  @m is where a fault is, if it found @mapped. */
inline begin_write(m, r, s)
{
	down_read(r);
#ifdef WANTED
	if
	:: WANTED(r, s) -> make_huge(r, s); down_read(r)
	:: else
	fi;
#endif
	leaf = root[r];
	if
	:: !leaf || leaf_refs[leaf] > 1 ->
		up_read(r);
		down_write(r);
		tree_own(root[r]);
		leaf = root[r];
		d_step { write_locked[r] = 0; read_locked[r]++ }
	:: else
	fi;
	lock_leaf(r);
	grant_leaf(m, r, s)
}

inline end_write(r)
{
	leaf = 0;
	unlock_leaf(r);
	up_read(r)
}

/* ---- fault.c ---- */

/* give_area(): sets @lent, and @page, to which there is a reference then */
inline give_area(m, r, s, w)
{
	d_step {
		if
		:: PMD_NONE(m) && AREA_FOLIO(r, w) ->
			page = CUR(r, s);
			x = FOLIO(page);
			ref[x]++;
			lent = 1
		:: else
		fi
	}
	if
	:: lent -> pmd_give(r)
	:: else
	fi
}

/*
 * pmd_came(): sets @done to whether a PMD maps the page by now.  One that is read-only goes,
 * else who writes could meet those of readers for ever.
 */
inline pmd_came(m, s, w)
{
#ifdef M_NO_LOOK
	skip
#else
	d_step {
		done = (pmd[m] > 0);
#ifndef M_ANY_PMD_WILL_DO
		n = done && (w) && !pmd_w[m];
		done = done && !n
#endif
	}
	if
	:: n -> n = 0; zap(m, s)
	:: else
	fi
#endif
}

/* still_given(), of @page, and what the core does then */
inline still_given(m, r, s)
{
	down_read(r);
	lock_leaf(r);
	d_step {
#ifdef M_STILL_NO_CHECK
		lent = 1;
#else
		lent = CUR(r, s) == page && AREA_FOLIO(r, 1);
#endif
		x = FOLIO(page)
	}
	if
	:: lent ->
#ifdef M_STILL_NO_NOTE
		atomic { !locked[x] -> locked[x] = 1 }
#else
		pmd_give(r);
#endif
#ifndef M_STILL_NO_LOOK
		pmd_came(m, s, 1);
		if
		:: done -> d_step { locked[FOLIO(page)] = 0; lent = 0; done = 0 }
		:: else
		fi
#endif
	:: else
	fi;
	x = 0;
	unlock_leaf(r);
	up_read(r);
	if
	:: lent -> lent = 0; core_map(m, s, 1)
	:: else -> put_page(page); page = 0
	fi
}

/* Map @page writable, and what else of a folio there is in its leaf. */
inline map_writable(m, r, s)
{
	atomic {
		!splitting[m] ->
		d_step {
			insert(m, s, page, 1);
			if
			:: AREA_FOLIO(r, 1) -> x = CUR(r, 1 - (s)); insert(m, 1 - (s), x, 1); x = 0
			:: else
			fi
		}
	}
}

/* fault_write(): @mapped is what the core found, with a reference of its own */
inline fault_write(m, r, s)
{
	do
	:: begin_write(m, r, s);
#ifndef M_LOOK_NO_WAIT
		barrier(r, s);
#endif
		pmd_came(m, s, 1);
		if
		:: !done && !mapped -> give_area(m, r, s, 1)
		:: else
		fi;
		if
		:: lent ->
			end_write(r);
			/* The core unlocks it before it calls ->page_mkwrite. */
			d_step { locked[FOLIO(page)] = 0; lent = 0 }
			if
			:: !has_table[m] -> still_given(m, r, s); break
			:: d_step { has_table[m] -> mapped = page; page = 0 }
			fi
		:: else ->
			if
			:: done
			:: else -> map_writable(m, r, s)
			fi;
			end_write(r);
			d_step { put_page(mapped); mapped = 0; page = 0; done = 0 }
			break
		fi
	od
}

/* map_around(): all of the leaf */
inline map_around(m, r)
{
	atomic {
		!splitting[m] ->
		d_step {
			i = 0;
			do
			:: i < NS ->
				page = CUR(r, i);
				if
				:: !page -> page = Z; hole_mapped[r] = 1
				:: else
				fi;
				insert(m, i, page, 0);
				i++
			:: else -> break
			od;
			i = 0;
			page = 0
		}
	}
}

/* fault_read() */
inline fault_read(m, r, s)
{
	down_read(r);
	lock_leaf(r);
#ifndef M_LOOK_NO_WAIT
	barrier(r, s);
#endif
	pmd_came(m, s, 0);
	if
	:: done -> done = 0
	:: else ->
		give_area(m, r, s, 0);
		if
		:: lent
		:: else -> map_around(m, r)
		fi
	fi;
	unlock_leaf(r);
	up_read(r);
	if
	:: lent -> lent = 0; core_map(m, s, 0)
	:: else
	fi
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
		!tlb[AT(c, s)] && MAPPED(m, s) ->
		tlb[AT(c, s)] = MAPPED(m, s);
		tlb_w[AT(c, s)] = WRITABLE(m, s)
	   }
	:: !tlb[AT(c, s)] && !MAPPED(m, s) -> fault_read(m, r, s)
	od
}

/* A PTE that may not be written: ->page_mkwrite is called. */
inline find_mapped(m, s)
{
	mapped = pte[AT(m, s)];
	if
	:: mapped && mapped != Z -> ref[FOLIO(mapped)]++
	:: else
	fi
}

/* Store @v to memory. */
#define HIT(c, s) (tlb[AT(c, s)] && tlb_w[AT(c, s)])
inline save(c, m, r, s, v)
{
	do
	:: d_step { HIT(c, s) -> store(r, s, tlb[AT(c, s)], v) }; break
	:: d_step {
		!HIT(c, s) && WRITABLE(m, s) ->
		tlb[AT(c, s)] = MAPPED(m, s);
		tlb_w[AT(c, s)] = 1
	   }
	:: d_step {
		!HIT(c, s) && !WRITABLE(m, s) ->
		n = (pmd[m] > 0);
		if
		:: !n -> find_mapped(m, s)
		:: else
		fi
	   };
		/* wp_huge_pmd() */
		if
		:: n -> n = 0; split(m)
		:: else
		fi;
		fault_write(m, r, s)
	od
}

/* write() */
inline sys_write(r, s, v)
{
	begin_write(0, r, s);
	d_step { store(r, s, page, v) }
	end_write(r);
	page = 0
}

/* get_user_pages_fast(): into @x, which has a reference then */
inline gup(m, r, s, write)
{
	do
	:: d_step { got = MAPPED(m, s); n = got && got != Z && (WRITABLE(m, s) || !(write)) };
		if
		:: n ->
			/* Unless it was freed under us. */
			d_step {
				n = ref[FOLIO(got)] > 0;
				ref[FOLIO(got)] = ref[FOLIO(got)] + n
			}
			if
			:: n ->
				n = 0;
#ifdef M_GUP_NO_RECHECK
				break
#else
				if
				:: d_step { MAPPED(m, s) == got && (WRITABLE(m, s) || !(write)) };
				   break
				:: else -> put_page(got)
				fi
#endif
			:: else
			fi
		:: else ->
			got = 0;
			if
			:: write ->
				d_step {
					if
					:: pmd[m]
					:: else -> find_mapped(m, s)
					fi
				}
				/* Another has just mapped it, or it has to be split. */
				if
				:: WRITABLE(m, s) -> d_step { put_page(mapped); mapped = 0 }
				:: else ->
					split(m);
					fault_write(m, r, s)
				fi
			:: else -> fault_read(m, r, s)
			fi
		fi
	od;
	x = got;
	got = 0
}

/* ---- how a region shares its pages: cut.c and share.c ---- */

/* cowmem_cut() */
inline cut_all(r)
{
	if
	:: granted[AT(root[r], 0)] && granted[AT(root[r], 1)] -> unmap_area(r)
	:: granted[AT(root[r], 0)] && !granted[AT(root[r], 1)] -> unmap(r, 0)
	:: !granted[AT(root[r], 0)] && granted[AT(root[r], 1)] -> unmap(r, 1)
	:: else
	fi
}

/* Take back the grant of slot @s of region @r, and with it of the rest of a folio. */
inline revoke(r, s)
{
	granted[AT(root[r], s)] = 0;
#ifndef M_REVOKE_PART
	if
	:: FOLIO(CUR(r, 0)) == FOLIO(CUR(r, 1)) -> granted[AT(root[r], 1 - (s))] = 0
	:: else
	fi
#endif
}

/* cut_ahead(), with the lock let go of before the clone */
inline cut_ahead(r)
{
	down_write(r);
	cut_all(r);
	/* revoke_idle(): of a folio all grants or none */
	i = 0;
	do
	:: i < NS ->
		d_step {
			if
#ifdef M_AHEAD_REVOKE_BUSY
			:: granted[AT(root[r], i)] ->
#else
			:: granted[AT(root[r], i)] && !BUSY(CUR(r, i), 0) ->
#endif
				revoke(r, i)
			:: else
			fi
		}
		i++
	:: else -> break
	od;
	i = 0;
	up_write(r)
}

/*
 * copy_busy(), of slot @s of region @r, which is slot @t of @fresh: @got is whether it was.
 * Who refers to a folio may let go of it after some of its pages were copied.
 */
inline copy_busy(r, s, t)
{
	if
	:: granted[AT(root[r], s)] && BUSY(CUR(r, s), 0) ->
		tree_own(fresh);
		d_step {
			page = CUR(r, s);
			page_alloc(x);
			data[x] = data[page];
			slot[AT(fresh, t)] = x;
			page_drop(page);
			x = 0;
			page = 0;
			got = 1
		}
	:: else
	fi
}

/* cowmem_share_now(): @fresh becomes what region @r holds at one instant, by name @cut */
inline share_now(r)
{
#ifdef AHEAD
	cut_ahead(r);
#endif
	down_write(r);
#ifndef M_NO_CUT
	cut_all(r);
#endif
	d_step { fresh = root[r]; leaf_refs[fresh]++ }
	copy_busy(r, 0, 0);
	copy_busy(r, 1, 1);
	/* revoke() */
	d_step {
		got = 0;
		i = 0;
		do
		:: i < NS ->
			if
			:: slot[AT(fresh, i)] == CUR(r, i) ->
				revoke(r, i);
				assert(STALE_READ || data[CUR(r, i)] == want[AT(r, i)])
			:: else
			fi;
			cut[i] = data[slot[AT(fresh, i)]];
			i++
		:: else -> break
		od;
		assert(INCONSISTENT_CUT || cut[0] >= cut[NS - 1]);
		check_grants(root[r]);
		check_grants(fresh);
		page = 0
	}
	up_write(r)
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

/* Region 1, which is empty, becomes a clone of region 0. */
inline clone()
{
	share_now(0);
	d_step { install(1) }
}

/* munmap() and close() */
inline close_clone()
{
	zap_area(2);
	d_step { leaf = root[1]; root[1] = 0; leaf_put(leaf); leaf = 0 }
}

/*
 * COPY of page 0 of region 0 to page @t of region 1: a folio is shared in part.  Grants
 * are taken back of all of it.
 */
inline copy_part(t)
{
	down_write(0);
	cut_all(0);
	d_step {
		leaf_alloc(fresh);
		slot[AT(fresh, t)] = CUR(0, 0);
		page_hold(CUR(0, 0))
	}
	copy_busy(0, 0, t);
	d_step {
		if
		:: got
		:: else -> revoke(0, 0)
		fi;
		cut[t] = data[slot[AT(fresh, t)]];
		got = 0;
		check_grants(root[0])
	}
	up_write(0);
	down_write(1);
	tree_own(root[1]);
	unmap(1, t);
	d_step {
		old = CUR(1, t);
		CUR(1, t) = slot[AT(fresh, t)];
		slot[AT(fresh, t)] = 0;
		granted[AT(root[1], t)] = 0;
		want[AT(1, t)] = cut[t];
		cut[t] = 0;
		if
		:: old -> page_drop(old)
		:: else
		fi;
		old = 0
	}
	up_write(1);
	drop_fresh()
}

/* ---- restore.c and size.c ---- */

/* RESTORE of region 0 from region 1, which is a snapshot and shared as it is */
inline restore_snapshot()
{
	d_step { fresh = root[1]; leaf_refs[fresh]++; cut[0] = want[AT(1, 0)]; cut[1] = want[AT(1, 1)] }
	down_write(0);
	/* cowmem_unmap_difference() */
	if
	:: CUR(0, 0) != slot[AT(fresh, 0)] && CUR(0, 1) != slot[AT(fresh, 1)] -> unmap_area(0)
	:: CUR(0, 0) != slot[AT(fresh, 0)] && CUR(0, 1) == slot[AT(fresh, 1)] -> unmap(0, 0)
	:: CUR(0, 0) == slot[AT(fresh, 0)] && CUR(0, 1) != slot[AT(fresh, 1)] -> unmap(0, 1)
	:: else
	fi;
	d_step { install(0) }
	up_write(0);
	drop_fresh()
}

/* cowmem_area_thin(): the page that is left of a folio goes to a small one. */
inline thin(s)
{
	unmap_area(0);
	page = CUR(0, s);
	if
#ifndef M_THIN_BUSY
	:: granted[AT(root[0], s)] && BUSY(page, 0)
#endif
	:: else ->
		d_step {
			granted[AT(root[0], s)] = 0;
			page_alloc(x);
			data[x] = data[page]
		}
		d_step { CUR(0, s) = x; page_drop(page); x = 0 }
	fi;
	page = 0
}

inline discard(s)
{
	down_write(0);
	tree_own(root[0]);
	unmap(0, s);
	d_step {
		page = CUR(0, s);
		CUR(0, s) = 0;
		granted[AT(root[0], s)] = 0;
		want[AT(0, s)] = 0;
		if
		:: page -> page_drop(page)
		:: else
		fi;
		page = 0
	};
#ifdef THIN
	if
	:: HUGE(CUR(0, 1 - (s))) -> thin(1 - (s))
	:: else
	fi;
#endif
	up_write(0)
}

/* ---- who takes part ---- */

#ifdef RUN_writer
/* A thread on CPU @c that stores @v, @v + 1, ... @k times. */
proctype writer(byte c, m, r, s, k, v)
{
	LOCALS;

	do
	:: k -> save(c, m, r, s, v); k--; v++
	:: else -> break
	od;
	finished++
}
#endif

#ifdef RUN_reader
proctype reader(byte c, m, r, s, k)
{
	LOCALS;

	do
	:: k -> load(c, m, r, s); k--
	:: else -> break
	od
}
#endif

#ifdef RUN_reader_for_ever
/* Reads for as long as there is a writer that is not done. */
proctype reader_for_ever(byte c, m, r, s)
{
	LOCALS;

	do
	:: !finished -> load(c, m, r, s)
	:: finished -> break
	od
}
#endif

#ifdef RUN_caller_of_write
proctype caller_of_write(byte r, s, v)
{
	LOCALS;

	sys_write(r, s, v);
	finished++
}
#endif

#ifdef RUN_splitter
/* The core splits a PMD at any time, for mprotect() or munmap() of a part. */
proctype splitter(byte m)
{
	LOCALS;

#ifdef SLOW
	split_slowly(m)
#else
	split(m)
#endif
}
#endif

#ifdef RUN_dontneed
proctype dontneed(byte m)
{
	LOCALS;

	zap_area(m)
}
#endif

#ifdef RUN_cloner
proctype cloner()
{
	LOCALS;
	SHARES;

	clone();
	/* The clone is written or read. */
	if
	:: save(2, 2, 1, 0, 9)
	:: load(2, 2, 1, 1)
	fi
}
#endif

#ifdef RUN_cloner_only
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

#ifdef RUN_copier
proctype copier(byte t)
{
	LOCALS;
	SHARES;

	copy_part(t)
}
#endif

#ifdef RUN_writing_io
/* I/O that writes to memory: its page stays that of region 0 until it is through. */
proctype writing_io(byte s, v)
{
	LOCALS;

	gup(0, 0, s, 1);
	d_step {
		assert(USE_AFTER_FREE || ref[FOLIO(x)]);
		assert(PIN_SWAPPED || CUR(0, s) == x);
		assert(SHARED_WRITE || (CUR(1, 0) != x && CUR(1, 1) != x));
		data[x] = v;
		want[s] = v
	}
	put_page(x)
}
#endif

#ifdef RUN_leaving_reader
/* Region 1 hands its page to a pipe or a device, and goes: nobody may write that page. */
proctype leaving_reader(byte s)
{
	LOCALS;

	gup(2, 1, s, 0);
	got = data[x];
	close_clone();
	d_step {
		assert(PIN_CHANGED || data[x] == got);
		assert(USE_AFTER_FREE || ref[FOLIO(x)])
	}
	put_page(x)
}
#endif

#ifdef RUN_restorer
proctype restorer()
{
	LOCALS;
	SHARES;

	restore_snapshot()
}
#endif

#ifdef RUN_discarder
proctype discarder(byte s)
{
	LOCALS;

	discard(s)
}
#endif

/* Region 0 alone has a folio, which it may write or not. */
inline one_region(g)
{
	root[0] = 1;
	leaf_refs[1] = 1;
	ref[1] = 1;
	i = 0;
	do
	:: i < NS ->
		slot[AT(1, i)] = i + 1;
		page_hold(i + 1);
		granted[AT(1, i)] = g;
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
	one_region(0);
	root[1] = 1;
	leaf_refs[1] = 2;
	do
	:: i < NS -> want[AT(1, i)] = 1; i++
	:: else -> break
	od;
	i = 0
}

/* A PMD maps region 0. */
inline map_area(w)
{
	pmd[0] = 1;
	pmd_w[0] = w;
	ref[1]++;
	mapcount[1]++
}

init {
	byte i;

	atomic {
#if defined(CASE_huge_fault)
		one_region(1);
		run writer(0, 0, 0, 0, 1, 2);
		run writer(1, CPU_MAP(1), 0, 1, 1, 2);
		run dontneed(0);
#elif defined(CASE_huge_fault_shared)
		two_regions();
		run writer(0, 0, 0, 0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 1, 2);
		run splitter(0);
#elif defined(CASE_huge_three)
		one_region(1);
		run writer(0, 0, 0, 0, 1, 2);
		run writer(1, 0, 0, 1, 1, 2);
		run reader(1, 0, 0, 1, 1);
		run splitter(0);
#elif defined(CASE_huge_read)
		two_regions();
		run reader(0, 0, 0, 0, 1);
		run reader(1, 0, 0, 1, 1);
		run dontneed(0);
		run writer(2, 2, 1, 0, 1, 8);
#elif defined(CASE_huge_clone)
		one_region(1);
		run writer(0, 0, 0, 0, 2, 2);
		run reader(1, CPU_MAP(1), 0, 0, 1);
		run cloner();
#elif defined(CASE_huge_clone_call)
		one_region(1);
		run caller_of_write(0, 0, 2);
		run reader(1, 0, 0, 0, 2);
		run cloner_only();
#elif defined(CASE_huge_write)
		two_regions();
		run writer(0, 0, 0, 0, 2, 2);
		run reader(1, CPU_MAP(1), 0, 0, 2);
#elif defined(CASE_huge_call)
		two_regions();
		run caller_of_write(0, 0, 2);
		run reader(1, CPU_MAP(1), 0, 0, 2);
		run dontneed(0);
#elif defined(CASE_huge_split)
		two_regions();
		map_area(0);
		run caller_of_write(0, 0, 2);
		run reader(1, 0, 0, 0, 2);
		run splitter(0);
#elif defined(CASE_huge_last_holder)
		two_regions();
		run writer(0, 0, 0, 0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 1, 2);
		run closer();
#elif defined(CASE_huge_leaving_reader)
		two_regions();
		run writer(0, 0, 0, 0, 1, 2);
		run leaving_reader(0);
#elif defined(CASE_huge_io)
		one_region(1);
		run writing_io(0, 2);
		run writer(1, 0, 0, 0, 1, 3);
		run cloner_only();
#elif defined(CASE_huge_restore)
		two_regions();
		run writer(0, 0, 0, 0, 2, 2);
		run reader(1, CPU_MAP(1), 0, 0, 2);
		run restorer();
#elif defined(CASE_huge_discard)
		one_region(1);
		run writer(0, 0, 0, 1, 2, 2);
		run reader(1, CPU_MAP(1), 0, 0, 2);
		run discarder(0);
#elif defined(CASE_huge_given_again)
		/* In the other mapping there is a page table, and so no PMD. */
		one_region(1);
		has_table[1] = 1;
		run writer(0, 0, 0, 1, 1, 2);
		run reader(0, 0, 0, 0, 1);
		run reader(1, 1, 0, 0, 1);
		run discarder(0);
#elif defined(CASE_huge_copy_part)
		one_region(1);
		run writer(0, 0, 0, 0, 2, 2);
		run writer(1, 0, 0, 1, 1, 2);
		run copier(0);
#elif defined(CASE_huge_copy_elsewhere)
		one_region(1);
		run writer(0, 0, 0, 0, 2, 2);
		run copier(1);
		run reader(2, 2, 1, 1, 2);
#elif defined(CASE_huge_forget)
		/* Long ago it was given. */
		two_regions();
		given[1] = 1;
		run caller_of_write(0, 0, 2);
		run caller_of_write(0, 1, 2);
		run reader(0, 0, 0, 0, 1);
		run closer();
#elif defined(CASE_huge_hole)
		run writer(0, 0, 0, 0, 1, 2);
		run caller_of_write(0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 0, 2);
#elif defined(CASE_huge_stream)
		two_regions();
		run writer(0, 0, 0, 0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 1, 2);
		run writer(2, 2, 1, 0, 1, 8);
#elif defined(CASE_huge_stream_call)
		two_regions();
		run writer(0, 0, 0, 0, 1, 2);
		run caller_of_write(0, 1, 2);
		run reader(1, CPU_MAP(1), 0, 1, 1);
#elif defined(CASE_huge_stream_discard)
		two_regions();
		run writer(0, 0, 0, 0, 1, 2);
		run discarder(0);
		run discarder(1);
		run closer();
#elif defined(CASE_huge_thin)
		one_region(1);
		run writing_io(1, 2);
		run writer(1, 0, 0, 1, 1, 3);
		run discarder(0);
#elif defined(CASE_progress_huge)
		two_regions();
		run writer(0, 0, 0, 0, 1, 2);
		run reader_for_ever(1, CPU_MAP(1), 0, 1);
#elif defined(CASE_progress_huge_granted)
		one_region(1);
		run writer(0, 0, 0, 0, 1, 2);
		run reader_for_ever(1, CPU_MAP(1), 0, 1);
#else
#error "which case?"
#endif
	}
}
