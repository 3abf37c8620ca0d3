use super::*;
use proptest::prelude::*;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

const ROOT: Meta = Meta::root(0o755);

/// What the tests' own reader found: name, mode, inode, links, data and its offset.
#[derive(Debug, PartialEq)]
struct Member {
    name: Vec<u8>,
    mode: u32,
    ino: u32,
    links: u32,
    mtime: u32,
    data: Vec<u8>,
    data_at: usize,
}

fn members(archive: &[u8]) -> Vec<Member> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        assert_eq!(&archive[at..at + 6], b"070701", "magic at {at}");
        let field = |n: usize| {
            let hex = &archive[at + 6 + 8 * n..at + 14 + 8 * n];
            u32::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap()
        };
        let name = &archive[at + 110..at + 110 + field(11) as usize];
        let name = name[..name.iter().position(|b| *b == 0).unwrap()].to_vec();
        let data_at = (at + 110 + field(11) as usize).next_multiple_of(4);
        let end = data_at + field(6) as usize;
        if name == TRAILER {
            assert!(archive[end..].iter().all(|b| *b == 0));
            return found;
        }
        let data = archive[data_at..end].to_vec();
        let (ino, mode, links, mtime) = (field(0), field(1), field(4), field(5));
        found.push(Member { name, mode, ino, links, mtime, data, data_at });
        at = end.next_multiple_of(4);
    }
}

#[test]
fn a_small_archive_is_these_bytes() {
    let mut cpio = Writer::new(Vec::new(), 0x5f00_0001);
    let meta = Meta { mode: 0o640, uid: 10, gid: 11 };
    cpio.file("a", meta, 2, &mut &b"hi"[..]).unwrap();
    cpio.special("c", meta, Special::Char { major: 5, minor: 1 }).unwrap();
    let archive = cpio.finish().unwrap();
    let expected = concat!(
        "07070100000001000081a00000000a0000000b000000015f00000100000002",
        "000000000000000000000000000000000000000200000000a\0hi\0\0",
        "07070100000002000021a00000000a0000000b000000015f00000100000000",
        "000000000000000000000005000000010000000200000000c\0",
        "07070100000000000000000000000000000000000000010000000000000000",
        "000000000000000000000000000000000000000b00000000TRAILER!!!\0",
    );
    assert_eq!(String::from_utf8_lossy(&archive[..expected.len()]), expected);
    assert_eq!(archive.len(), 512);
}

#[test]
fn names_that_readers_would_misunderstand_are_refused() {
    let long = "x".repeat(4093);
    for (name, why) in [
        ("", "the name is empty"),
        ("/etc", "the name is absolute"),
        ("a\0b", "the name holds a NUL"),
        ("TRAILER!!!", "the name is the archive's end mark"),
        (&long, "the name is too long"),
    ] {
        let err = Writer::new(Vec::new(), 0).directory(name, ROOT).unwrap_err();
        assert_eq!(err.to_string(), format!("cpio member {name:?}: {why}"));
    }
}

#[test]
fn a_file_over_4_gib_is_refused_before_a_byte_is_written() {
    let mut cpio = Writer::new(Vec::new(), 0);
    let err = cpio.file("big", ROOT, 1 << 32, &mut io::repeat(0)).unwrap_err();
    assert_eq!(
        err.to_string(),
        "cpio member \"big\": 4294967296 bytes, but newc holds at most 4294967295 bytes a file"
    );
    assert_eq!(cpio.offset(), 0);
    cpio.finish().unwrap();
}

#[test]
fn a_file_written_in_place_cannot_grow_over_4_gib() {
    let file = tempfile::tempfile().unwrap();
    let mut cpio = Writer::new(file, 0);
    let mut inner = cpio.begin_file_seekable("big", ROOT).unwrap();
    inner.seek(SeekFrom::Start(MAX_FILE_LEN - 1)).unwrap();
    inner.write_all(b"1").unwrap();
    assert_eq!(inner.write_all(b"2").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(inner.finish().unwrap(), MAX_FILE_LEN);
    cpio.finish().unwrap();
}

#[test]
fn content_of_another_length_tears_the_archive_and_says_so() {
    let mut cpio = Writer::new(Vec::new(), 0);
    let err = cpio.file("a", ROOT, 3, &mut &b"hi"[..]).unwrap_err();
    assert_eq!(err.to_string(), "cpio member \"a\"");
    assert!(matches!(err, Error::Content { source: ContentError::Short { announced: 3, found: 2 }, .. }));
    let err = cpio.directory("b", ROOT).unwrap_err();
    assert_eq!(err.to_string(), "cpio archive is torn: the member \"a\" was not completed");
    assert!(cpio.finish().is_err());
}

#[test]
fn a_file_dropped_unfinished_tears_the_archive() {
    let mut cpio = Writer::new(Cursor::new(Vec::new()), 0);
    drop(cpio.begin_file_seekable("a", ROOT).unwrap());
    assert!(matches!(cpio.finish(), Err(Error::Torn { path }) if path == "a"));
}

#[test]
fn a_file_written_in_place_equals_the_same_file_streamed() {
    let write = |in_place: bool| {
        let mut cpio = Writer::new(Cursor::new(Vec::new()), 7);
        cpio.directory("d", ROOT).unwrap();
        if in_place {
            let mut file = cpio.begin_file_seekable("d/f", ROOT).unwrap();
            file.write_all(b"????56789").unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(b"0123").unwrap();
            assert_eq!(file.finish().unwrap(), 9);
        } else {
            cpio.file("d/f", ROOT, 9, &mut &b"012356789"[..]).unwrap();
        }
        cpio.file("e", ROOT, 1, &mut &b"e"[..]).unwrap();
        let offset = cpio.offset();
        let archive = cpio.finish().unwrap().into_inner();
        assert!(offset < archive.len() as u64);
        archive
    };
    let archive = write(true);
    assert_eq!(archive, write(false));
    assert_eq!(members(&archive)[1].data, b"012356789");
}

#[test]
fn an_archive_can_begin_inside_another_output() {
    let mut out = Cursor::new(b"prefix..".to_vec());
    out.set_position(8);
    let mut cpio = Writer::new(&mut out, 0);
    cpio.align_next(512).unwrap();
    let mut file = cpio.begin_file_seekable("f", ROOT).unwrap();
    file.write_all(b"abc").unwrap();
    file.finish().unwrap();
    cpio.finish().unwrap();
    let out = out.into_inner();
    assert_eq!(&out[..8], b"prefix..");
    let found = members(&out[8..]);
    assert_eq!((found[0].data.as_slice(), found[0].data_at), (&b"abc"[..], 512));
}

#[test]
fn alignments_that_names_cannot_give_are_refused() {
    for align in [0, 2, 3, 6, 4096] {
        assert!(matches!(Writer::new(Vec::new(), 0).align_next(align), Err(Error::Alignment { .. })));
    }
    let mut cpio = Writer::new(Vec::new(), 0);
    cpio.align_next(2048).unwrap();
    let err = cpio.file("y".repeat(2049), ROOT, 0, &mut io::empty()).unwrap_err();
    assert!(matches!(err, Error::Name { fault: NameFault::TooLong, .. }));
}

proptest! {
    #[test]
    fn what_was_written_is_what_a_reader_finds(
        files in prop::collection::vec(
            (prop::collection::vec(1u8..=255, 1..40), prop::collection::vec(any::<u8>(), 0..300), 2u32..=11, 0u16..0o7777),
            0..20,
        ),
        mtime in any::<u32>(),
    ) {
        let mut cpio = Writer::new(Vec::new(), mtime);
        let mut expected = Vec::new();
        for (name, data, align, mode) in &files {
            if name[0] == b'/' {
                continue;
            }
            cpio.align_next(1 << align).unwrap();
            let meta = Meta { mode: *mode, uid: 1, gid: 2 };
            cpio.file(name, meta, data.len() as u64, &mut data.as_slice()).unwrap();
            expected.push((name, data, *align, *mode));
        }
        let archive = cpio.finish().unwrap();
        prop_assert_eq!(archive.len() % 512, 0);
        let found = members(&archive);
        prop_assert_eq!(found.len(), expected.len());
        for (n, (member, (name, data, align, mode))) in found.iter().zip(expected).enumerate() {
            prop_assert_eq!(&member.name, name);
            prop_assert_eq!(&member.data, data);
            prop_assert_eq!(member.data_at % (1 << align), 0);
            prop_assert_eq!(member.mode, 0o100_000 | u32::from(mode));
            prop_assert_eq!((member.ino, member.links, member.mtime), (n as u32 + 1, 1, mtime));
        }
    }
}

/// Runs GNU cpio in `dir` on `archive`; `None` where there is none.
fn gnu_cpio(dir: &Path, args: &[&str], archive: &[u8]) -> Option<String> {
    let mut child = match Command::new("cpio")
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(e) => {
            println!("skipped: cpio: {e}");
            return None;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(archive).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

fn sample() -> Vec<u8> {
    let mut cpio = Writer::new(Cursor::new(Vec::new()), 1_600_000_000);
    cpio.directory("d", Meta::root(0o1777)).unwrap();
    let inode =
        cpio.linked_file("d/first", Meta { mode: 0o4755, uid: 3, gid: 4 }, 3, 5, &mut &b"hello"[..]).unwrap();
    cpio.symlink("d/link", 0, 0, "../somewhere/else").unwrap();
    cpio.hard_link("d/second", &inode).unwrap();
    cpio.hard_link("third", &inode).unwrap();
    cpio.align_next(1024).unwrap();
    let mut file = cpio.begin_file_seekable("image", Meta::root(0o444)).unwrap();
    file.write_all(&[7; 1001]).unwrap();
    file.finish().unwrap();
    cpio.special("fifo", Meta::root(0o600), Special::Fifo).unwrap();
    cpio.finish().unwrap().into_inner()
}

#[test]
fn gnu_cpio_lists_names_in_order_and_without_their_padding() {
    let dir = tempfile::tempdir().unwrap();
    let Some(names) = gnu_cpio(dir.path(), &["-it", "--quiet"], &sample()) else { return };
    assert_eq!(names, "d\nd/first\nd/link\nd/second\nthird\nimage\nfifo\n");
}

#[test]
fn gnu_cpio_extracts_contents_modes_times_and_hard_links() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // Owners need root; -m keeps the times.
    let args: &[&str] = &["-idm", "--quiet", "--no-absolute-filenames", "--no-preserve-owner"];
    if gnu_cpio(dir.path(), args, &sample()).is_none() {
        return;
    }
    let first = at("d/first").metadata().unwrap();
    assert_eq!(first.nlink(), 3);
    assert_eq!(first.ino(), at("third").metadata().unwrap().ino());
    assert_eq!(first.ino(), at("d/second").metadata().unwrap().ino());
    assert_eq!((first.mode() & 0o777, first.mtime()), (0o755, 1_600_000_000));
    assert_eq!(std::fs::read(at("third")).unwrap(), b"hello");
    assert_eq!(std::fs::read(at("image")).unwrap(), [7; 1001]);
    assert_eq!(std::fs::read_link(at("d/link")).unwrap(), Path::new("../somewhere/else"));
    assert!(at("fifo").metadata().unwrap().file_type().is_fifo());
}

#[test]
fn gnu_cpio_makes_the_device_nodes() {
    let mut cpio = Writer::new(Vec::new(), 0);
    cpio.special("console", Meta::root(0o620), Special::Char { major: 5, minor: 1 }).unwrap();
    cpio.special("loop300", Meta::root(0o660), Special::Block { major: 7, minor: 300 }).unwrap();
    let archive = cpio.finish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    if dir.path().metadata().unwrap().uid() != 0 {
        println!("skipped: needs root");
        return;
    }
    if gnu_cpio(dir.path(), &["-idm", "--quiet"], &archive).is_none() {
        return;
    }
    let node = dir.path().join("loop300").metadata().unwrap();
    assert!(node.file_type().is_block_device());
    // Linux's encoding of 7:300.
    assert_eq!(node.rdev(), 0x10_072c);
    assert_eq!(dir.path().join("console").metadata().unwrap().rdev(), 0x501);
}
