// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of index nodes
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/slab.h>

#include "account.h"
#include "limit.h"
#include "node.h"

static struct kmem_cache *cowmem_node_cache;
static atomic_long_t nr_nodes = ATOMIC_LONG_INIT(0);

/**
 * cowmem_node_alloc - allocate an index node
 * @account: what it is to be charged to, or NULL
 * @gently: fail rather than start the OOM killer
 *
 * Context: may sleep.
 * Return: the node, whose fields are undefined but for @account; -ENOMEM or -ENOSPC.
 */
struct cowmem_node *cowmem_node_alloc(struct cowmem_account *account, bool gently)
{
	struct cowmem_node *node;
	int err = -ENOSPC;

	if (!cowmem_charge_node(account))
		return ERR_PTR(err);
	if (!cowmem_limit_charge(sizeof(*node)))
		goto uncharge;
	err = -ENOMEM;
	node = kmem_cache_alloc(cowmem_node_cache, GFP_KERNEL_ACCOUNT | cowmem_gentle(gently));
	if (!node)
		goto unaccount;
	node->account = account;
	atomic_long_inc(&nr_nodes);
	return node;

unaccount:
	cowmem_limit_uncharge(sizeof(*node));
uncharge:
	cowmem_uncharge_node(account);
	return ERR_PTR(err);
}

/**
 * cowmem_node_free - free an index node
 * @node: the node
 *
 * Context: any.
 */
void cowmem_node_free(struct cowmem_node *node)
{
	cowmem_uncharge_node(node->account);
	kmem_cache_free(cowmem_node_cache, node);
	atomic_long_dec(&nr_nodes);
	cowmem_limit_uncharge(sizeof(*node));
}

/**
 * cowmem_nodes_init - set up what nodes are allocated from
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int cowmem_nodes_init(void)
{
	cowmem_node_cache = KMEM_CACHE(cowmem_node, SLAB_ACCOUNT);
	return cowmem_node_cache ? 0 : -ENOMEM;
}

/**
 * cowmem_nodes_exit - undo cowmem_nodes_init()
 *
 * Context: may sleep; no region is left.
 */
void cowmem_nodes_exit(void)
{
	long nodes = atomic_long_read(&nr_nodes);

	if (nodes)
		pr_err("leaked %ld nodes\n", nodes);
	kmem_cache_destroy(cowmem_node_cache);
}
