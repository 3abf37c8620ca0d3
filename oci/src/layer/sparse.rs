//! Files with holes: which stretches of a file its archive holds.
//!
//! Four forms are in use, all of GNU tar: the old one with its map in header blocks (type `S`), and PAX 0.0, 0.1 and
//! 1.0 (GNU tar manual, "Storing Sparse Files"). All end in a [`Map`]; holes are read as zeros.

use super::blocks::BLOCK;
use super::error::Flaw;

/// Stretches that a map may have: 16 MiB of them.
const MAX_SEGMENTS: usize = 1 << 20;

/// A stretch of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// A checked map: in order, without overlaps, within the file, and as long as the data that is there.
#[derive(Debug)]
pub(super) struct Map {
    segments: Vec<Segment>,
    next: usize,
    at: u64,
    len: u64,
}

/// What comes next in a sparse file.
pub(super) enum Stretch {
    Hole(u64),
    Data(u64),
    End,
}

impl Map {
    pub(super) fn new(segments: Vec<Segment>, len: u64, stored: u64) -> Result<Self, Flaw> {
        let mut end = 0;
        let mut sum = 0u64;
        for segment in &segments {
            if segment.offset < end {
                return Err(Flaw::Sparse("is not in order"));
            }
            end = segment.offset.checked_add(segment.len).ok_or(Flaw::Sparse("leads beyond all files"))?;
            sum += segment.len;
        }
        if end > len {
            return Err(Flaw::Sparse("leads beyond the end of the file"));
        }
        if sum != stored {
            return Err(Flaw::Sparse("is not as long as the data that is there"));
        }
        Ok(Map { segments, next: 0, at: 0, len })
    }

    /// The file's length, holes included.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn stretch(&mut self) -> Stretch {
        while let Some(segment) = self.segments.get(self.next) {
            if self.at < segment.offset {
                return Stretch::Hole(segment.offset - self.at);
            }
            let end = segment.offset + segment.len;
            if self.at < end {
                return Stretch::Data(end - self.at);
            }
            self.next += 1;
        }
        if self.at < self.len { Stretch::Hole(self.len - self.at) } else { Stretch::End }
    }

    pub(super) fn advance(&mut self, n: u64) {
        self.at += n;
    }
}

/// Reads the map of form 1.0, which stands in front of the data: decimal numbers, each with a newline; first how many
/// pairs, then the pairs; padded to a block.
#[derive(Default)]
pub(super) struct MapReader {
    numbers: Vec<u64>,
    current: Option<u64>,
}

impl MapReader {
    /// Takes one block; the stretches if they are complete.
    pub(super) fn block(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Segment>>, Flaw> {
        for byte in block {
            match (byte, self.current) {
                (b'0'..=b'9', current) => self.current = Some(digit(current.unwrap_or(0), *byte)?),
                (b'\n', Some(number)) => {
                    self.numbers.push(number);
                    self.current = None;
                    bounded(usize::try_from(self.numbers[0]).unwrap_or(usize::MAX))?;
                    if self.numbers.len() as u64 == 1 + 2 * self.numbers[0] {
                        return Ok(Some(pairs(&self.numbers[1..])));
                    }
                }
                _ => return Err(Flaw::Sparse("holds something that is not a number")),
            }
        }
        Ok(None)
    }
}

/// Refuses a map that is too long.
pub(super) fn bounded(segments: usize) -> Result<(), Flaw> {
    if segments > MAX_SEGMENTS {
        let (len, limit) = (segments as u64, MAX_SEGMENTS as u64);
        return Err(Flaw::TooLarge { what: "a map of sparse data in stretches", len, limit });
    }
    Ok(())
}

/// Reads the map of form 0.1: numbers with commas between them.
pub(super) fn comma_map(raw: &[u8]) -> Result<Vec<Segment>, Flaw> {
    let mut numbers = Vec::new();
    if !raw.is_empty() {
        for field in raw.split(|byte| *byte == b',') {
            numbers.push(decimal(field).ok_or(Flaw::Sparse("holds something that is not a number"))?);
        }
    }
    if numbers.len() % 2 != 0 {
        return Err(Flaw::Sparse("ends within a pair"));
    }
    Ok(pairs(&numbers))
}

/// An unsigned decimal number that i64 holds, and nothing else.
pub(super) fn decimal(raw: &[u8]) -> Option<u64> {
    if raw.is_empty() {
        return None;
    }
    raw.iter().try_fold(0, |value, byte| if byte.is_ascii_digit() { digit(value, *byte).ok() } else { None })
}

fn digit(value: u64, digit: u8) -> Result<u64, Flaw> {
    let longer = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0')));
    longer.filter(|value| *value <= i64::MAX as u64).ok_or(Flaw::Sparse("holds a number beyond all files"))
}

fn pairs(numbers: &[u64]) -> Vec<Segment> {
    numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], len: pair[1] }).collect()
}
