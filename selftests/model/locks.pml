// SPDX-License-Identifier: GPL-2.0-only
/* The locks of regions, for all models: cowmem_region.lock, and that of the leaf. */

byte read_locked[2];
bit write_locked[2], leaf_locked[2];

inline down_read(r) { atomic { !write_locked[r] -> read_locked[r]++ } }
inline up_read(r) { read_locked[r]-- }
inline down_write(r) { atomic { !write_locked[r] && !read_locked[r] -> write_locked[r] = 1 } }
inline up_write(r) { write_locked[r] = 0 }
inline lock_leaf(r) { atomic { !leaf_locked[r] -> leaf_locked[r] = 1 } }
inline unlock_leaf(r) { leaf_locked[r] = 0 }
