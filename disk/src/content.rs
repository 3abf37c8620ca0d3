//! Contents of a stated length: what a layout was computed for is what has to arrive, byte for byte.
//!
//! Every writer here lays out before it writes, so a reader that gives less or more than it announced would put all
//! that follows in the wrong place. [`copy`] is the one place where that is checked.

use std::io::{self, Read, Write};

/// Bytes moved at a time.
const CHUNK: usize = 128 * 1024;

/// Why a content could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The reader ended early.
    #[error("content of {announced} bytes was announced, {found} came")]
    Short {
        /// Bytes announced.
        announced: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The reader had more.
    #[error("content of {announced} bytes was announced, more came")]
    Long {
        /// Bytes announced.
        announced: u64,
    },
    /// The content could not be opened.
    #[error("open content")]
    Open(#[source] io::Error),
    /// The reader failed.
    #[error("read content at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// The reader's error.
        source: io::Error,
    },
    /// The output failed.
    #[error("write content at byte {offset}")]
    Write {
        /// Bytes written before, in whole chunks.
        offset: u64,
        /// The output's error.
        source: io::Error,
    },
}

/// Copies `content` to `out` and checks that it is exactly `announced` bytes long.
///
/// # Errors
/// See [`ContentError`]. After an error `out` has an unknown part of the content; never more than `announced` bytes.
pub fn copy(
    content: &mut (impl Read + ?Sized),
    announced: u64,
    out: &mut (impl Write + ?Sized),
) -> Result<(), ContentError> {
    let mut buf = vec![0; usize::try_from(announced).unwrap_or(CHUNK).clamp(1, CHUNK)];
    let mut done = 0u64;
    loop {
        let want = usize::try_from(announced - done).map_or(buf.len(), |left| left.min(buf.len()));
        // At the end one byte more is asked for, to see that there is none.
        let read = match content.read(&mut buf[..want.max(1)]) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(ContentError::Read { offset: done, source }),
        };
        match (read, done == announced) {
            (0, true) => return Ok(()),
            (0, false) => return Err(ContentError::Short { announced, found: done }),
            (_, true) => return Err(ContentError::Long { announced }),
            (read, false) => {
                out.write_all(&buf[..read]).map_err(|source| ContentError::Write { offset: done, source })?;
                done += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_of_another_length_than_announced_is_an_error_that_says_both() {
        let copied = |announced, content: &[u8]| {
            let mut out = Vec::new();
            copy(&mut &content[..], announced, &mut out).map(|()| out)
        };
        assert_eq!(copied(3, b"abc").unwrap(), b"abc");
        assert_eq!(copied(0, b"").unwrap(), b"");
        assert_eq!(copied(5, b"abc").unwrap_err().to_string(), "content of 5 bytes was announced, 3 came");
        assert_eq!(copied(2, b"abc").unwrap_err().to_string(), "content of 2 bytes was announced, more came");
    }
}
