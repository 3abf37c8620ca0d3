//! Extended attributes: each different set once, and a number of the set in the inode.

use super::metadata::{Metadata, write_indexed};
use super::output::Output;
use super::plan::Numbering;
use super::{WriteError, path_of};
use crate::squashfs::Settings;
use kit_spec::tree::{Tree, Xattrs as Set};
use std::collections::HashMap;
use std::io::{Seek, Write};

/// The number of the set in an inode without attributes.
pub(super) const NO_XATTRS: u32 = u32::MAX;

/// What squashfs has numbers for, in the order of the numbers.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// The value is not here but where an earlier, equal one is.
const OUT_OF_LINE: u16 = 0x100;
/// A reference takes 8 bytes; equal values longer than that are written once.
const REFERENCE_LEN: usize = 8;
/// Linux's XATTR_SIZE_MAX.
const VALUE_MAX: usize = 65_536;

/// The sets of a tree.
pub(super) struct Xattrs {
    /// Names and values, as a table of metadata blocks.
    values: Vec<u8>,
    /// Entries of the table of sets.
    sets: Vec<u8>,
    /// By inode number less one.
    of_inode: Vec<u32>,
}

impl Xattrs {
    /// The number of the set of the inode with that number, or [`NO_XATTRS`].
    pub(super) fn of(&self, number: u32) -> u32 {
        self.of_inode[number as usize - 1]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Writes both tables; returns where the header of the second one is.
    pub(super) fn write<W: Write + Seek>(
        self,
        out: &mut Output<'_, W>,
        settings: Settings,
    ) -> Result<u64, WriteError> {
        let mut header = Vec::with_capacity(16);
        header.extend_from_slice(&out.position().to_le_bytes());
        header.extend_from_slice(&(self.sets.len() as u64 / 16).to_le_bytes());
        out.put(&self.values)?;
        write_indexed(out, settings, &header, &self.sets)
    }
}

/// Collects the sets of all inodes, in the order of their numbers.
pub(super) fn collect<C>(
    tree: &Tree<C>,
    numbering: &Numbering,
    settings: Settings,
) -> Result<Xattrs, WriteError> {
    let mut values = Metadata::new(settings)?;
    let mut sets = Vec::new();
    let mut of_inode = Vec::with_capacity(numbering.order.len());
    let mut known: HashMap<&Set, u32> = HashMap::new();
    let mut written: HashMap<&[u8], u64> = HashMap::new();
    for id in &numbering.order {
        let set = &tree.inode(*id).meta.xattrs;
        if set.is_empty() {
            of_inode.push(NO_XATTRS);
            continue;
        }
        if let Some(number) = known.get(set) {
            of_inode.push(*number);
            continue;
        }
        let number = known.len() as u32;
        known.insert(set, number);
        of_inode.push(number);
        let place = values.place()?;
        let mut size = 0u32;
        for (name, value) in set {
            let shown = || String::from_utf8_lossy(name).into_owned();
            if value.len() > VALUE_MAX {
                let path = path_of(tree, *id);
                return Err(WriteError::XattrLength { path, name: shown(), len: value.len() });
            }
            let prefix =
                PREFIXES.iter().position(|prefix| name.starts_with(prefix) && name.len() > prefix.len());
            let kind = prefix.filter(|_| name.len() <= 255);
            let Some(kind) = kind else {
                return Err(WriteError::XattrName { path: path_of(tree, *id), name: shown() });
            };
            put(&mut values, &mut written, kind as u16, &name[PREFIXES[kind].len()..], value)?;
            // As mksquashfs counts: the whole name, its NUL, the value wherever it is.
            size += (name.len() + 1 + value.len()) as u32;
        }
        sets.extend_from_slice(&place.reference().to_le_bytes());
        sets.extend_from_slice(&(set.len() as u32).to_le_bytes());
        sets.extend_from_slice(&size.to_le_bytes());
    }
    Ok(Xattrs { values: values.finish()?, sets, of_inode })
}

/// Writes one attribute, its name without the prefix.
fn put<'a>(
    values: &mut Metadata,
    written: &mut HashMap<&'a [u8], u64>,
    kind: u16,
    name: &[u8],
    value: &'a [u8],
) -> Result<(), WriteError> {
    let earlier = written.get(value).copied().filter(|_| value.len() > REFERENCE_LEN);
    values.put(&(kind | if earlier.is_some() { OUT_OF_LINE } else { 0 }).to_le_bytes())?;
    values.put(&(name.len() as u16).to_le_bytes())?;
    values.put(name)?;
    match earlier {
        Some(reference) => {
            values.put(&(REFERENCE_LEN as u32).to_le_bytes())?;
            values.put(&reference.to_le_bytes())
        }
        None => {
            written.insert(value, values.place()?.reference());
            values.put(&(value.len() as u32).to_le_bytes())?;
            values.put(value)
        }
    }
}
