//! The log of a container in the form that the CRI has for it: a line of the program is
//!
//! ```text
//! 2026-01-02T03:04:05.000000006Z stdout F what the program wrote
//! ```
//!
//! `F` ends with the program's newline. A line that is longer than [`LINE_BYTES`], or the last one if
//! it has no newline, is cut: each piece without a newline of its own is `P`.

use super::note;
use super::stream::Kind;
use crate::report::rfc3339;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The most bytes of a program's line in one line of the log.
pub const LINE_BYTES: usize = 16 * 1024;

/// Cuts one stream into lines. Pure: what it is given comes out as pieces.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The begin of a line whose end has not come yet, at most [`LINE_BYTES`].
    rest: Vec<u8>,
}

/// A piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes, without the newline.
    pub bytes: &'a [u8],
    /// A newline came after it.
    pub full: bool,
}

impl Splitter {
    /// Takes in what the program wrote and hands out the pieces that are complete by that.
    pub fn push(&mut self, mut bytes: &[u8], mut on: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let room = LINE_BYTES - self.rest.len();
            let end = bytes.iter().take(room + 1).position(|&b| b == b'\n');
            let Some(length) = end.or((bytes.len() > room).then_some(room)) else {
                self.rest.extend_from_slice(bytes);
                return;
            };
            let (piece, after) = bytes.split_at(length);
            let full = end.is_some();
            if self.rest.is_empty() {
                on(Piece { bytes: piece, full });
            } else {
                self.rest.extend_from_slice(piece);
                on(Piece { bytes: &self.rest, full });
                self.rest.clear();
            }
            bytes = &after[usize::from(full)..];
        }
        // A long line that is over is no reason to keep its memory.
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
    }

    /// The stream is over: hands out what is left.
    pub fn finish(&mut self, mut on: impl FnMut(Piece<'_>)) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            on(Piece { bytes: &rest, full: false });
        }
    }
}

/// Appends a line of the log for a piece.
pub fn format(out: &mut Vec<u8>, time: &str, kind: Kind, piece: Piece<'_>) {
    let tag = if piece.full { "F" } else { "P" };
    for part in [time.as_bytes(), b" ", kind.word().as_bytes(), b" ", tag.as_bytes(), b" ", piece.bytes] {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

/// The file of a log, with the two streams that go there.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    out: Splitter,
    err: Splitter,
    /// Bytes that could not be written.
    lost: u64,
}

impl Log {
    /// Opens a log to append to.
    pub fn open(path: &Path) -> io::Result<Log> {
        let (out, err) = (Splitter::default(), Splitter::default());
        Ok(Log { path: path.to_owned(), file: open(path)?, out, err, lost: 0 })
    }

    /// Opens the file by its path again, and goes on there. If it cannot be opened the old one stays.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// Writes what the program wrote.
    pub fn push(&mut self, kind: Kind, bytes: &[u8]) {
        self.take(kind, |splitter, on| splitter.push(bytes, on));
    }

    /// Writes what is left of a stream that is over.
    pub fn finish(&mut self, kind: Kind) {
        self.take(kind, |splitter, on| splitter.finish(on));
    }

    fn take(&mut self, kind: Kind, take: impl FnOnce(&mut Splitter, &mut dyn FnMut(Piece<'_>))) {
        let time = rfc3339(SystemTime::now());
        let mut lines = Vec::new();
        let splitter = if kind == Kind::Stderr { &mut self.err } else { &mut self.out };
        let mut sink = Sink { path: &self.path, file: &mut self.file, lost: &mut self.lost };
        take(splitter, &mut |piece| {
            format(&mut lines, &time, kind, piece);
            // Short lines are much longer in a log: they are not all kept.
            if lines.len() >= LINE_BYTES {
                sink.write(&lines);
                lines.clear();
            }
        });
        sink.write(&lines);
    }
}

/// The file of a log while a stream is taken in.
struct Sink<'a> {
    path: &'a Path,
    file: &'a mut File,
    lost: &'a mut u64,
}

impl Sink<'_> {
    /// A disk that is full must not stop the container: what cannot be written is counted, and the
    /// first time it happens is told.
    fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if let Err(error) = self.file.write_all(lines) {
            if *self.lost == 0 {
                note(format_args!("write {}: {error}: output is lost", self.path.display()));
            }
            *self.lost += lines.len() as u64;
        }
    }
}

/// Opens without waiting, should it be no regular file.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cuts `bytes` into chunks of these lengths, as a pipe would, and formats what comes out.
    fn written(bytes: &[u8], lengths: &[usize]) -> Vec<u8> {
        let (mut splitter, mut log, mut rest) = (Splitter::default(), Vec::new(), bytes);
        let mut lengths = lengths.iter().cycle();
        while !rest.is_empty() {
            let length = (*lengths.next().unwrap()).clamp(1, rest.len());
            let (chunk, after) = rest.split_at(length);
            splitter.push(chunk, |piece| format(&mut log, "T", Kind::Stdout, piece));
            rest = after;
        }
        splitter.finish(|piece| format(&mut log, "T", Kind::Stdout, piece));
        log
    }

    fn read_back(log: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in log.split_inclusive(|&b| b == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap();
            if let Some(full) = line.strip_prefix(b"T stdout F ") {
                assert!(full.len() <= LINE_BYTES);
                bytes.extend_from_slice(full);
                bytes.push(b'\n');
            } else {
                let piece = line.strip_prefix(b"T stdout P ").unwrap();
                assert!((1..=LINE_BYTES).contains(&piece.len()));
                bytes.extend_from_slice(piece);
            }
        }
        bytes
    }

    #[test]
    fn lines_have_the_form_of_the_cri() {
        assert_eq!(written(b"a\n\nb c", &[2]), b"T stdout F a\nT stdout F \nT stdout P b c\n");
    }

    #[test]
    fn a_line_is_cut_only_where_it_is_too_long() {
        for (length, expected) in [(LINE_BYTES, "F"), (LINE_BYTES + 1, "PF"), (2 * LINE_BYTES, "PF")] {
            let mut line = vec![b'x'; length];
            line.push(b'\n');
            let log = String::from_utf8(written(&line, &[4096])).unwrap();
            let tags: String = log.lines().map(|line| &line[9..10]).collect();
            assert_eq!(tags, expected, "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_what_was_written(
            lines in prop::collection::vec((0_usize..40_000, any::<u8>()), 0..8),
            newline_at_end: bool,
            lengths in prop::collection::vec(1_usize..70_000, 1..5),
        ) {
            let mut bytes = Vec::new();
            for (length, byte) in lines {
                bytes.resize(bytes.len() + length, byte);
                bytes.push(b'\n');
            }
            if !newline_at_end {
                bytes.pop();
            }
            let log = written(&bytes, &lengths);
            prop_assert_eq!(read_back(&log), bytes.clone());
            prop_assert_eq!(log, written(&bytes, &[1 << 20]), "the chunks are seen");
        }
    }
}
