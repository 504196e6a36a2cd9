// Numbers of bcachefs: btree ids (enum btree_id) and the versions of its on-disk format.

const BTREE_NAMES = [
  'extents',
  'inodes',
  'dirents',
  'xattrs',
  'alloc',
  'quotas',
  'stripes',
  'reflink',
  'subvolumes',
  'snapshots',
  'lru',
  'freespace',
  'need_discard',
  'backpointers',
  'bucket_gens',
  'snapshot_trees',
  'deleted_inodes',
  'logged_ops',
  'reconcile_work',
  'subvolume_children',
  'accounting',
  'reconcile_hipri',
  'reconcile_pending',
  'reconcile_scan',
  'reconcile_work_phys',
  'reconcile_hipri_phys',
  'bucket_to_stripe',
  'stripe_backpointers',
  'damage',
] as const;

/** A btree id is a byte in the journal. */
export const BTREE_IDS = 256;

/** 18 was called rebalance_work until reconcile took its place. */
const BTREE_REBALANCE_WORK = 18;
const VERSION_RECONCILE = version(1, 33);

/** Key types that the tree itself is made of. */
export const KEY_TYPE_DELETED = 0;
export const KEY_TYPE_BTREE_PTR = 5;
export const KEY_TYPE_BTREE_PTR_V2 = 18;

/** Snapshots came with 0.12; before it keys have to be changed after they are unpacked. */
export const VERSION_SNAPSHOTS = 12;

/** The name of a btree in a file system of that version; a number nobody knows yet is named `unknown_btree_N`. */
export function btreeName(id: number, fsVersion: number): string {
  if (id === BTREE_REBALANCE_WORK && fsVersion < VERSION_RECONCILE) return 'rebalance_work';
  return BTREE_NAMES[id] ?? `unknown_btree_${id}`;
}

/** An on-disk version as a person writes it: 1060 is 1.36, 12 is 0.12. */
export function versionText(number: number): string {
  return `${number >> 10}.${number & 1023}`;
}

function version(major: number, minor: number): number {
  return (major << 10) | minor;
}
