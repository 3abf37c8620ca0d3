//! What goes over the socket of an attached client: frames.
//!
//! ```text
//! +--------+----------------------+---------------+
//! | stream | length, big endian   | bytes         |
//! | 1 byte | 4 bytes              | length bytes  |
//! +--------+----------------------+---------------+
//! ```
//!
//! Stream 0 is the standard input and goes to the monitor; a frame of it without bytes closes it.
//! Streams 1 and 2 are standard output and error and come from it; a terminal has only stream 1. The
//! end of the socket is the end of the container's output.

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 5;

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Number 0.
    Stdin,
    /// Number 1.
    Stdout,
    /// Number 2.
    Stderr,
}

impl Kind {
    /// The word in a log.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Stdin => "stdin",
            Kind::Stdout => "stdout",
            Kind::Stderr => "stderr",
        }
    }

    /// The number in a frame.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The stream of a number.
    pub fn from_number(number: u8) -> Option<Kind> {
        [Kind::Stdin, Kind::Stdout, Kind::Stderr].into_iter().find(|kind| kind.number() == number)
    }
}

/// The head of a frame.
pub fn head(kind: Kind, length: u32) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = length.to_be_bytes();
    [kind.number(), a, b, c, d]
}

/// What a [`Reader`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Bytes of a stream; never none.
    Bytes(Kind, &'a [u8]),
    /// A frame without bytes: the stream is closed.
    Close(Kind),
}

/// A frame is of a stream that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no stream {0}")]
pub struct NoStream(pub u8);

/// Takes frames apart, however the bytes arrive. Keeps no more than a frame's head.
#[derive(Debug, Default)]
pub struct Reader {
    head: [u8; HEAD_BYTES],
    filled: usize,
    left: u32,
}

impl Reader {
    /// Takes in bytes and hands out what is in them.
    pub fn push(&mut self, mut bytes: &[u8], mut on: impl FnMut(Part<'_>)) -> Result<(), NoStream> {
        while !bytes.is_empty() {
            if self.filled < HEAD_BYTES {
                let count = bytes.len().min(HEAD_BYTES - self.filled);
                self.head[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
                self.filled += count;
                bytes = &bytes[count..];
                if self.filled < HEAD_BYTES {
                    return Ok(());
                }
                let [number, a, b, c, d] = self.head;
                let kind = Kind::from_number(number).ok_or(NoStream(number))?;
                self.left = u32::from_be_bytes([a, b, c, d]);
                if self.left == 0 {
                    on(Part::Close(kind));
                    self.filled = 0;
                }
                continue;
            }
            let kind = Kind::from_number(self.head[0]).ok_or(NoStream(self.head[0]))?;
            let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            on(Part::Bytes(kind, &bytes[..count]));
            bytes = &bytes[count..];
            self.left -= count as u32;
            if self.left == 0 {
                self.filled = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stream_that_does_not_exist_is_an_error() {
        assert_eq!(Reader::default().push(&[3, 0, 0, 0, 1, 9], |_| {}), Err(NoStream(3)));
    }

    proptest! {
        #[test]
        fn frames_come_back_at_every_chunking(
            frames in prop::collection::vec((0_u8..3, prop::collection::vec(any::<u8>(), 0..50)), 0..20),
            chunk in 1_usize..30,
        ) {
            let mut wire = Vec::new();
            let mut expected: Vec<Vec<u8>> = vec![Vec::new(); 3];
            let mut closes = 0;
            for (number, bytes) in &frames {
                let kind = Kind::from_number(*number).unwrap();
                wire.extend_from_slice(&head(kind, bytes.len() as u32));
                wire.extend_from_slice(bytes);
                expected[usize::from(*number)].extend_from_slice(bytes);
                closes += usize::from(bytes.is_empty());
            }
            let mut found: Vec<Vec<u8>> = vec![Vec::new(); 3];
            let mut closed = 0;
            let mut reader = Reader::default();
            for bytes in wire.chunks(chunk) {
                reader.push(bytes, |part| match part {
                    Part::Bytes(kind, bytes) => found[usize::from(kind.number())].extend_from_slice(bytes),
                    Part::Close(_) => closed += 1,
                }).unwrap();
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(closed, closes);
        }
    }
}
