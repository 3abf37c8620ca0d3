//! What a console printed: the last 16 MiB of it, by position since the beginning.

/// How much of the past is kept, in bytes.
pub(crate) const KEPT: usize = 16 << 20;

/// How much more than [`KEPT`] may pile up before the oldest is dropped, so that bytes are moved rarely.
const SLACK: usize = 4 << 20;

/// The lines shown of a console that did not print what was waited for, and their bytes at most.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 4096;

/// The end of a stream. Positions count from its beginning, so they stay valid as it grows and is dropped.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    bytes: Vec<u8>,
    dropped: u64,
}

impl Transcript {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > KEPT + SLACK {
            self.skip(self.bytes.len() - KEPT);
        }
    }

    /// Notes that so many bytes came before what is pushed next; only for one that is empty.
    pub(crate) fn begin_at(&mut self, position: u64) {
        self.dropped = position;
    }

    /// The position after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.dropped + self.bytes.len() as u64
    }

    /// What is kept from `position` on, and the position at which that begins: later, if some was dropped.
    pub(crate) fn since(&self, position: u64) -> (u64, &[u8]) {
        let skip = position.saturating_sub(self.dropped).min(self.bytes.len() as u64) as usize;
        (self.dropped + skip as u64, &self.bytes[skip..])
    }

    /// All that is kept.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.bytes
    }

    /// The position at which the last so many lines begin.
    pub(crate) fn last_lines(&self, lines: usize) -> u64 {
        let bytes = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let mut breaks = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        let start = match lines.checked_sub(1) {
            None => self.bytes.len(),
            Some(before) => breaks.nth(before).map_or(0, |(at, _)| at + 1),
        };
        self.dropped + start as u64
    }

    /// The last lines as an error shows them: indented, without control characters.
    pub(crate) fn tail(&self) -> String {
        let (_, bytes) = self.since(self.last_lines(TAIL_LINES));
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        if bytes.is_empty() {
            return "; it printed nothing".into();
        }
        let mut tail = String::from("; its last lines:");
        for line in plain(bytes).lines() {
            tail.push_str("\n    ");
            tail.push_str(line);
        }
        tail
    }

    fn skip(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.dropped += count as u64;
    }
}

/// Text without what would move a terminal's cursor: escape sequences and control characters are left out. A screen
/// that is cleared takes the line along that was being written: firmware leaves one, then a kernel clears the screen.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                if clears_screen(&mut chars) {
                    plain.truncate(plain.rfind('\n').map_or(0, |end| end + 1));
                }
            }
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// Skips the rest of an escape sequence (ECMA-48); true if it was one that clears the screen: RIS or ED 2.
fn clears_screen(chars: &mut std::str::Chars<'_>) -> bool {
    match chars.next() {
        Some('[') => {
            let sequence = chars.as_str();
            // Parameters and intermediates, then one final character.
            let end = chars.position(|c| matches!(c, '\x40'..='\x7e'));
            end.is_some_and(|end| sequence.get(..=end) == Some("2J"))
        }
        next => next == Some('c'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Transcript {
        let mut transcript = Transcript::default();
        transcript.push(text.as_bytes());
        transcript
    }

    #[test]
    fn positions_outlive_what_is_dropped() {
        let mut transcript = of("first");
        transcript.push(&vec![b'.'; KEPT + SLACK]);
        assert_eq!(transcript.end(), (5 + KEPT + SLACK) as u64);
        assert_eq!(transcript.kept().len(), KEPT);
        let (position, bytes) = transcript.since(2);
        assert_eq!((position, bytes.len()), ((5 + SLACK) as u64, KEPT));
        assert_eq!(transcript.since(transcript.end() + 7), (transcript.end(), &[][..]));
    }

    #[test]
    fn the_last_lines_include_one_that_has_not_ended() {
        let text = "a\nbb\nccc\n";
        for (lines, expected) in [(0, ""), (1, "ccc\n"), (2, "bb\nccc\n"), (3, text), (9, text)] {
            let transcript = of(text);
            assert_eq!(transcript.since(transcript.last_lines(lines)).1, expected.as_bytes(), "{lines}");
        }
        let transcript = of("a\nb");
        assert_eq!(transcript.since(transcript.last_lines(1)).1, b"b");
    }

    #[test]
    fn a_tail_shows_no_control_characters() {
        assert_eq!(of("").tail(), "; it printed nothing");
        let tail = of("\x1bc\x1b[?7l\x1b[2Jboot\r\n\x1b[1;31mpanic\x07\r\n").tail();
        assert_eq!(tail, "; its last lines:\n    boot\n    panic");
    }

    #[test]
    fn a_cleared_screen_takes_the_unfinished_line_along() {
        let boot = b"SeaBIOS\r\nBooting from ROM..\x1bc\x1b[?7l\x1b[2Jkit: ready\r\n";
        assert_eq!(plain(boot), "SeaBIOS\nkit: ready\n");
        assert_eq!(plain(b"a\x1b[2Jb\x1b[1;2Hc\x1b[2Kd\x1b[\xff\x1b"), "bcd");
    }

    proptest! {
        #[test]
        fn plain_text_holds_no_control_characters(bytes: Vec<u8>) {
            prop_assert!(plain(&bytes).chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
        }

        #[test]
        fn what_follows_a_position_is_what_was_pushed_after_it(pieces: Vec<Vec<u8>>) {
            let mut transcript = Transcript::default();
            for piece in &pieces {
                let before = transcript.end();
                transcript.push(piece);
                prop_assert_eq!(transcript.since(before), (before, piece.as_slice()));
            }
        }
    }
}
