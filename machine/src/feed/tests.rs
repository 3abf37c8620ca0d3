use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(20);

fn feed(pieces: &[&str]) -> Feed {
    let feed = Feed::new("node".parse().unwrap());
    for piece in pieces {
        feed.push(piece.as_bytes());
    }
    feed
}

#[test]
fn a_marker_is_found_across_pieces_as_they_come() {
    let feed = feed(&["boot\r\nkit: re"]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| feed.wait_for(0, "ready", MINUTE));
        feed.push(b"a");
        feed.push(b"dy now\r\nmore");
        let found = waiting.join().unwrap().unwrap();
        assert!(found.line.starts_with("kit: ready"), "{}", found.line);
        assert_eq!(found.end, 16);
    });
}

#[test]
fn what_was_printed_before_a_position_does_not_count() {
    let feed = feed(&["ok 1\nok 2\n"]);
    let first = feed.wait_for(0, "ok", MINUTE).unwrap();
    let second = feed.wait_for(first.end, "ok", MINUTE).unwrap();
    assert_eq!((first.line.as_str(), second.line.as_str()), ("ok 1", "ok 2"));
    assert!(feed.wait_for(second.end, "ok", MOMENT).is_err());
    feed.push(b"k");
    assert!(feed.wait_for(9, "\nk", MOMENT).is_ok());
}

#[test]
fn a_marker_does_not_begin_before_the_position_it_is_waited_for_from() {
    let feed = feed(&["aaaa"]);
    assert!(feed.wait_for(3, "aa", MOMENT).is_err());
    feed.push(b"a");
    assert_eq!(feed.wait_for(3, "aa", MINUTE).unwrap().end, 5);
}

#[test]
fn only_whole_lines_are_shown_to_a_predicate() {
    let feed = feed(&["kit: web failed: exit 1\r\nkit: rea"]);
    let found = feed.wait_for_line(0, "a failure", |line| line.ends_with("exit 1"), MINUTE).unwrap();
    assert_eq!((found.line.as_str(), found.end), ("kit: web failed: exit 1", 25));
    let error = feed.wait_for_line(found.end, "readiness", |line| line.starts_with("kit:"), MOMENT);
    assert!(matches!(error, Err(WaitError::Deadline { .. })));
}

#[test]
fn a_deadline_shows_the_last_lines() {
    let lines: String = (1..=30).map(|n| format!("line {n}\r\n")).collect();
    let error = feed(&[&lines]).wait_for(0, "kit: ready", MOMENT).unwrap_err();
    let tail: String = (11..=30).map(|n| format!("\n    line {n}")).collect();
    let expected = format!(
        "`kit: ready` did not appear on the console of machine `node` within 20ms; its last lines:{tail}"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_end_of_the_machine_ends_every_wait() {
    let feed = feed(&["Kernel panic\n"]);
    std::thread::scope(|scope| {
        let marker = scope.spawn(|| feed.wait_for(0, "ready", MINUTE));
        let exit = scope.spawn(|| feed.wait_exit(MINUTE));
        feed.close(Some(Exit::PowerOff));
        let error = marker.join().unwrap().unwrap_err();
        let expected = "`ready` did not appear on the console of machine `node`, and will not: \
                        the guest powered off; its last lines:\n    Kernel panic";
        assert_eq!(error.to_string(), expected);
        assert_eq!(exit.join().unwrap().unwrap(), Exit::PowerOff);
    });
    assert!(feed.wait_for(0, "panic", MOMENT).is_ok(), "what was printed can still be found");
}

#[test]
fn a_machine_let_go_is_not_said_to_have_ended() {
    let feed = feed(&[]);
    feed.close(None);
    assert_eq!(feed.wait_exit(MINUTE).unwrap_err().to_string(), "machine `node` was detached");
    assert!(matches!(feed.wait_for(0, "x", MINUTE), Err(WaitError::Detached { .. })));
}

#[test]
fn a_waker_tells_of_news_once() {
    let feed = feed(&[]);
    let waker = feed.waker().unwrap();
    let mut count = [0; 8];
    assert!(rustix::io::read(&waker, &mut count).is_ok(), "what came before it was made is news");
    assert!(rustix::io::read(&waker, &mut count).is_err());
    feed.push(b"x");
    assert!(rustix::io::read(&waker, &mut count).is_ok());
    drop(waker);
    feed.push(b"x");
    assert!(feed.lock().wakers.is_empty());
}
