//! Two machines at a time, whoever asks: threads of one test program, and test programs of one user.

use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};

const SLOTS: usize = 2;

static TAKEN: Mutex<[bool; SLOTS]> = Mutex::new([false; SLOTS]);
static FREED: Condvar = Condvar::new();

/// The right to run a machine, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    which: usize,
    /// Locked against other processes; closing it unlocks it.
    _file: File,
}

impl Slot {
    /// Waits for one.
    ///
    /// # Errors
    /// When the file that processes agree by cannot be opened or locked.
    pub(crate) fn take() -> io::Result<Slot> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let which = loop {
            match taken.iter().position(|taken| !taken) {
                Some(which) => break which,
                None => taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner),
            }
        };
        taken[which] = true;
        drop(taken);
        match lock(which) {
            Ok(file) => Ok(Slot { which, _file: file }),
            Err(error) => {
                free(which);
                Err(error)
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        free(self.which);
    }
}

fn free(which: usize) {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)[which] = false;
    FREED.notify_one();
}

fn lock(which: usize) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let user = std::fs::metadata("/proc/self")?.uid();
    let path = std::env::temp_dir().join(format!("kit-test-slot-{user}-{which}"));
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    file.lock()?;
    Ok(file)
}
