export type { UnpackLimits } from './compressed.js';
export type { DamageListener } from './damage.js';
export type { Device } from './device.js';
export { Filesystem, type FilesystemOptions, openFilesystem } from './filesystem.js';
export { versionText } from './names.js';
export { type Bset, type BtreeNode, type NodeKey, nodeKeys } from './node.js';
export { openDevice } from './open.js';
export { positionText } from './position.js';
export type { Superblock } from './superblock.js';
