// SPDX-License-Identifier: GPL-2.0-only
/*
 * Extended attributes of the files of a mount, and access control lists
 *
 * Each inode has a tree of attributes, by name.  An attribute never changes: setting it puts
 * another one in its place.  i_lock protects the tree, and if others know of the inode it is
 * changed under i_rwsem as well.  Attributes are charged to the mount, as on tmpfs, or users
 * could fill kernel memory with them.
 *
 * Access control lists exist in the VFS's cache only.  They are charged like attributes,
 * which tmpfs does not do.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/posix_acl_xattr.h>
#include <linux/rbtree.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/xattr.h>

#include "account.h"
#include "life.h"
#include "region.h"
#include "xattr.h"

/* The charge for an attribute besides its name and value, as on tmpfs. */
#define ATTR_SPACE	40

/**
 * struct attr - an attribute
 * @node: link in the tree of its inode.
 * @size: size of the value in bytes.
 * @name: its full name, stored after the value.
 * @value: the value.
 */
struct attr {
	struct rb_node node;
	size_t size;
	char *name;
	char value[];
};

static struct attr *attr_of(const struct rb_node *node)
{
	return rb_entry(node, struct attr, node);
}

/* The charge for an attribute, in bytes. */
static size_t attr_space(const char *name, size_t size)
{
	return ATTR_SPACE + strlen(name) + size;
}

/* Make an attribute, charged to the mount of @inode.  Its name is @prefix followed by @name. */
static struct attr *make_attr(struct inode *inode, const char *prefix,
			      const char *name, const void *value, size_t size)
{
	struct cowmem_account *account = inode->i_sb->s_fs_info;
	size_t len = strlen(prefix) + strlen(name);
	size_t space = ATTR_SPACE + len + size;
	struct attr *attr;

	if (!cowmem_charge_space(account, space))
		return ERR_PTR(-ENOSPC);
	attr = kvmalloc(struct_size(attr, value, size + len + 1), GFP_KERNEL_ACCOUNT);
	if (!attr) {
		cowmem_uncharge_space(account, space);
		return ERR_PTR(-ENOMEM);
	}
	attr->size = size;
	attr->name = attr->value + size;
	memcpy(attr->value, value, size);
	snprintf(attr->name, len + 1, "%s%s", prefix, name);
	return attr;
}

/* @attr may be NULL. */
static void free_attr(struct inode *inode, struct attr *attr)
{
	if (!attr)
		return;
	cowmem_uncharge_space(inode->i_sb->s_fs_info, attr_space(attr->name, attr->size));
	kvfree(attr);
}

/*
 * Replace the attribute of this name with @new, add @new if there is none, or remove it if
 * @new is NULL.  Returns the old one, or NULL; or an error that @flags asks for.
 */
static struct attr *exchange(struct inode *inode, const char *name, struct attr *new,
			     int flags)
{
	struct rb_root *root = &cowmem_region_of(inode)->xattrs;
	struct rb_node **link = &root->rb_node, *parent = NULL;

	lockdep_assert_held(&inode->i_lock);
	while (*link) {
		struct attr *old = attr_of(*link);
		int cmp = strcmp(name, old->name);

		if (!cmp && (flags & XATTR_CREATE))
			return ERR_PTR(-EEXIST);
		if (!cmp && new)
			rb_replace_node(&old->node, &new->node, root);
		else if (!cmp)
			rb_erase(&old->node, root);
		if (!cmp)
			return old;
		parent = *link;
		link = cmp < 0 ? &parent->rb_left : &parent->rb_right;
	}
	if (flags & XATTR_REPLACE)
		return ERR_PTR(-ENODATA);
	if (new) {
		rb_link_node(&new->node, parent, link);
		rb_insert_color(&new->node, root);
	}
	return NULL;
}

/* Set an attribute, or remove it if @value is NULL. */
static int set_attr(struct inode *inode, const char *prefix, const char *name,
		    const void *value, size_t size, int flags)
{
	struct attr *new = NULL, *old;

	if (value) {
		new = make_attr(inode, prefix, name, value, size);
		if (IS_ERR(new))
			return PTR_ERR(new);
		name = new->name;
	}
	spin_lock(&inode->i_lock);
	old = exchange(inode, name, new, flags);
	spin_unlock(&inode->i_lock);
	if (IS_ERR(old)) {
		free_attr(inode, new);
		return PTR_ERR(old);
	}
	free_attr(inode, old);
	return 0;
}

/**
 * cowmem_xattrs_free - free the attributes of an inode that is going away
 * @inode: the inode; nobody else uses it
 *
 * Context: may sleep.
 */
void cowmem_xattrs_free(struct inode *inode)
{
	struct attr *attr, *next;

	rbtree_postorder_for_each_entry_safe(attr, next,
					     &cowmem_region_of(inode)->xattrs, node) {
		free_attr(inode, attr);
		cond_resched();
	}
}

/**
 * cowmem_initxattrs - the callback of security_inode_init_security()
 * @inode: a new inode
 * @attrs: the attributes that security modules want it to have, named without the prefix
 * @unused: not used
 *
 * Context: may sleep.
 * Return: 0, -ENOSPC or -ENOMEM.
 */
int cowmem_initxattrs(struct inode *inode, const struct xattr *attrs, void *unused)
{
	int err = 0;

	for (; attrs->name && !err; attrs++)
		err = set_attr(inode, XATTR_SECURITY_PREFIX, attrs->name, attrs->value,
			       attrs->value_len, 0);
	return err;
}

/* ---- what the VFS calls ---- */

static int compare_name(const void *name, const struct rb_node *node)
{
	return strcmp(name, attr_of(node)->name);
}

static int handler_get(const struct xattr_handler *handler, struct dentry *dentry,
		       struct inode *inode, const char *name, void *buffer, size_t size)
{
	struct rb_root *root = &cowmem_region_of(inode)->xattrs;
	struct rb_node *node;
	int ret = -ENODATA;

	/* Every exec() asks for one, and usually there are none. */
	if (!READ_ONCE(root->rb_node))
		return ret;
	spin_lock(&inode->i_lock);
	node = rb_find(xattr_full_name(handler, name), root, compare_name);
	if (node) {
		struct attr *attr = attr_of(node);

		ret = attr->size;
		if (buffer && size < attr->size)
			ret = -ERANGE;
		else if (buffer)
			memcpy(buffer, attr->value, attr->size);
	}
	spin_unlock(&inode->i_lock);
	return ret;
}

static int handler_set(const struct xattr_handler *handler, struct mnt_idmap *idmap,
		       struct dentry *dentry, struct inode *inode, const char *name,
		       const void *value, size_t size, int flags)
{
	int err = set_attr(inode, "", xattr_full_name(handler, name), value, size, flags);

	if (err)
		return err;
	cowmem_region_times(cowmem_region_of(inode));
	inode_set_ctime_current(inode);
	return 0;
}

/**
 * struct listing - a list of names
 * @buffer: where to store it, or NULL.
 * @size: size of @buffer.
 * @used: number of bytes that the names take.
 */
struct listing {
	char *buffer;
	size_t size;
	size_t used;
};

static int list_one(struct listing *l, const char *name)
{
	size_t len = strlen(name) + 1;

	if (l->buffer && len > l->size - l->used)
		return -ERANGE;
	if (l->buffer)
		memcpy(l->buffer + l->used, name, len);
	l->used += len;
	/* The VFS returns no longer list, so stop here. */
	return l->used > XATTR_LIST_MAX ? -E2BIG : 0;
}

static int list_attrs(struct inode *inode, struct listing *l)
{
	bool trusted = ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
	struct rb_node *node;
	int err = 0;

	spin_lock(&inode->i_lock);
	for (node = rb_first(&cowmem_region_of(inode)->xattrs); node && !err;
	     node = rb_next(node)) {
		const char *name = attr_of(node)->name;

		if (trusted || !strstarts(name, XATTR_TRUSTED_PREFIX))
			err = list_one(l, name);
	}
	spin_unlock(&inode->i_lock);
	return err;
}

#ifdef CONFIG_FS_POSIX_ACL
static int list_acl(struct inode *inode, struct listing *l, int type, const char *name)
{
	struct posix_acl *acl = get_cached_acl(inode, type);

	if (!acl)
		return 0;
	posix_acl_release(acl);
	return list_one(l, name);
}

static int list_acls(struct inode *inode, struct listing *l)
{
	int err = list_acl(inode, l, ACL_TYPE_ACCESS, XATTR_NAME_POSIX_ACL_ACCESS);

	return err ?: list_acl(inode, l, ACL_TYPE_DEFAULT, XATTR_NAME_POSIX_ACL_DEFAULT);
}
#else
static int list_acls(struct inode *inode, struct listing *l)
{
	return 0;
}
#endif

/**
 * cowmem_listxattr - ->listxattr of inodes of a mount
 * @dentry: of the inode
 * @buffer: where to store the names, or NULL
 * @size: size of @buffer
 *
 * Context: may sleep.
 * Return: number of bytes; -ERANGE if @buffer is too small; -E2BIG if any buffer would be.
 */
ssize_t cowmem_listxattr(struct dentry *dentry, char *buffer, size_t size)
{
	struct listing l = { .buffer = buffer, .size = size };
	int err = list_acls(d_inode(dentry), &l);

	err = err ?: list_attrs(d_inode(dentry), &l);
	return err ?: l.used;
}

static const struct xattr_handler user_handler = {
	.prefix	= XATTR_USER_PREFIX,
	.get	= handler_get,
	.set	= handler_set,
};

static const struct xattr_handler trusted_handler = {
	.prefix	= XATTR_TRUSTED_PREFIX,
	.get	= handler_get,
	.set	= handler_set,
};

static const struct xattr_handler security_handler = {
	.prefix	= XATTR_SECURITY_PREFIX,
	.get	= handler_get,
	.set	= handler_set,
};

static const struct xattr_handler *COWMEM_CONST_HANDLERS handlers[] = {
	&user_handler,
	&trusted_handler,
	&security_handler,
	COWMEM_ACL_HANDLERS
	NULL
};

/**
 * cowmem_xattr_init - let the inodes of a mount have attributes
 * @sb: the super block, which has no inodes yet
 */
void cowmem_xattr_init(struct super_block *sb)
{
	sb->s_xattr = handlers;
	/* Without this flag the VFS applies the umask itself. */
	if (IS_ENABLED(CONFIG_FS_POSIX_ACL))
		sb->s_flags |= SB_POSIXACL;
}

/* ---- access control lists ---- */

#ifdef CONFIG_FS_POSIX_ACL
/* The charge for a list, in bytes. */
static size_t acl_space(const struct posix_acl *acl)
{
	return acl ? ATTR_SPACE + acl->a_count * sizeof(acl->a_entries[0]) : 0;
}

/* Set a list, which may be NULL. */
static int replace_acl(struct inode *inode, int type, struct posix_acl *acl)
{
	struct cowmem_account *account = inode->i_sb->s_fs_info;
	struct posix_acl *old = get_cached_acl(inode, type);
	size_t is = acl_space(acl), was = acl_space(old);

	if (!old && !acl)
		return 0;
	posix_acl_release(old);
	/* chmod() does not make a list longer, so it never fails here. */
	if (is > was && !cowmem_charge_space(account, is - was))
		return -ENOSPC;
	if (is < was)
		cowmem_uncharge_space(account, was - is);
	set_cached_acl(inode, type, acl);
	return 0;
}

/**
 * cowmem_acls_free - free the lists of an inode that is going away
 * @inode: the inode; nobody else uses it
 *
 * Context: any.
 */
void cowmem_acls_free(struct inode *inode)
{
	replace_acl(inode, ACL_TYPE_ACCESS, NULL);
	replace_acl(inode, ACL_TYPE_DEFAULT, NULL);
}

/**
 * cowmem_set_acl - ->set_acl of inodes of a mount
 * @idmap: of the mount
 * @of: the inode, or its dentry
 * @acl: the list, or NULL
 * @type: ACL_TYPE_ACCESS or ACL_TYPE_DEFAULT
 *
 * Context: may sleep; under i_rwsem.
 * Return: 0 or a negative errno.
 */
int cowmem_set_acl(struct mnt_idmap *idmap, cowmem_acl_target_t *of,
		   struct posix_acl *acl, int type)
{
	struct inode *inode = cowmem_acl_inode(of);
	umode_t mode = inode->i_mode;
	int err = 0;

	if (type == ACL_TYPE_ACCESS)
		err = posix_acl_update_mode(idmap, inode, &mode, &acl);
	err = err ?: replace_acl(inode, type, acl);
	if (err)
		return err;
	inode->i_mode = mode;
	cowmem_region_times(cowmem_region_of(inode));
	inode_set_ctime_current(inode);
	return 0;
}

/**
 * cowmem_acl_create - apply the default list of a directory to a new inode
 * @dir: the directory
 * @inode: the inode; if there is no list, the umask is applied to its mode
 *
 * Context: may sleep.
 * Return: 0, -ENOMEM or -ENOSPC.
 */
int cowmem_acl_create(struct inode *dir, struct inode *inode)
{
	struct posix_acl *default_acl, *acl;
	int err = posix_acl_create(dir, &inode->i_mode, &default_acl, &acl);

	if (err)
		return err;
	err = replace_acl(inode, ACL_TYPE_DEFAULT, default_acl);
	err = err ?: replace_acl(inode, ACL_TYPE_ACCESS, acl);
	posix_acl_release(default_acl);
	posix_acl_release(acl);
	return err;
}
#endif
