//! A root, assembled: what every format is written from.

use crate::contents::{Blob, Contents};
use kit_spec::artifact::Arch;
use kit_spec::tree::{Kind, Tree};
use sha2::{Digest, Sha256};
use std::fmt;

/// A root with its kernel.
pub struct Root {
    /// The name that files of every format begin with.
    pub name: String,
    /// What it runs on.
    pub arch: Arch,
    /// The time, in seconds since 1970, that stands wherever a format wants one.
    pub epoch: u32,
    /// Its files.
    pub tree: Tree<Blob>,
    /// Their contents.
    pub contents: Contents,
    /// The kernel that boots it; none for a root that is only archived.
    pub kernel: Option<Kernel>,
    /// The program that mounts the root, for the initrd.
    pub loader: Blob,
    /// The packages of boot loaders, unpacked.
    pub boot: Tree<Blob>,
    /// Which root it is.
    pub id: RootId,
    /// Threads to compress with; they change nothing in the output.
    pub threads: usize,
}

/// A kernel and what is passed to it.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its size in bytes.
    pub len: u64,
    /// Its bytes.
    pub blob: Blob,
    /// The node file's command line.
    pub cmdline: String,
    /// Microcode: an uncompressed cpio, and its size in bytes.
    pub ucode: Option<(u64, Blob)>,
}

/// Which root it is: a UUID of version 8 (RFC 9562, section 5.8) made of a hash over the whole tree, so that equal
/// roots have equal ones, and a machine with several disks mounts the root that belongs to its kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RootId([u8; 16]);

impl RootId {
    /// Hashes a tree: paths, metadata, and what contents are.
    pub fn of(tree: &Tree<Blob>, contents: &Contents) -> RootId {
        let mut hash = Sha256::new();
        for (path, id, inode) in tree.walk() {
            let meta = &inode.meta;
            hash.update(path.as_bytes());
            hash.update([0]);
            hash.update((id.index() as u64).to_le_bytes());
            hash.update(meta.mode.to_le_bytes());
            hash.update(meta.uid.to_le_bytes());
            hash.update(meta.gid.to_le_bytes());
            hash.update(meta.mtime.to_le_bytes());
            for (name, value) in &meta.xattrs {
                hash.update((name.len() as u64).to_le_bytes());
                hash.update(name);
                hash.update((value.len() as u64).to_le_bytes());
                hash.update(value);
            }
            match inode.kind() {
                Kind::Dir => hash.update(b"d"),
                Kind::File { len, content } => {
                    hash.update(b"f");
                    hash.update(len.to_le_bytes());
                    hash.update(contents.identity(content));
                }
                Kind::Symlink(target) => {
                    hash.update(b"l");
                    hash.update((target.len() as u64).to_le_bytes());
                    hash.update(target);
                }
                Kind::Char(device) => hash.update(format!("c{device}")),
                Kind::Block(device) => hash.update(format!("b{device}")),
                Kind::Fifo => hash.update(b"p"),
                Kind::Socket => hash.update(b"s"),
            }
        }
        RootId::new(&hash.finalize())
    }

    /// Another ID that follows from this one: of a disk, or of a partition beside the root.
    pub fn derived(self, what: &str) -> RootId {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(what);
        RootId::new(&hash.finalize())
    }

    fn new(hash: &[u8]) -> RootId {
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        id[6] = (id[6] & 0x0f) | 0x80;
        id[8] = (id[8] & 0x3f) | 0x80;
        RootId(id)
    }

    /// The bytes, in the order of RFC 9562.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// 32 capital hexadecimal digits: an ISO's volume ID cannot hold more.
    pub fn volume_id(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl Kernel {
    /// The command line with which this kernel finds a root.
    pub fn cmdline_for(&self, id: RootId) -> String {
        format!("{} kit.root={id}", self.cmdline).trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::bytes;
    use kit_spec::tree::Meta;

    fn tree(text: &str, mode: u16) -> Tree<Blob> {
        let mut tree = Tree::new(Meta::root_owned(0o755, 0));
        tree.put(&"etc/x".parse().unwrap(), Meta::root_owned(mode, 0), bytes(text)).unwrap();
        tree
    }

    #[test]
    fn equal_trees_have_equal_ids_and_any_difference_shows() {
        let contents = Contents::default();
        let id = |text, mode| RootId::of(&tree(text, mode), &contents).to_string();
        assert_eq!(id("a", 0o644), id("a", 0o644));
        assert_ne!(id("a", 0o644), id("b", 0o644));
        assert_ne!(id("a", 0o644), id("a", 0o600));
    }

    #[test]
    fn an_id_is_a_uuid_of_version_8() {
        let id = RootId::of(&tree("a", 0o644), &Contents::default());
        assert_eq!(id.to_string().len(), 36);
        assert_eq!(&id.to_string()[14..15], "8");
        assert_eq!(id.volume_id(), id.to_string().replace('-', "").to_uppercase());
        assert_ne!(id.derived("disk").to_string(), id.derived("esp").to_string());
    }
}
