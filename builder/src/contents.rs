//! Where the bytes of an image's files are: compressed in a layer's pack, or in memory.

use kit_disk::squashfs::pack::{FileRef, Pack};
use kit_spec::tree::{Kind, Tree, TreePath};
use std::io::{self, Read};
use std::sync::Arc;

/// The contents of one file.
#[derive(Clone, Debug)]
pub enum Blob {
    /// In the pack of this number.
    Packed(u32, FileRef),
    /// Here.
    Bytes(Arc<[u8]>),
}

/// The packs that [`Blob`]s speak of.
#[derive(Default)]
pub struct Contents {
    packs: Vec<Pack>,
}

impl Contents {
    /// Takes a pack in; blobs name it by the number.
    pub fn add(&mut self, pack: Pack) -> u32 {
        self.packs.push(pack);
        u32::try_from(self.packs.len() - 1).unwrap_or(u32::MAX)
    }

    /// The pack of a number that [`Contents::add`] gave.
    pub fn pack(&self, number: u32) -> &Pack {
        &self.packs[number as usize]
    }

    /// The bytes of a blob, checked as they come.
    ///
    /// # Errors
    /// When a local file is gone.
    pub fn open<'a>(&'a self, blob: &'a Blob) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match blob {
            Blob::Packed(number, file) => {
                Box::new(self.pack(*number).reader(*file).map_err(io::Error::other)?)
            }
            Blob::Bytes(bytes) => Box::new(bytes.as_ref()),
        })
    }

    /// How many bytes a blob has.
    ///
    /// # Errors
    /// When a pack does not have it, or a local file is gone.
    pub fn len(&self, blob: &Blob) -> io::Result<u64> {
        match blob {
            Blob::Packed(number, file) => {
                self.pack(*number).index().len_of(*file).ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            Blob::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// What a blob's bytes are: equal bytes have equal ones.
    pub fn identity(&self, blob: &Blob) -> [u8; 32] {
        match blob {
            Blob::Packed(number, file) => self.pack(*number).index().digest_of(*file).unwrap_or_default(),
            Blob::Bytes(bytes) => *blake3::hash(bytes).as_bytes(),
        }
    }

    /// All bytes of a blob, if they are not more than `limit`.
    ///
    /// # Errors
    /// When they cannot be read, or are more.
    pub fn read(&self, blob: &Blob, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(blob)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// The bytes of the regular file at a path of a tree, symbolic links followed; none if there is no such file.
    ///
    /// # Errors
    /// As [`Contents::read`].
    pub fn read_path(&self, tree: &Tree<Blob>, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Ok(path) = path.parse::<TreePath>() else { return Ok(None) };
        match tree.follow(&path).map(|inode| inode.kind()) {
            Some(Kind::File { content, .. }) => self.read(content, limit).map(Some),
            _ => Ok(None),
        }
    }
}
