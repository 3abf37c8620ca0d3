//! A view of one stretch of a seekable output, whose position 0 is the stretch's first byte.
//!
//! A file system that is written in place (a squashfs seeks back to its superblock) is put *inside* something else: a
//! cpio member, an ISO 9660 file, a partition. It gets a [`Window`] and needs to know nothing of what is around it:
//!
//! ```text
//! underlying   |.. header ..|########################|
//!                           ^ origin                 ^ origin + len()
//! window                    0                        len()
//! ```
//!
//! Nothing before the origin can be reached. The window's length is the furthest byte written, as for a file; bytes
//! that were skipped by a seek and never written are whatever the output makes of a gap (a file and a `Cursor` read
//! zeros).

use std::io::{self, Read, Seek, SeekFrom, Write};

/// A stretch of `W` from its position at [`Window::new`] on, up to `limit` bytes long.
#[derive(Debug)]
pub struct Window<'a, W> {
    out: &'a mut W,
    origin: u64,
    position: u64,
    len: u64,
    limit: u64,
}

impl<'a, W: Seek> Window<'a, W> {
    /// A window that begins where `out` stands now and may grow to `limit` bytes.
    ///
    /// # Errors
    /// Whatever asking `out` for its position gives.
    pub fn new(out: &'a mut W, limit: u64) -> io::Result<Self> {
        let origin = out.stream_position()?;
        Ok(Self { out, origin, position: 0, len: 0, limit })
    }
}

impl<W> Window<'_, W> {
    /// Bytes from the window's origin to the furthest byte written.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the window's byte 0 is in the underlying output.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// The underlying output. What is written through it is not counted in [`Window::len`].
    pub fn get_mut(&mut self) -> &mut W {
        self.out
    }
}

impl<W: Write> Write for Window<'_, W> {
    /// Writes at the window's position.
    ///
    /// # Errors
    /// [`io::ErrorKind::FileTooLarge`] at the limit, else the output's own.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = self.limit.saturating_sub(self.position);
        if room == 0 && !buf.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("content written in place exceeds its limit of {} bytes", self.limit),
            ));
        }
        let want = usize::try_from(room).map_or(buf.len(), |room| room.min(buf.len()));
        let written = self.out.write(&buf[..want])?;
        self.position += written as u64;
        self.len = self.len.max(self.position);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Read> Read for Window<'_, W> {
    /// Reads back at the window's position, never past its length.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.position);
        let want = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let read = self.out.read(&mut buf[..want])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<W: Seek> Seek for Window<'_, W> {
    /// Seeks within the window; [`SeekFrom::End`] counts from [`Window::len`].
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a position before the window, else the output's own.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::Current(n) => self.position.checked_add_signed(n),
            SeekFrom::End(n) => self.len.checked_add_signed(n),
        };
        let target = target
            .filter(|t| self.origin.checked_add(*t).is_some())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek to before the window"))?;
        self.out.seek(SeekFrom::Start(self.origin + target))?;
        self.position = target;
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn positions_count_from_the_origin_and_nothing_before_it_is_touched() {
        let mut out = Cursor::new(b"head".to_vec());
        out.seek(SeekFrom::End(0)).unwrap();
        let mut window = Window::new(&mut out, 100).unwrap();
        window.write_all(b"0123456789").unwrap();
        window.seek(SeekFrom::Start(2)).unwrap();
        window.write_all(b"xy").unwrap();
        assert_eq!(window.seek(SeekFrom::End(-1)).unwrap(), 9);
        assert_eq!(window.seek(SeekFrom::Current(-9)).unwrap(), 0);
        assert!(window.seek(SeekFrom::Current(-1)).is_err());
        let mut back = String::new();
        window.read_to_string(&mut back).unwrap();
        assert_eq!(back, "01xy456789");
        assert_eq!((window.len(), window.origin()), (10, 4));
        assert_eq!(out.into_inner(), b"head01xy456789");
    }

    #[test]
    fn the_limit_is_a_clear_error_and_not_a_short_file() {
        let mut out = Cursor::new(Vec::new());
        let mut window = Window::new(&mut out, 5).unwrap();
        let err = window.write_all(b"123456").unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(err.to_string(), "content written in place exceeds its limit of 5 bytes");
    }
}
