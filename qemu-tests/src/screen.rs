//! What a console printed, as people read it.

/// Text without escape sequences and other control characters; lines end in `\n`.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_sequence(&mut chars),
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// ECMA-48: after `[` come parameters, then one final character; else one character is all.
fn skip_sequence(chars: &mut std::str::Chars) {
    if chars.next() == Some('[') {
        chars.by_ref().find(|c| matches!(c, '\x40'..='\x7e'));
    }
}

/// The last so many lines, indented, for a failure's message.
pub fn last_lines(bytes: &[u8], count: usize) -> String {
    let plain = plain(bytes);
    let lines: Vec<&str> = plain.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(count)..];
    shown.iter().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_shown_without_what_moves_the_cursor() {
        assert_eq!(plain(b"\x1bc\x1b[2Jboot\r\n\x1b[1;31mpanic\x07\r\n"), "boot\npanic\n");
        assert_eq!(last_lines(b"a\r\n\r\nb\r\nc\r\n", 2), "    b\n    c\n");
    }
}
