//! Contents of a stated length, read piece by piece.

use crate::content::ContentError;
use std::io::{ErrorKind, Read};

/// Fills `buf` with what follows the first `done` of `announced` bytes.
pub(super) fn fill(
    content: &mut dyn Read,
    buf: &mut [u8],
    done: u64,
    announced: u64,
) -> Result<(), ContentError> {
    let mut filled = 0;
    while filled < buf.len() {
        let at = done + filled as u64;
        match content.read(&mut buf[filled..]) {
            Ok(0) => return Err(ContentError::Short { announced, found: at }),
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(ContentError::Read { offset: at, source }),
        }
    }
    Ok(())
}

/// Checks that nothing follows the `announced` bytes.
pub(super) fn at_end(content: &mut dyn Read, announced: u64) -> Result<(), ContentError> {
    loop {
        match content.read(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(ContentError::Long { announced }),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(ContentError::Read { offset: announced, source }),
        }
    }
}
