//! Names that are refused, and bounds.

use super::*;

fn refused(member: Member) -> String {
    told(read(&archive(Format::Pax, &[member])))
}

#[test]
fn names_that_lead_out_are_refused_as_written() {
    for (name, why) in [
        ("../../etc/passwd", "path `../../etc/passwd` leaves the root by `..`"),
        ("/a/../../x", "path `/a/../../x` leaves the root by `..`"),
        ("a/..", "path `a/..` leaves the root by `..`"),
    ] {
        let told = refused(Member::file(name, ""));
        assert_eq!(
            told,
            format!("entry `{name}` (header at byte 0) cannot be used: its name cannot be used: {why}")
        );
    }
    let told = refused(Member::file("a", "").record("path", "a\0b"));
    assert_eq!(
        told,
        r"entry `a\0b` (header at byte 1024) cannot be used: its name cannot be used: path `a\0b` holds a NUL byte"
    );
    let told = refused(Member::file(format!("d/{}", "n".repeat(256)), ""));
    assert!(told.ends_with("is too long: a name of 256 bytes, at most 255 are possible"), "{told}");
    let told = refused(Member::file("d/".repeat(2100), ""));
    assert!(told.ends_with("is too long: a path of 4199 bytes, at most 4095 are possible"), "{told}");
}

#[test]
fn hard_links_that_lead_out_are_refused_and_symbolic_ones_are_not() {
    let told = refused(Member::link(b'1', "a", "../b"));
    assert_eq!(
        told,
        "entry `a` (header at byte 0) cannot be used: its target cannot be used: path `../b` leaves the root by `..`"
    );
    assert!(refused(Member::link(b'1', "a", "/")).ends_with("its target is the root"));
    assert!(read(&archive(Format::Ustar, &[Member::link(b'2', "a", "../../../b")])).is_ok());
    assert!(refused(Member::link(b'2', "a", "")).ends_with("its target is empty"));
    assert!(
        refused(Member::link(b'2', "a", "b").record("linkpath", "c\0d"))
            .ends_with("its target holds a NUL byte")
    );
    assert!(
        refused(Member::link(b'2', "a", "b".repeat(4096))).ends_with("its target is longer than 4095 bytes")
    );
}

#[test]
fn the_root_can_only_be_a_directory() {
    for name in ["./", "/", ".", ""] {
        assert!(
            refused(Member::link(b'2', name, "x"))
                .ends_with("it names the root, which can only be a directory")
        );
    }
    assert!(refused(Member::file(".", "x")).ends_with("it names the root, which can only be a directory"));
}

#[test]
fn kinds_that_a_layer_cannot_hold_are_refused() {
    for (kind, shown) in [(b'M', "M"), (b'D', "D"), (b'N', "N"), (b'\n', r"\n"), (0xff, "ÿ")] {
        let told = refused(Member::new(kind, "a"));
        assert!(told.ends_with(&format!("its type `{shown}` is not one that a layer can hold")), "{told}");
    }
    let label = [Member::new(b'V', "label"), Member::file("a", "")];
    assert_eq!(read(&archive(Format::Gnu, &label)).unwrap().len(), 1);
}

#[test]
fn devices_that_linux_cannot_have_are_refused() {
    let told = refused(Member { device: (4096, 0), ..Member::new(b'3', "a") });
    assert!(told.ends_with("device major 4096 is not between 0 and 4095"), "{told}");
}

#[test]
fn whiteouts_are_told_from_files_and_names_of_aufs_are_passed_over() {
    let members = [
        Member::file("d/.wh.gone", "what is in it is of no matter"),
        Member::link(b'1', ".wh.linked", ".wh..wh.aufs"),
        Member::file("d/.wh..wh..opq", ""),
        Member::file(".wh..wh..opq", ""),
        Member::file(".wh..wh.aufs", "x"),
        Member::dir(".wh..wh.plnk/"),
        Member::file(".wh..wh.plnk/102.33", "x"),
        Member::file("d/.whx", ""),
        Member::file("d/a.wh.b", ""),
    ];
    let bytes = archive(Format::Ustar, &members);
    let act = |at, action| Change { path: path(at), action };
    assert_eq!(
        read(&bytes).unwrap(),
        [
            act("d/gone", Action::Remove),
            act("linked", Action::Remove),
            act("d", Action::Opaque),
            act("", Action::Opaque),
            put("d/.whx", file(b"")),
            put("d/a.wh.b", file(b"")),
        ]
    );
    let literal = read_with(&bytes, Options { whiteouts: false, ..Options::default() }).unwrap();
    assert_eq!(literal.len(), members.len());
    assert_eq!(literal[0], put("d/.wh.gone", file(b"what is in it is of no matter")));
}

#[test]
fn whiteouts_of_nothing_and_things_below_whiteouts_are_refused() {
    for name in [".wh.", "d/.wh..", "d/.wh..."] {
        let told = refused(Member::file(name, ""));
        assert!(told.ends_with("its name is a whiteout of nothing"), "{name}: {told}");
    }
    for name in [".wh.a/b", ".wh.a/.wh.b", "d/.wh.a/.wh..wh..opq"] {
        let told = refused(Member::file(name, ""));
        assert!(told.ends_with("it lies below a whiteout"), "{name}: {told}");
    }
}

#[test]
fn what_is_larger_than_the_options_allow_is_refused_before_memory_is_taken() {
    let defaults = Options::default;
    let check = |options, members: &[Member], want: &str| {
        let told = told(read_with(&archive(Format::Pax, members), options));
        assert!(told.ends_with(want), "{told}");
    };
    let three = [Member::file("a", "123"), Member::file("b", "45"), Member::file("c", "")];
    check(Options { max_entries: 2, ..defaults() }, &three, "the archive holds more than 2 entries");
    check(Options { max_file: 2, ..defaults() }, &three, "a file in bytes of 3 is more than the 2 allowed");
    check(
        Options { max_total: 4, ..defaults() },
        &three,
        "the sum of all files in bytes of 5 is more than the 4 allowed",
    );
    let long = [Member::file("a", "").record("comment", "x".repeat(600))];
    check(
        Options { max_extension: 600, ..defaults() },
        &long,
        "a length in bytes of 613 is more than the 600 allowed",
    );
    let mut header = Member::new(b'x', "PaxHeaders/0").header(Format::Ustar);
    header[124..136].copy_from_slice(b"77777777777\0");
    writer::seal(&mut header);
    assert!(
        told(read(&header)).ends_with("a length in bytes of 8589934591 is more than the 1048576 allowed")
    );
}

#[test]
fn extended_attributes_that_linux_cannot_have_are_refused() {
    let key = |name: &str| format!("SCHILY.xattr.{name}");
    for (member, want) in [
        (Member::file("a", "").record(&key(""), "x"), "has no usable name"),
        (Member::file("a", "").record(&key("user.\0"), "x"), "has no usable name"),
        (
            Member::file("a", "").record(&key(&"n".repeat(256)), "x"),
            "an extended attribute's name in bytes of 256 is more than the 255 allowed",
        ),
        (
            Member::file("a", "").record(&key("user.a"), "x".repeat(65537)),
            "an extended attribute in bytes of 65537 is more than the 65536 allowed",
        ),
        (
            (0..1025).fold(Member::file("a", ""), |member, n| member.record(&key(&format!("user.{n}")), "x")),
            "a number of extended attributes of 1025 is more than the 1024 allowed",
        ),
        (Member::file("a", "").record("LIBARCHIVE.xattr.user.a", "a b"), "is not in base64"),
    ] {
        let told = refused(member);
        assert!(told.ends_with(want), "{told}");
    }
}
