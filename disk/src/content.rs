//! Contents of a stated length: what a layout was computed for is what has to arrive, byte for byte.
//!
//! Every writer here lays out before it writes, so a content that is shorter or longer than it was announced would put
//! all that follows in the wrong place. This is the one place where that is checked: [`copy`] where contents are
//! readers, [`give`] where they are closures that write. Closures nest: an ISO 9660 image holds a FAT volume that
//! holds a UKI that holds a kernel, and the bytes go straight through.

use std::io::{self, Read, Write};

/// What a closure that writes a content may fail with; it becomes the source of [`ContentError::Give`].
pub type GiveError = Box<dyn std::error::Error + Send + Sync>;

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
    /// The closure that was to write the content failed, perhaps because the output did.
    #[error("give content")]
    Give(#[source] GiveError),
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

/// Lets `content` write to `out` and checks that it writes exactly `announced` bytes.
///
/// # Errors
/// See [`ContentError`]. Never more than `announced` bytes reach `out`.
pub fn give(
    content: impl FnOnce(&mut dyn Write) -> Result<(), GiveError>,
    announced: u64,
    out: &mut (impl Write + ?Sized),
) -> Result<(), ContentError> {
    let mut exactly = Exactly { out, left: announced, over: false };
    let given = content(&mut exactly);
    // What the closure makes of a write beyond the end is not asked: it may have gone on.
    if exactly.over {
        return Err(ContentError::Long { announced });
    }
    given.map_err(ContentError::Give)?;
    match exactly.left {
        0 => Ok(()),
        left => Err(ContentError::Short { announced, found: announced - left }),
    }
}

/// An output of a fixed length.
struct Exactly<'a, W: ?Sized> {
    out: &'a mut W,
    left: u64,
    over: bool,
}

impl<W: Write + ?Sized> Write for Exactly<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        if want == 0 && !buf.is_empty() {
            self.over = true;
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "content is longer than announced"));
        }
        let written = self.out.write(&buf[..want])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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
    #[test]
    fn a_closure_is_held_to_its_length_even_if_it_ignores_the_error() {
        let given = |announced, content: &[u8]| {
            let mut out = Vec::new();
            let write = |sink: &mut dyn Write| {
                let _ = sink.write_all(content);
                Ok(())
            };
            let result = give(write, announced, &mut out);
            (result.map_err(|e| e.to_string()), out)
        };
        assert_eq!(given(3, b"abc"), (Ok(()), b"abc".to_vec()));
        let (result, out) = given(2, b"abc");
        assert_eq!(
            (result.unwrap_err().as_str(), out.as_slice()),
            ("content of 2 bytes was announced, more came", &b"ab"[..])
        );
        assert_eq!(given(4, b"abc").0.unwrap_err(), "content of 4 bytes was announced, 3 came");
        let failed = give(|_| Err("no such file".into()), 1, &mut Vec::new()).unwrap_err();
        assert!(matches!(failed, ContentError::Give(source) if source.to_string() == "no such file"));
    }
}
