//! Properties: what our writer writes is what the reader reads, and nothing makes the reader panic.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn member() -> impl Strategy<Value = Member> {
    let name = prop::collection::vec("[a-zA-Z0-9._ =%ä\n-]{1,60}", 1..6).prop_map(|parts| parts.join("/"));
    let name = name.prop_filter("a name of its own", |name| {
        TreePath::parse(name).is_ok_and(|path| !path.is_root()) && !name.contains(".wh.")
    });
    let kind = prop::sample::select(vec![b'0', b'1', b'2', b'3', b'4', b'5', b'6']);
    let xattrs =
        prop::collection::vec(("user\\.[a-z]{1,10}", prop::collection::vec(any::<u8>(), 0..40)), 0..4);
    let numbers = (0u64..0o10000, any::<u32>(), any::<u32>(), any::<i64>(), 0u64..0x1000, 0u64..0x10_0000);
    let data = prop::collection::vec(any::<u8>(), 0..2000);
    (name.clone(), kind, name, numbers, data, xattrs).prop_map(|(name, kind, link, numbers, data, xattrs)| {
        let (mode, uid, gid, mtime, major, minor) = numbers;
        // A PAX header says it in decimal, where nobody needs the lowest number of 64 bits.
        let mtime = mtime >> 2;
        let records =
            xattrs.into_iter().map(|(name, value)| (format!("SCHILY.xattr.{name}").into_bytes(), value));
        Member {
            link: if matches!(kind, b'1' | b'2') { link.into() } else { Vec::new() },
            mode,
            uid: u64::from(uid),
            gid: u64::from(gid),
            mtime,
            device: if matches!(kind, b'3' | b'4') { (major, minor) } else { (0, 0) },
            data: if kind == b'0' { data } else { Vec::new() },
            records: records.collect(),
            ..Member::new(kind, name)
        }
    })
}

fn meant(member: &Member) -> Change<Vec<u8>> {
    let xattrs = member.records.iter().map(|(key, value)| {
        let name = key.strip_prefix(b"SCHILY.xattr.").expect("the only keys there are");
        (name.into(), value.as_slice().into())
    });
    let device = Device { major: member.device.0 as u32, minor: member.device.1 as u32 };
    let meta = Meta {
        mode: member.mode as u16,
        uid: member.uid as u32,
        gid: member.gid as u32,
        mtime: member.mtime,
        xattrs: xattrs.collect(),
    };
    let kind = match member.kind {
        b'0' => file(&member.data),
        b'1' => {
            let target = TreePath::parse(&member.link).expect("made so");
            return Change {
                path: TreePath::parse(&member.name).expect("made so"),
                action: Action::Link(target),
            };
        }
        b'2' => Kind::Symlink(member.link.as_slice().into()),
        b'3' => Kind::Char(device),
        b'4' => Kind::Block(device),
        b'5' => Kind::Dir,
        _ => Kind::Fifo,
    };
    Change { path: TreePath::parse(&member.name).expect("made so"), action: Action::Put(meta, kind) }
}

/// Whatever it is: it comes to an end, in a change or an error.
pub(super) fn survive(bytes: &[u8]) {
    let options = Options {
        max_entries: 1000,
        max_file: 1 << 20,
        max_total: 4 << 20,
        max_extension: 1 << 16,
        ..Options::default()
    };
    let Ok(layer) = Layer::with_options(bytes, None, options) else { return };
    let mut tree = Tree::new(Meta::default());
    let _ = fold(layer, &mut tree, |_, _, content| std::io::copy(content, &mut std::io::sink()));
}

/// An archive with one of everything, for mutations.
pub(super) fn everything() -> Vec<u8> {
    static ONCE: LazyLock<Vec<u8>> = LazyLock::new(one_of_everything);
    ONCE.clone()
}

fn one_of_everything() -> Vec<u8> {
    let mut sparse = b"1\n3\n3\n".to_vec();
    sparse.resize(512, 0);
    sparse.extend(b"one");
    let mut bytes: Vec<u8> = [
        (Format::Pax, Member::file("p".repeat(120), "data").record("SCHILY.xattr.user.a", "b")),
        (Format::Pax, Member::link(b'2', "s", "t".repeat(120)).record("mtime", "1.5")),
        (
            Format::Pax,
            Member { data: writer::pax(&[(b"uid".to_vec(), b"5".to_vec())]), ..Member::new(b'g', "g") },
        ),
        (Format::Gnu, Member { uid: 1 << 31, ..Member::link(b'1', "l".repeat(120), "k".repeat(120)) }),
        (Format::Ustar, Member::file("d/.wh.x", "")),
        (Format::Ustar, Member::file("d/.wh..wh..opq", "")),
        (
            Format::Pax,
            Member::file("GNUSparseFile.0/x", sparse)
                .record("GNU.sparse.major", "1")
                .record("GNU.sparse.minor", "0")
                .record("GNU.sparse.realsize", "9"),
        ),
        (
            Format::Pax,
            Member::file("y", "two").record("GNU.sparse.map", "1,3").record("GNU.sparse.size", "5"),
        ),
        (Format::Ustar, Member { device: (1, 3), ..Member::new(b'3', "n") }),
    ]
    .iter()
    .flat_map(|(format, member)| member.write(*format))
    .collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        members in prop::collection::vec(member(), 0..12),
        format in prop::sample::select(vec![Format::Gnu, Format::Pax]),
        compressed in any::<bool>(),
    ) {
        let bytes = archive(format, &members);
        let bytes = if compressed { gzip(&bytes) } else { bytes };
        let want: Vec<_> = members.iter().map(meant).collect();
        prop_assert_eq!(read(&bytes).unwrap(), want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        survive(&bytes);
    }

    #[test]
    fn mutated_archives_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        sealed in any::<bool>(),
    ) {
        let mut bytes = everything();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // With a right checksum the change gets further in.
            let header = at / 512 * 512;
            if sealed && bytes[header + 257..header + 262] == *b"ustar" {
                writer::seal(&mut bytes[header..header + 512]);
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survive(&bytes);
    }

    #[test]
    fn mutated_compressed_archives_are_survived(at in any::<prop::sample::Index>(), byte in any::<u8>(), form in 0..2) {
        let mut bytes = everything();
        bytes = if form == 0 { gzip(&bytes) } else { zstd::encode_all(&bytes[..], 1).unwrap() };
        let at = at.index(bytes.len());
        bytes[at] = byte;
        survive(&bytes);
    }
}

#[test]
fn one_of_everything_is_read() {
    let changes = read(&everything()).unwrap();
    assert_eq!(changes.len(), 8);
    assert_eq!(
        changes[5],
        Change {
            path: path("GNUSparseFile.0/x"),
            action: Action::Put(Meta { uid: 5, ..meta(0o644) }, file(b"\0\0\0one\0\0\0")),
        }
    );
}
