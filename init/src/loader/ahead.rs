//! Reading the root's init ahead: half of it in a thread while the root becomes `/`, the rest after that.
//!
//! The root is compressed. Executed as it is, init would be unpacked where it happens to be touched, here and there and
//! some of it twice, and boot waits for each piece; read in order that takes a third of the time, and on two processors
//! half of that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Larger ones are read as they are used: hardly all of it is. In bytes.
const LARGEST: u64 = 8 << 20;
/// What is read at a time, in bytes: as much as the root's blocks hold, and a half begins with a block.
const BLOCK: u64 = 128 << 10;

/// A file that is being read.
pub(super) struct Ahead {
    file: Arc<File>,
    middle: u64,
    len: u64,
    first: Option<JoinHandle<()>>,
}

/// Begins with the first of these files that is there; none if there is nothing to be read.
pub(super) fn begin(paths: impl Iterator<Item = String>) -> Option<Ahead> {
    let file = paths.into_iter().find_map(|path| File::open(path).ok())?;
    let len = file.metadata().ok().filter(|meta| meta.is_file() && meta.len() <= LARGEST)?.len();
    let (file, middle) = (Arc::new(file), (len / 2).next_multiple_of(BLOCK));
    let theirs = Arc::clone(&file);
    // Where no thread can be made, nothing is read ahead.
    let first = thread::Builder::new().spawn(move || read(&theirs, 0, middle)).ok();
    Some(Ahead { file, middle, len, first })
}

impl Ahead {
    /// Reads the rest, and waits for the thread.
    pub(super) fn finish(self) {
        if let Some(first) = self.first {
            read(&self.file, self.middle, self.len);
            let _ = first.join();
        }
    }
}

/// What cannot be read will be noticed by the kernel, when it must.
fn read(file: &File, from: u64, to: u64) {
    let mut block = vec![0; BLOCK as usize];
    for at in (from..to).step_by(BLOCK as usize) {
        if file.read_at(&mut block, at).is_err() {
            return;
        }
    }
}
