//! What the headers say is what comes out.

use super::*;

#[test]
fn every_kind_of_entry_becomes_its_change() {
    let bytes = archive(
        Format::Ustar,
        &[
            Member { mode: 0o40755, ..Member::dir("./") },
            Member::dir("./dev/"),
            Member::file("/etc/passwd", "root"),
            Member::new(0, "old"),
            Member::new(0, "old dir/"),
            Member::file("contiguous", ""),
            Member::link(b'1', "hard", "./etc//passwd"),
            Member::link(b'2', "soft", "../../outside/"),
            Member { device: (1, 3), ..Member::new(b'3', "dev/null") },
            Member { device: (259, 70000), ..Member::new(b'4', "dev/disk") },
            Member { mode: 0o6711, uid: 1000, gid: 5, ..Member::new(b'6', "pipe") },
        ],
    );
    let dir = || Kind::Dir;
    assert_eq!(
        read(&bytes).unwrap(),
        [
            Change { path: path(""), action: Action::Put(meta(0o755), dir()) },
            put("dev", dir()),
            put("etc/passwd", file(b"root")),
            put("old", file(b"")),
            put("old dir", dir()),
            put("contiguous", file(b"")),
            Change { path: path("hard"), action: Action::Link(path("etc/passwd")) },
            put("soft", Kind::Symlink(b"../../outside/".as_slice().into())),
            put("dev/null", Kind::Char(Device { major: 1, minor: 3 })),
            put("dev/disk", Kind::Block(Device { major: 259, minor: 70000 })),
            Change {
                path: path("pipe"),
                action: Action::Put(Meta { uid: 1000, gid: 5, ..meta(0o6711) }, Kind::Fifo),
            },
        ]
    );
}

#[test]
fn pax_records_override_the_header() {
    let member = Member::file("short", "data")
        .record("path", "long/näme")
        .record("uid", "4294967295")
        .record("gid", "70000000")
        .record("mtime", "1700000000.987654321")
        .record("atime", "1.5")
        .record("comment", "ä = b\n12 path=x\n")
        .record("SCHILY.xattr.user.a", b"=\0\n\xff")
        .record("SCHILY.xattr.user.%3D%25%41", "")
        .record("SCHILY.xattr.user.empty", "");
    let changes = read(&archive(Format::Pax, &[member, Member::file("next", "")])).unwrap();
    let xattrs = Xattrs::from([
        (b"user.=%%41".as_slice().into(), b"".as_slice().into()),
        (b"user.a".as_slice().into(), b"=\0\n\xff".as_slice().into()),
        (b"user.empty".as_slice().into(), b"".as_slice().into()),
    ]);
    let meta = Meta { mode: 0o644, uid: u32::MAX, gid: 70000000, mtime: 1700000000, xattrs };
    assert_eq!(changes[0], Change { path: path("long/näme"), action: Action::Put(meta, file(b"data")) });
    assert_eq!(changes[1], put("next", file(b"")));
}

#[test]
fn a_pax_size_counts_and_the_headers_does_not() {
    let mut bytes = Member::file("a", "12345").record("size", "5").write(Format::Pax);
    let header = bytes.len() - 1024;
    bytes[header + 124..header + 136].copy_from_slice(b"77777777777\0");
    seal_at(&mut bytes, header);
    bytes.extend(archive(Format::Ustar, &[Member::file("b", "")]));
    assert_eq!(read(&bytes).unwrap(), [put("a", file(b"12345")), put("b", file(b""))]);
}

#[test]
fn libarchive_attributes_are_read_and_the_raw_form_wins() {
    let member = Member::file("a", "")
        .record("SCHILY.xattr.user.both", "raw")
        .record("LIBARCHIVE.xattr.user.both", "AAAA")
        .record("LIBARCHIVE.xattr.user.p%3D%25", "AQID/w");
    let changes = read(&archive(Format::Pax, &[member])).unwrap();
    let Action::Put(meta, _) = &changes[0].action else { panic!("{changes:?}") };
    assert_eq!(
        meta.xattrs,
        Xattrs::from([
            (b"user.both".as_slice().into(), b"raw".as_slice().into()),
            (b"user.p=%".as_slice().into(), b"\x01\x02\x03\xff".as_slice().into()),
        ])
    );
}

#[test]
fn a_global_header_holds_until_the_next_and_a_local_one_is_stronger() {
    let global = |records: &[(&str, &str)]| {
        let records: Vec<_> =
            records.iter().map(|(key, value)| (key.as_bytes().into(), value.as_bytes().into())).collect();
        Member { data: writer::pax(&records), ..Member::new(b'g', "pax_global_header") }
    };
    let bytes = archive(
        Format::Ustar,
        &[
            global(&[("comment", "0123abcd"), ("uid", "5"), ("mtime", "9")]),
            Member::file("a", ""),
            Member::file("b", "").record("uid", "6"),
            Member::file("c", "").record("mtime", ""),
            global(&[("uid", "")]),
            Member::file("d", ""),
        ],
    );
    let owners: Vec<_> = read(&bytes)
        .unwrap()
        .into_iter()
        .map(|change| match change.action {
            Action::Put(meta, _) => (meta.uid, meta.mtime),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(owners, [(5, 9), (6, 9), (5, 7), (0, 9)]);
    let told = told(read(&archive(Format::Ustar, &[global(&[("path", "x")]), Member::file("a", "")])));
    assert_eq!(
        told,
        "the global PAX header at byte 0 cannot be used: \
         its PAX record at byte 0 can only hold for one entry, and is given for all"
    );
}

#[test]
fn times_are_rounded_down_and_may_lie_before_1970() {
    for (raw, seconds) in
        [("0", 0), ("12.", 12), ("-1.5", -2), ("-1.0", -1), ("-0.1", -1), ("1.999999999999", 1)]
    {
        let changes = read(&archive(Format::Pax, &[Member::file("a", "").record("mtime", raw)])).unwrap();
        assert!(
            matches!(&changes[0].action, Action::Put(meta, _) if meta.mtime == seconds),
            "{raw}: {changes:?}"
        );
    }
    for raw in ["-", ".5", "1e9", "1.x", "99999999999999999999"] {
        let bytes = archive(Format::Pax, &[Member::file("a", "").record("mtime", raw)]);
        assert!(told(read(&bytes)).contains("is not a number"), "{raw}");
    }
}

#[test]
fn long_names_are_read_in_all_three_forms() {
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(90));
    let changes = read(&archive(Format::Ustar, &[Member::file(&long, "x")])).unwrap();
    assert_eq!(changes, [put(&long, file(b"x"))]);
    let longer = format!("{}/{}/{}", "d".repeat(255), "e".repeat(255), "n".repeat(255));
    for format in [Format::Gnu, Format::Pax] {
        let members = [
            Member::file(&longer, "x"),
            Member::link(b'1', "h", &longer),
            Member::link(b'2', &longer[1..], &longer),
            Member::file("short again", ""),
        ];
        assert_eq!(
            read(&archive(format, &members)).unwrap(),
            [
                put(&longer, file(b"x")),
                Change { path: path("h"), action: Action::Link(path(&longer)) },
                put(&longer[1..], Kind::Symlink(longer.as_bytes().into())),
                put("short again", file(b"")),
            ]
        );
    }
}

#[test]
fn numbers_in_base_256_are_read() {
    let member = Member { uid: 1 << 30, gid: u64::from(u32::MAX), mtime: -86400, ..Member::file("a", "") };
    let changes = read(&archive(Format::Gnu, &[member])).unwrap();
    let meta = Meta { uid: 1 << 30, gid: u32::MAX, mtime: -86400, ..meta(0o644) };
    assert_eq!(changes, [Change { path: path("a"), action: Action::Put(meta, file(b"")) }]);
    let told = told(read(&archive(Format::Gnu, &[Member { uid: 1 << 33, ..Member::file("a", "") }])));
    assert_eq!(
        told,
        "entry `a` (header at byte 0) cannot be used: uid 8589934592 is not between 0 and 4294967295"
    );
}

#[test]
fn numbers_are_read_however_they_are_filled_up() {
    use super::super::header::number;
    for (raw, value) in [
        (b"0000644\0".as_slice(), Some(0o644)),
        (b"   644 \0", Some(0o644)),
        (b"644\0junk", Some(0o644)),
        (b"\0\0\0\0", Some(0)),
        (b"        ", Some(0)),
        (b"77777777777\0", Some(0o77777777777)),
        (b"6 4", None),
        (b"648", None),
        (b"-644", None),
        (b"0x1f", None),
        (b"\x80\0\0\0\0\0\x01\0", Some(256)),
        (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
        (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", Some(i64::MIN)),
        (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
    ] {
        assert_eq!(number(raw), value, "{:?}", String::from_utf8_lossy(raw));
    }
}

#[test]
fn old_dialects_of_the_header_are_known() {
    let retouch = |touch: &dyn Fn(&mut [u8])| {
        let mut bytes = archive(Format::Ustar, &[Member::file("name", "")]);
        touch(&mut bytes);
        seal_at(&mut bytes, 0);
        read(&bytes).unwrap().remove(0).path.to_string()
    };
    let v7 = |block: &mut [u8]| {
        block[257..265].fill(0);
        block[345..350].copy_from_slice(b"junk!");
    };
    let star = |block: &mut [u8]| {
        block[345..347].copy_from_slice(b"ab");
        block[476..488].copy_from_slice(b"00000000007 ");
        block[508..512].copy_from_slice(b"tar\0");
    };
    let gnu = |block: &mut [u8]| {
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..357].copy_from_slice(b"14000000000\0");
    };
    let go_1_7 = |block: &mut [u8]| {
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..353].copy_from_slice(b"usr/shar");
    };
    assert_eq!(retouch(&v7), "/name");
    assert_eq!(retouch(&star), "/ab/name");
    assert_eq!(retouch(&gnu), "/name");
    assert_eq!(retouch(&go_1_7), "/usr/shar/name");
}

#[test]
fn sums_of_signed_bytes_are_accepted_and_wrong_ones_are_not() {
    let mut bytes = archive(Format::Ustar, &[Member::file("n\u{e4}me", "x")]);
    let sum = |bytes: &[u8]| bytes[..512].iter().map(|byte| i64::from(*byte as i8)).sum::<i64>();
    bytes[148..156].fill(b' ');
    let signed = format!("{:06o}\0 ", sum(&bytes));
    bytes[148..156].copy_from_slice(signed.as_bytes());
    assert!(read(&bytes).is_ok());
    bytes[3] ^= 1;
    let told = told(read(&bytes));
    assert!(told.starts_with("the header at byte 0 is damaged: it says checksum `"), "{told}");
}

#[test]
fn damaged_pax_records_are_refused_with_their_place() {
    for (raw, why) in [
        (b"x".as_slice(), "at byte 0 has no length"),
        (b"8 a=b\n9", "at byte 0 is longer than its header"),
        (b"6 a=b\n9", "at byte 6 has no length"),
        (b"6 a=b\n99 c=d\n", "at byte 6 is longer than its header"),
        (b"5 a=b\n", "at byte 0 does not end where it says"),
        (b"2 a=b\n", "at byte 0 does not end where it says"),
        (b"0 a=b\n", "at byte 0 does not end where it says"),
        (b"5 =b\n", "at byte 0 has no key"),
        (b"5 ab\n", "at byte 0 has no key"),
        (b"18446744073709551617 a=b\n", "at byte 0 has no length"),
    ] {
        let pax = Member { data: raw.to_vec(), ..Member::new(b'x', "PaxHeaders/0") };
        let told = told(read(&archive(Format::Ustar, &[pax, Member::file("a", "")])));
        assert_eq!(told, format!("the PAX header at byte 0 cannot be used: its PAX record {why}"), "{raw:?}");
    }
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    let long = |name: &str| Member { data: format!("{name}\0").into(), ..Member::new(b'L', "././@LongLink") };
    let pax = |name: &str| {
        let data = writer::pax(&[(b"path".to_vec(), name.into())]);
        Member { data, ..Member::new(b'x', "PaxHeaders/0") }
    };
    let last = Member::file("c", "");
    let same = archive(Format::Ustar, &[long("a"), pax("a"), last.clone()]);
    assert_eq!(read(&same).unwrap(), [put("a", file(b""))]);
    assert_eq!(
        told(read(&archive(Format::Ustar, &[long("a"), pax("b"), last.clone()]))),
        "entry `b` (header at byte 2048) cannot be used: its PAX header and its GNU long name are not the same"
    );
    assert_eq!(
        told(read(&archive(Format::Ustar, &[pax("a"), pax("b"), last]))),
        "the PAX header at byte 1024 cannot be used: it is the second for one entry"
    );
    assert_eq!(
        told(read(&archive(Format::Ustar, &[pax("a")]))),
        "the archive ends at byte 1024 after an extended header, without its entry"
    );
    assert_eq!(
        told(read(&archive(Format::Ustar, &[Member::file("dir/", "data")]))),
        "entry `dir/` (header at byte 0) cannot be used: it has a directory's name and a file's content"
    );
}

fn seal_at(bytes: &mut [u8], at: usize) {
    writer::seal(&mut bytes[at..at + 512]);
}
