//! As much of a reader as unsquashfs does not try: look-ups through a directory's index, and the export table, as
//! Linux does them (`fs/squashfs/namei.c`, `export.c`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

type Block = (Rc<[u8]>, u64);

pub struct Reader<'a> {
    image: &'a [u8],
    /// Metadata blocks that were read, and where the next one is.
    blocks: RefCell<HashMap<u64, Block>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    pub kind: u16,
    pub number: u32,
    pub uid: u16,
    /// Of a directory: block and offset of its listing, its size with the three more, entries of its index.
    pub listing: (u32, u16, u32, u16),
    /// Where the index of an extended directory begins.
    after: (u64, usize),
}

impl<'a> Reader<'a> {
    pub fn new(image: &'a [u8]) -> Self {
        assert_eq!(&image[..4], b"hsqs");
        Reader { image, blocks: HashMap::new().into() }
    }

    pub fn half(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.image[at..at + 2].try_into().unwrap())
    }

    pub fn long(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.image[at..at + 8].try_into().unwrap())
    }

    pub fn root(&self) -> Inode {
        self.inode(self.long(32))
    }

    /// The inode with a number, by the export table.
    pub fn exported(&self, number: u32) -> Inode {
        let (block, offset) = ((number - 1) as usize / 1024, (number - 1) as usize % 1024 * 8);
        let start = self.long(self.long(88) as usize + block * 8);
        let entry = self.bytes(start, offset, 8).0;
        self.inode(u64::from_le_bytes(entry.try_into().unwrap()))
    }

    /// Looks a name up; the inode, and how many metadata blocks of listing were read for it.
    pub fn look_up(&self, dir: &Inode, name: &[u8]) -> Option<(Inode, usize)> {
        let (mut block, mut offset, size, index_len) = dir.listing;
        let (table, start) = (self.long(72), offset);
        let mut length = 0;
        let mut at = dir.after;
        for _ in 0..index_len {
            let (head, after) = self.bytes(at.0, at.1, 12);
            let word = |n: usize| u32::from_le_bytes(head[n * 4..n * 4 + 4].try_into().unwrap());
            let (first, after) = self.bytes(after.0, after.1, word(2) as usize + 1);
            if *first > *name {
                break;
            }
            (length, block, at) = (word(0), word(1), after);
            offset = ((length + u32::from(start)) % 8192) as u16;
        }
        let mut at = (table + u64::from(block), usize::from(offset));
        let from = at.0;
        let mut blocks = vec![from];
        while length < size - 3 {
            let (head, after) = self.bytes(at.0, at.1, 12);
            let word = |n: usize| u32::from_le_bytes(head[n * 4..n * 4 + 4].try_into().unwrap());
            (length, at) = (length + 12, after);
            for _ in 0..=word(0) {
                let (entry, after) = self.bytes(at.0, at.1, 8);
                let half = |n: usize| u16::from_le_bytes(entry[n * 2..n * 2 + 2].try_into().unwrap());
                let name_len = usize::from(half(3)) + 1;
                let (found, after) = self.bytes(after.0, after.1, name_len);
                (length, at) = (length + 8 + name_len as u32, after);
                if !blocks.contains(&at.0) {
                    blocks.push(at.0);
                }
                if *found == *name {
                    let inode = self.inode(u64::from(word(1)) << 16 | u64::from(half(0)));
                    assert_eq!(inode.number, word(2).wrapping_add_signed(i32::from(half(1) as i16)));
                    assert_eq!((inode.kind - 1) % 7 + 1, half(2));
                    return Some((inode, blocks.len()));
                }
            }
        }
        None
    }

    fn inode(&self, reference: u64) -> Inode {
        let start = self.long(64) + (reference >> 16);
        let (head, after) = self.bytes(start, (reference & 0xffff) as usize, 16);
        let half = |bytes: &[u8], at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let kind = half(&head, 0);
        let (listing, after) = match kind {
            1 => {
                let (body, after) = self.bytes(after.0, after.1, 16);
                ((word(&body, 0), half(&body, 10), u32::from(half(&body, 8)), 0), after)
            }
            8 => {
                let (body, after) = self.bytes(after.0, after.1, 24);
                ((word(&body, 8), half(&body, 18), word(&body, 4), half(&body, 16)), after)
            }
            _ => ((0, 0, 3, 0), after),
        };
        Inode { kind, number: word(&head, 12), uid: half(&head, 4), listing, after }
    }

    /// `len` bytes of metadata from a place on, and the place after them.
    fn bytes(&self, mut block: u64, mut offset: usize, len: usize) -> (Vec<u8>, (u64, usize)) {
        let mut out = Vec::new();
        while out.len() < len {
            let (raw, next) = self.block(block);
            let n = (len - out.len()).min(raw.len() - offset);
            out.extend_from_slice(&raw[offset..offset + n]);
            offset += n;
            if offset == 8192 {
                (block, offset) = (next, 0);
            }
        }
        (out, (block, offset))
    }

    fn block(&self, at: u64) -> Block {
        let read = || {
            let header = self.half(at as usize);
            let len = usize::from(header & 0x7fff);
            let stored = &self.image[at as usize + 2..at as usize + 2 + len];
            let raw = match header & 0x8000 {
                0 => zstd::bulk::decompress(stored, 8192).unwrap(),
                _ => stored.to_vec(),
            };
            (raw.into(), at + 2 + len as u64)
        };
        self.blocks.borrow_mut().entry(at).or_insert_with(read).clone()
    }
}
