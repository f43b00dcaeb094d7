// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file system to mount
 *
 * As in ramfs, names keep dentries and dentries keep inodes (dir.c).  Each inode has a
 * region, which holds the pages of a regular file.
 *
 * Mounting takes CAP_SYS_ADMIN in the initial user namespace.  What a mount holds stays when
 * the users who wrote it are gone, so only an administrator should decide how much that may
 * be.
 */
#include <linux/ctype.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>

#include "account.h"
#include "dir.h"
#include "fs.h"
#include "huge.h"
#include "life.h"
#include "region.h"
#include "xattr.h"

enum option {
	OPTION_SIZE,
	OPTION_NR_INODES,
	OPTION_MODE,
	OPTION_UID,
	OPTION_GID,
	OPTION_HUGE,
};

static const struct fs_parameter_spec options[] = {
	fsparam_string("size",		OPTION_SIZE),
	fsparam_string("nr_inodes",	OPTION_NR_INODES),
	fsparam_u32oct("mode",		OPTION_MODE),
	fsparam_u32("uid",		OPTION_UID),
	fsparam_u32("gid",		OPTION_GID),
	fsparam_string("huge",		OPTION_HUGE),
	{}
};

/**
 * struct mount_options - the options that mount(8) was given
 * @given: one bit for each enum option that was given.
 * @max_pages: see struct cowmem_account.
 * @max_inodes: see struct cowmem_account.
 * @mode: permissions of the root directory.
 * @uid: its owner.
 * @gid: its group.
 * @huge: see struct cowmem_account.
 */
struct mount_options {
	unsigned int given;
	unsigned long max_pages;
	unsigned long max_inodes;
	umode_t mode;
	kuid_t uid;
	kgid_t gid;
	int huge;
};

/*
 * Parse a number with an optional unit, k, m, g, t, p or e for powers of 1024.  Returns what
 * comes after it; NULL if there is no number or it is too large.
 */
static const char *parse_number(const char *s, u64 *number)
{
	static const char units[] = "kmgtpe";
	const char *unit;

	if (!isdigit(*s))
		return NULL;
	for (*number = 0; isdigit(*s); s++)
		if (check_mul_overflow(*number, 10ULL, number) ||
		    check_add_overflow(*number, (u64)(*s - '0'), number))
			return NULL;
	unit = *s ? strchr(units, tolower(*s)) : NULL;
	if (!unit)
		return s;
	if (check_mul_overflow(*number, 1ULL << 10 * (unit - units + 1), number))
		return NULL;
	return s + 1;
}

/* The most pages that any file system may have: statfs() shows bytes in a loff_t. */
#define MAX_PAGES	((unsigned long)(MAX_LFS_FILESIZE >> PAGE_SHIFT))

static int parse_size(struct fs_context *fc, const char *s, unsigned long *pages)
{
	u64 number;
	const char *rest = parse_number(s, &number);

	if (rest && !strcmp(rest, "%") &&
	    !check_mul_overflow(number, (u64)totalram_pages(), &number)) {
		number = DIV_ROUND_UP_ULL(number, 100);
		rest++;
	} else if (rest) {
		number = (number >> PAGE_SHIFT) + !!offset_in_page(number);
	}
	if (!rest || *rest)
		return invalf(fc, "cowmem: size=%s is neither bytes nor a percentage", s);
	if (number > MAX_PAGES)
		return invalf(fc, "cowmem: size=%s is too large", s);
	*pages = number;
	return 0;
}

static int parse_inodes(struct fs_context *fc, const char *s, unsigned long *inodes)
{
	u64 number;
	const char *rest = parse_number(s, &number);

	if (!rest || *rest)
		return invalf(fc, "cowmem: nr_inodes=%s is no number", s);
	if (number > LONG_MAX / COWMEM_INODE_SPACE)
		return invalf(fc, "cowmem: nr_inodes=%s is too large", s);
	*inodes = number;
	return 0;
}

static int fs_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct mount_options *o = fc->fs_private;
	struct fs_parse_result result;
	int err = 0, huge, option = fs_parse(fc, options, param, &result);
	kuid_t uid;
	kgid_t gid;

	if (option < 0)
		return option;
	switch (option) {
	case OPTION_SIZE:
		err = parse_size(fc, param->string, &o->max_pages);
		break;
	case OPTION_NR_INODES:
		err = parse_inodes(fc, param->string, &o->max_inodes);
		break;
	case OPTION_MODE:
		if (result.uint_32 & ~S_IALLUGO)
			return invalf(fc, "cowmem: mode=%o has bits that are no permissions",
				      result.uint_32);
		o->mode = result.uint_32;
		break;
	case OPTION_UID:
		uid = make_kuid(current_user_ns(), result.uint_32);
		if (!uid_valid(uid))
			return invalf(fc, "cowmem: there is no uid=%u", result.uint_32);
		o->uid = uid;
		break;
	case OPTION_GID:
		gid = make_kgid(current_user_ns(), result.uint_32);
		if (!gid_valid(gid))
			return invalf(fc, "cowmem: there is no gid=%u", result.uint_32);
		o->gid = gid;
		break;
	case OPTION_HUGE:
		huge = match_string(cowmem_huge_names, ARRAY_SIZE(cowmem_huge_names),
				    param->string);
		if (huge < 0)
			return invalf(fc, "cowmem: huge=%s is none of never, advise and always",
				      param->string);
		if (huge != COWMEM_HUGE_NEVER && !cowmem_can_huge())
			return invalf(fc, "cowmem: huge=%s: the system has no huge pages",
				      param->string);
		o->huge = huge;
		break;
	}
	if (!err)
		o->given |= BIT(option);
	return err;
}

static int fs_statfs(struct dentry *dentry, struct kstatfs *buf)
{
	struct super_block *sb = dentry->d_sb;
	struct cowmem_account *account = sb->s_fs_info;
	unsigned long max_pages = READ_ONCE(account->max_pages);
	unsigned long max_inodes = READ_ONCE(account->max_inodes);

	buf->f_type = COWMEM_SUPER_MAGIC;
	buf->f_bsize = PAGE_SIZE;
	buf->f_namelen = NAME_MAX;
	buf->f_fsid = u64_to_fsid(huge_encode_dev(sb->s_dev));
	/* Without a limit there are 0 blocks, as on tmpfs. */
	if (max_pages) {
		buf->f_blocks = max_pages;
		buf->f_bfree = max_pages - min(max_pages, cowmem_account_pages(account));
		buf->f_bavail = buf->f_bfree;
	}
	if (max_inodes) {
		buf->f_files = max_inodes;
		buf->f_ffree = max_inodes -
			min(max_inodes, cowmem_account_inodes(account));
	}
	return 0;
}

static int fs_show_options(struct seq_file *m, struct dentry *root)
{
	const struct cowmem_account *account = root->d_sb->s_fs_info;
	const struct inode *inode = d_inode(root);
	u8 huge = READ_ONCE(account->huge);

	seq_printf(m, ",size=%luk,nr_inodes=%lu,mode=%03o",
		   account->max_pages << (PAGE_SHIFT - 10), account->max_inodes,
		   inode->i_mode & S_IALLUGO);
	if (!uid_eq(inode->i_uid, GLOBAL_ROOT_UID))
		seq_printf(m, ",uid=%u", from_kuid_munged(&init_user_ns, inode->i_uid));
	if (!gid_eq(inode->i_gid, GLOBAL_ROOT_GID))
		seq_printf(m, ",gid=%u", from_kgid_munged(&init_user_ns, inode->i_gid));
	if (huge != COWMEM_HUGE_ADVISE)
		seq_printf(m, ",huge=%s", cowmem_huge_names[huge]);
	return 0;
}

static void fs_evict_inode(struct inode *inode)
{
	struct cowmem_account *account = inode->i_sb->s_fs_info;

	cowmem_evict_inode(inode);
	/* A long symbolic link counts as a page. */
	if (!S_ISREG(inode->i_mode) && inode->i_blocks)
		cowmem_uncharge(account, 1);
	cowmem_xattrs_free(inode);
	cowmem_acls_free(inode);
	cowmem_uncharge_inode(account);
}

static const struct super_operations fs_super_ops = {
	.alloc_inode	= cowmem_alloc_inode,
	.free_inode	= cowmem_free_inode,
	.evict_inode	= fs_evict_inode,
	.statfs		= fs_statfs,
	.show_options	= fs_show_options,
};

static int fs_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct mount_options *o = fc->fs_private;
	struct cowmem_account *account;
	struct inode *root;

	account = cowmem_account_create(o->max_pages, o->max_inodes);
	if (!account)
		return -ENOMEM;
	account->huge = o->huge;
	sb->s_fs_info = account;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_blocksize = PAGE_SIZE;
	sb->s_blocksize_bits = PAGE_SHIFT;
	sb->s_magic = COWMEM_SUPER_MAGIC;
	sb->s_op = &fs_super_ops;
	sb->s_time_gran = 1;
	/* A write that found no capabilities to drop need not look again. */
	sb->s_flags |= SB_NOSEC;
	cowmem_xattr_init(sb);

	root = cowmem_dir_root(sb, o->mode);
	if (IS_ERR(root))
		return PTR_ERR(root);
	root->i_uid = o->uid;
	root->i_gid = o->gid;
	sb->s_root = d_make_root(root);
	return sb->s_root ? 0 : -ENOMEM;
}

static int fs_get_tree(struct fs_context *fc)
{
	return get_tree_nodev(fc, fs_fill_super);
}

/* Options that are not given keep their values. */
static int fs_reconfigure(struct fs_context *fc)
{
	struct mount_options *o = fc->fs_private;
	struct cowmem_account *account = fc->root->d_sb->s_fs_info;
	struct inode *root = d_inode(fc->root);
	int err = 0;

	if ((o->given & BIT(OPTION_SIZE)) && o->max_pages &&
	    o->max_pages < cowmem_account_pages(account))
		return invalf(fc, "cowmem: the files hold more than size= allows");
	if ((o->given & BIT(OPTION_NR_INODES)) && o->max_inodes &&
	    o->max_inodes < cowmem_account_inodes(account))
		return invalf(fc, "cowmem: there are more files than nr_inodes= allows");
	if (o->given & BIT(OPTION_SIZE))
		WRITE_ONCE(account->max_pages, o->max_pages);
	if (o->given & BIT(OPTION_NR_INODES))
		WRITE_ONCE(account->max_inodes, o->max_inodes);
	if (o->given & BIT(OPTION_HUGE))
		WRITE_ONCE(account->huge, o->huge);

	inode_lock(root);
	if (o->given & BIT(OPTION_MODE)) {
		root->i_mode = (root->i_mode & ~S_IALLUGO) | o->mode;
		err = cowmem_acl_chmod(&nop_mnt_idmap, fc->root, root->i_mode);
	}
	if (o->given & BIT(OPTION_UID))
		root->i_uid = o->uid;
	if (o->given & BIT(OPTION_GID))
		root->i_gid = o->gid;
	if (o->given & (BIT(OPTION_MODE) | BIT(OPTION_UID) | BIT(OPTION_GID)))
		inode_set_ctime_current(root);
	inode_unlock(root);
	return err;
}

static void fs_free_context(struct fs_context *fc)
{
	kfree(fc->fs_private);
}

static const struct fs_context_operations fs_context_ops = {
	.free		= fs_free_context,
	.parse_param	= fs_parse_param,
	.get_tree	= fs_get_tree,
	.reconfigure	= fs_reconfigure,
};

static int fs_init_fs_context(struct fs_context *fc)
{
	struct mount_options *o = kzalloc(sizeof(*o), GFP_KERNEL);

	if (!o)
		return -ENOMEM;
	/* As on tmpfs. */
	o->max_pages = totalram_pages() / 2;
	o->max_inodes = totalram_pages() / 2;
	o->mode = 0777 | S_ISVTX;
	o->uid = current_fsuid();
	o->gid = current_fsgid();
	o->huge = cowmem_huge_default();
	fc->fs_private = o;
	fc->ops = &fs_context_ops;
	return 0;
}

static void fs_kill_super(struct super_block *sb)
{
	struct cowmem_account *account = sb->s_fs_info;

	cowmem_kill_ramfs_super(sb);
	cowmem_account_close(account);
}

static struct file_system_type fs_type = {
	.owner			= THIS_MODULE,
	.name			= "cowmem",
	.init_fs_context	= fs_init_fs_context,
	.parameters		= options,
	.kill_sb		= fs_kill_super,
	.fs_flags		= FS_ALLOW_IDMAP,
};
MODULE_ALIAS_FS("cowmem");

/**
 * cowmem_fs_init - register the file system
 *
 * Return: 0 or -EBUSY.
 */
int cowmem_fs_init(void)
{
	return register_filesystem(&fs_type);
}

/**
 * cowmem_fs_exit - undo cowmem_fs_init()
 *
 * Context: nothing is mounted any more.
 */
void cowmem_fs_exit(void)
{
	unregister_filesystem(&fs_type);
}
