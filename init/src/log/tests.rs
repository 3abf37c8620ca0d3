use super::*;
use std::io::Read;

fn silent() -> Console {
    Console { file: None, quiet: false, pending: Vec::new() }
}

/// A console that is the writing end of a pipe, and what comes out of it.
fn piped() -> (Console, File) {
    let (read, write) = pipe().unwrap();
    rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK).unwrap();
    (Console { file: Some(File::from(write)), quiet: false, pending: Vec::new() }, File::from(read))
}

fn drain(from: &mut File) -> String {
    let mut text = Vec::new();
    let _ = from.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_log_keeps_two_files_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(dir.path(), "web");
    let line = [b'x'; 1023].as_slice();
    for _ in 0..1000 {
        log.take(&[line, b"\n"].concat(), &mut silent(), secs(0));
    }
    let sizes: u64 = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(sizes <= 2 * SEGMENT && sizes > SEGMENT, "{sizes}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert!(log.line.capacity() <= 2 * LINE);
}

#[test]
fn lines_are_shown_with_their_name_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (mut console, mut out) = piped();
    let mut log = Log::new(dir.path(), "web");
    log.take(b"one\r\ntw", &mut console, secs(0));
    log.take(b"o\n", &mut console, secs(0));
    log.take(&[b'x'; 2000], &mut console, secs(0));
    log.flush(&mut console, secs(0));
    assert_eq!(drain(&mut out), format!("web: one\nweb: two\nweb: {}\n", "x".repeat(LINE)));
}

#[test]
fn a_flood_is_counted_and_told_once_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut console, mut out) = piped();
    let mut log = Log::new(dir.path(), "web");
    (0..1000).for_each(|_| log.take(b"x\n", &mut console, secs(5)));
    assert_eq!(drain(&mut out).lines().count(), LINES_PER_SECOND as usize);
    assert_eq!(log.deadline(), Some(secs(6)));
    log.tell(&mut console, secs(5));
    assert_eq!(drain(&mut out), "");
    log.tell(&mut console, secs(6));
    assert_eq!(drain(&mut out), "kit: 800 lines of web are only in its log\n");
    assert_eq!(log.deadline(), None);
}

#[test]
fn a_console_that_takes_nothing_loses_no_line_of_ours_and_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (mut console, mut out) = piped();
    let mut log = Log::new(dir.path(), "web");
    for second in 0..10 {
        (0..200).for_each(|_| log.take(&[&[b'x'; 500][..], b"\n"].concat(), &mut console, secs(second)));
    }
    assert!(console.awaited().is_some());
    console.say("kit: ready");
    let mut text = String::new();
    while console.awaited().is_some() {
        text += &drain(&mut out);
        console.flush();
    }
    text += &drain(&mut out);
    assert!(text.ends_with("kit: ready\n"));
    assert!(text.lines().all(|line| line.starts_with("kit: ") || line.len() == 505), "a line was torn");
    let shown = text.lines().filter(|line| line.starts_with("web: ")).count();
    assert!(shown > 100 && shown < 200, "{shown}");
}

#[test]
fn a_quiet_console_shows_only_what_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let (mut console, mut out) = piped();
    console.quiet = true;
    let mut log = Log::new(dir.path(), "web");
    log.take(b"x\n", &mut console, secs(0));
    console.say("kit: ready");
    assert_eq!(drain(&mut out), "kit: ready\n");
}

#[test]
fn a_reader_goes_on_while_the_log_is_written_and_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(dir.path(), "web");
    let mut reader = Reader::new(dir.path(), "web");
    assert_eq!(reader.piece(), None);
    let mut read = String::new();
    let mut written = String::new();
    for number in 0..20_000 {
        let line = format!("line {number} of many that are written\n");
        written += &line;
        log.take(line.as_bytes(), &mut silent(), secs(0));
        if number % 1000 == 0 {
            read.extend(std::iter::from_fn(|| reader.piece()));
        }
    }
    read.extend(std::iter::from_fn(|| reader.piece()));
    assert!(read == written, "{} of {} bytes", read.len(), written.len());
    // One who comes later sees what is left.
    let late: String = std::iter::from_fn({
        let mut late = Reader::new(dir.path(), "web");
        move || late.piece()
    })
    .collect();
    assert!(written.ends_with(&late) && late.len() > SEGMENT as usize);
}

#[test]
fn pieces_are_broken_between_characters() {
    let dir = tempfile::tempdir().unwrap();
    let text = "é€🦀".repeat(1000);
    fs::write(dir.path().join("web.log"), &text).unwrap();
    let mut reader = Reader::new(dir.path(), "web");
    let read: String = std::iter::from_fn(|| reader.piece()).collect();
    assert_eq!(read, text);
    for (bytes, whole) in
        [(&b"ab"[..], 2), (b"a\xc3", 1), (b"a\xe2\x82", 1), (b"\xe2\x82\xac", 3), (b"\xf0", 1), (b"", 0)]
    {
        assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
    }
}
