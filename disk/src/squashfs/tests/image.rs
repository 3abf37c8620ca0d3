use super::reader::Reader;
use super::*;
use kit_spec::tree::Device;
use std::io::{Seek, SeekFrom};

/// A tree with one of everything, over two packs that share contents.
fn everything(dir: &Path, settings: Settings, threads: usize) -> (Tree<C>, Vec<Pack>) {
    let first =
        vec![text(1, 10), text(2, 3000), text(3, 500_000), noise(4, 9000), Vec::new(), vec![0; 40_960]];
    let second = vec![text(2, 3000), text(5, 100), text(3, 500_000), text(6, 4096)];
    let packs = vec![
        packed(&dir.join("first"), settings, threads, &first),
        packed(&dir.join("second"), settings, threads, &second),
    ];
    let mut tree = Tree::new(meta(0o755));
    for (pack, contents) in [&first, &second].into_iter().enumerate() {
        for (content, file) in contents.iter().zip(0..) {
            let content = (content.len() as u64, C::Packed(pack, FileRef::new(file)));
            put_file(&mut tree, &format!("packed/{pack}/file{file}"), meta(0o644), content);
        }
    }
    let fresh = [text(7, 77), text(8, 30_000), text(2, 3000), Vec::new(), text(7, 77), noise(9, 200_000)];
    for (number, bytes) in fresh.into_iter().enumerate() {
        let meta = Meta { uid: 1000, gid: 65_534, ..meta(0o4755) };
        put_file(&mut tree, &format!("fresh/file{number}"), meta, (bytes.len() as u64, C::Bytes(bytes)));
    }
    let mut put = |at: &str, meta, kind| tree.put(&path(at), meta, kind).unwrap();
    put("dev/null", meta(0o666), Kind::Char(Device { major: 1, minor: 3 }));
    put("dev/far", Meta { uid: 7, ..meta(0o600) }, Kind::Block(Device { major: 4095, minor: 1_048_575 }));
    put("dev/fifo", meta(0o600), Kind::Fifo);
    put("dev/socket", meta(0o700), Kind::Socket);
    put("link", meta(0o777), Kind::Symlink(b"packed/0/file0"[..].into()));
    put("empty", Meta { mtime: -5, ..meta(0o1777) }, Kind::Dir);
    put("late", Meta { mtime: 1 << 40, ..meta(0o700) }, Kind::Dir);
    put(&format!("names/{}", "n".repeat(255)), meta(0o700), Kind::Dir);
    put("names/\u{e9}\u{fffd} \n", meta(0o700), Kind::Dir);
    tree.link(&path("a/hard"), &path("packed/0/file2")).unwrap();
    tree.link(&path("z/hard"), &path("packed/0/file2")).unwrap();
    tree.link(&path("dev/null2"), &path("dev/null")).unwrap();
    tree.link(&path("link2"), &path("link")).unwrap();
    set_attributes(&mut tree);
    (tree, packs)
}

fn set_attributes(tree: &mut Tree<C>) {
    let capability = vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let attributes = [
        ("packed/0/file0", "security.capability", capability),
        ("packed/1/file3", "user.note", text(9, 300)),
        ("packed/1/file3", "user.same", text(9, 300)),
        ("fresh/file1", "user.note", text(9, 300)),
        ("fresh", "trusted.overlay.opaque", b"y".to_vec()),
        ("dev/null", "trusted.x", Vec::new()),
        ("dev/fifo", "trusted.x", Vec::new()),
        ("link", "trusted.on.link", b"yes".to_vec()),
    ];
    for (at, name, value) in attributes {
        let set = tree.set_meta(&path(at), |meta| {
            meta.xattrs.insert(name.as_bytes().into(), value.into());
        });
        assert!(set);
    }
}

fn put_file(tree: &mut Tree<C>, at: &str, meta: Meta, (len, content): (u64, C)) {
    tree.put(&path(at), meta, Kind::File { len, content }).unwrap();
}

fn put_bytes(tree: &mut Tree<C>, at: &str, bytes: Vec<u8>) {
    put_file(tree, at, meta(0o644), (bytes.len() as u64, C::Bytes(bytes)));
}

fn error_text(tree: &Tree<C>, packs: &[Pack]) -> String {
    let error = try_image(tree, packs, &options(small_blocks())).unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn an_image_unpacks_to_its_tree() {
    if !can_unpack() {
        return;
    }
    for settings in [small_blocks(), Settings::default(), Settings::new(1 << 20, 1).unwrap()] {
        let dir = tempfile::tempdir().unwrap();
        let (tree, packs) = everything(dir.path(), settings, 2);
        let image = image(&tree, &packs, &options(settings));
        assert_same(&unsquashed(dir.path(), &image), &tree, &packs);
    }
}

#[test]
fn an_empty_tree_is_an_image() {
    if !can_unpack() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::new(Meta { uid: 5, gid: 6, ..meta(0o711) });
    let image = image(&tree, &[], &options(Settings::default()));
    assert_eq!(image.len(), 4096);
    assert_same(&unsquashed(dir.path(), &image), &tree, &[]);
}

#[test]
fn the_superblock_says_what_was_asked_for() {
    if !can_unpack() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, packs) = everything(dir.path(), small_blocks(), 2);
    let (image, summary) = try_image(&tree, &packs, &options(small_blocks())).unwrap();
    let at = dir.path().join("image");
    fs::write(&at, image).unwrap();
    let run = Command::new("unsquashfs").env("TZ", "UTC").arg("-s").arg(&at).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    for line in [
        "Found a valid SQUASHFS 4:0 superblock",
        "Creation or last append time Tue Nov 14 22:13:20 2023",
        &format!("Filesystem size {} bytes", summary.bytes_used),
        "Compression zstd",
        "compression-level 3",
        "Block size 4096",
        "Filesystem is exportable via NFS",
        "Inodes are compressed",
        "Xattrs are compressed",
        "Duplicates are removed",
        &format!("Number of fragments {}", summary.fragments),
        &format!("Number of inodes {}", summary.inodes),
        "Number of ids 4",
    ] {
        assert!(said.contains(line), "`{line}` is not in:\n{said}");
    }
}

#[test]
fn threads_packs_from_disk_and_the_place_of_the_image_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, packs) = everything(dir.path(), small_blocks(), 1);
    let expected = image(&tree, &packs, &Options { threads: 1, ..options(small_blocks()) });
    assert!(image(&tree, &packs, &Options { threads: 4, ..options(small_blocks()) }) == expected);

    let open = |pack: &Pack| {
        let index = crate::squashfs::pack::PackIndex::from_bytes(&pack.index().to_bytes()).unwrap();
        Pack::open(pack.path(), index).unwrap()
    };
    let cached: Vec<Pack> = packs.iter().map(open).collect();
    assert!(image(&tree, &cached, &options(small_blocks())) == expected);

    let elsewhere = tempfile::tempdir().unwrap();
    let (tree, packs) = everything(elsewhere.path(), small_blocks(), 4);
    let mut out = Cursor::new(vec![7; 5000]);
    out.seek(SeekFrom::Start(1234)).unwrap();
    let source = |content| {
        Ok(match content {
            &C::Packed(pack, file) => Source::Packed { pack: &packs[pack], file },
            C::Bytes(bytes) => Source::Reader(Box::new(&bytes[..])),
        })
    };
    write(&tree, source, &mut out, &options(small_blocks())).unwrap();
    assert_eq!(out.position(), 1234 + expected.len() as u64);
    let out = out.into_inner();
    assert!(out[..1234] == [7; 1234] && out[1234..] == expected);
}

#[test]
fn a_pack_that_was_opened_twice_is_one_pack() {
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<_> = (0..20).map(|seed| noise(seed, 300 + 900 * seed as usize)).collect();
    let pack = packed(&dir.path().join("pack"), small_blocks(), 1, &contents);
    let again = Pack::open(pack.path(), pack.index().clone()).unwrap();
    let tree_of = |second: usize| {
        let mut tree = Tree::new(meta(0o755));
        for (bytes, file) in contents.iter().zip(0..) {
            let from = if file % 2 == 0 { 0 } else { second };
            let content = (bytes.len() as u64, C::Packed(from, FileRef::new(file)));
            put_file(&mut tree, &format!("f{file}"), meta(0o644), content);
        }
        tree
    };
    let once = image(&tree_of(0), std::slice::from_ref(&pack), &options(small_blocks()));
    assert!(image(&tree_of(1), &[pack, again], &options(small_blocks())) == once);
}

#[test]
fn contents_are_shared_between_packs_and_fresh_files() {
    let dir = tempfile::tempdir().unwrap();
    let (big, small) = (noise(1, 100_000), noise(2, 1000));
    let packs = [
        packed(&dir.path().join("first"), small_blocks(), 1, &[big.clone(), small.clone()]),
        packed(&dir.path().join("second"), small_blocks(), 1, &[small.clone(), big.clone()]),
    ];
    let mut tree = Tree::new(meta(0o755));
    put_bytes(&mut tree, "fresh-big", big.clone());
    put_bytes(&mut tree, "fresh-small", small.clone());
    for pack in 0..2 {
        let (first, second) = if pack == 0 { (100_000, 1000) } else { (1000, 100_000) };
        put_file(&mut tree, &format!("p{pack}/0"), meta(0o644), (first, C::Packed(pack, FileRef::new(0))));
        put_file(&mut tree, &format!("p{pack}/1"), meta(0o644), (second, C::Packed(pack, FileRef::new(1))));
    }
    let (_, summary) = try_image(&tree, &packs, &options(small_blocks())).unwrap();
    assert_eq!((summary.contents, summary.contents_len, summary.copied), (2, 101_000, 101_000));
    assert_eq!(summary.compressed, 0);
}

#[test]
fn a_fragment_block_is_taken_over_if_three_quarters_are_in_use() {
    if !can_unpack() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<_> = (0..8).map(|seed| noise(seed, 1000)).collect();
    let packs = [packed(&dir.path().join("pack"), small_blocks(), 1, &contents)];
    // Four files fill a block: of the first three are in use, of the second two.
    let mut tree = Tree::new(meta(0o755));
    for file in [0, 2, 3, 5, 6] {
        put_file(&mut tree, &format!("f{file}"), meta(0o644), (1000, C::Packed(0, FileRef::new(file))));
    }
    let (image, summary) = try_image(&tree, &packs, &options(small_blocks())).unwrap();
    assert_eq!((summary.copied, summary.compressed, summary.fragments), (4000, 2000, 2));
    assert_same(&unsquashed(dir.path(), &image), &tree, &packs);
}

/// The name of an entry of [`crowd`].
fn crowd_name(n: u32) -> String {
    format!("{:x}-{n}", n.wrapping_mul(2_654_435_761))
}

/// A directory of 20,000 names.
fn crowd() -> Tree<C> {
    let mut tree = Tree::new(meta(0o755));
    for n in 0..20_000 {
        let at = format!("big/{}", crowd_name(n));
        match n % 3 {
            0 => put_bytes(&mut tree, &at, text(u64::from(n), 40)),
            1 => tree.put(&path(&at), meta(0o700), Kind::Dir).unwrap(),
            _ => put_bytes(&mut tree, &at, Vec::new()),
        }
    }
    tree
}

#[test]
fn a_directory_of_twenty_thousand_names_is_found_through_its_index() {
    let image = image(&crowd(), &[], &options(Settings::default()));
    let reader = Reader::new(&image);
    let (big, _) = reader.look_up(&reader.root(), b"big").unwrap();
    assert_eq!((big.kind, big.listing.3 > 20), (8, true), "it has an index");
    for n in (0..20_000).step_by(7) {
        let name = crowd_name(n);
        let (found, blocks) = reader.look_up(&big, name.as_bytes()).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.kind, if n % 3 == 1 { 1 } else { 2 });
        assert!(blocks <= 2, "{name}: {blocks} blocks were read");
    }
    assert_eq!(reader.look_up(&big, b"zzz"), None);
    assert_eq!(reader.look_up(&big, b"!"), None);
}

#[test]
fn the_export_table_finds_every_inode_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, packs) = everything(dir.path(), small_blocks(), 2);
    let (image, summary) = try_image(&tree, &packs, &options(small_blocks())).unwrap();
    let reader = Reader::new(&image);
    for number in 1..=summary.inodes {
        assert_eq!(reader.exported(number).number, number);
    }
    assert_eq!(reader.root().number, 1);
    assert_eq!(reader.exported(1), reader.root());
    // In walk order: `a` comes first, and its `hard` next.
    assert_eq!(reader.look_up(&reader.root(), b"a").unwrap().0.number, 2);
    assert_eq!(reader.exported(3).kind, 9);
}

#[test]
fn a_sparse_file_of_five_gibibytes_keeps_its_holes() {
    if !can_unpack() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let len: u64 = (5 << 30) + 3;
    let at = dir.path().join("pack");
    let mut writer = PackWriter::create(&at, Settings::default(), 2, Arc::default()).unwrap();
    let mut content = std::io::repeat(0).take(len - 3).chain(&b"end"[..]);
    let file = writer.add(len, &mut content).unwrap();
    let packs = [writer.finish().unwrap()];
    let mut tree = Tree::new(meta(0o755));
    put_file(&mut tree, "sparse", meta(0o644), (len, C::Packed(0, file)));
    let image = image(&tree, &packs, &options(Settings::default()));
    assert!(image.len() <= 8192, "{} bytes", image.len());
    let root = unsquashed(dir.path(), &image);
    let file = fs::File::open(root.join("sparse")).unwrap();
    let found = file.metadata().unwrap();
    assert_eq!(found.len(), len);
    assert!(found.blocks() <= 256, "{} blocks", found.blocks());
    let mut tail = [9; 10];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut tail, len - 10).unwrap();
    assert_eq!(&tail, b"\0\0\0\0\0\0\0end");
}

#[test]
fn a_corrupt_pack_gives_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let contents = [noise(1, 9000), noise(2, 10), noise(3, 20)];
    let mut tree = Tree::new(meta(0o755));
    put_file(&mut tree, "big", meta(0o644), (9000, C::Packed(0, FileRef::new(0))));
    put_file(&mut tree, "small", meta(0o644), (10, C::Packed(0, FileRef::new(1))));
    // In the first and the second block of the run, and in a fragment block that is not taken over.
    for (byte, block, offset) in [(100, 0, 0), (4096, 1, 4096), (9010, 3, 9000)] {
        let packs = [packed(&dir.path().join("pack"), small_blocks(), 1, &contents)];
        let mut bytes = fs::read(packs[0].path()).unwrap();
        bytes[byte] ^= 1;
        fs::write(packs[0].path(), bytes).unwrap();
        let expected = format!(
            "copy blocks of a pack: pack {} is corrupt: block {block} at byte {offset} does not match its checksum",
            packs[0].path().display()
        );
        assert_eq!(error_text(&tree, &packs), expected);
    }
}

#[test]
fn what_squashfs_cannot_hold_is_an_error_that_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let packs = [
        packed(&dir.path().join("pack"), small_blocks(), 1, &[text(1, 9)]),
        packed(&dir.path().join("other"), Settings::new(4096, 4).unwrap(), 1, &[text(1, 9)]),
    ];
    let says = |change: &dyn Fn(&mut Tree<C>), expected: &str| {
        let mut tree = Tree::new(meta(0o755));
        put_bytes(&mut tree, "dir/file", text(1, 3));
        change(&mut tree);
        assert_eq!(error_text(&tree, &packs), expected.replace("DIR", &dir.path().display().to_string()));
    };
    let attribute = |name: &'static str, len: usize| {
        move |tree: &mut Tree<C>| {
            tree.set_meta(&path("dir/file"), |meta| {
                meta.xattrs.insert(name.as_bytes().into(), vec![0; len].into());
            });
        }
    };
    says(
        &attribute("system.posix_acl_access", 4),
        "squashfs /dir/file: extended attribute \"system.posix_acl_access\" is in none of user, trusted and security",
    );
    says(
        &attribute("user.big", 65_537),
        "squashfs /dir/file: extended attribute \"user.big\" has 65537 bytes, at most 65536 are possible",
    );
    says(
        &|tree| tree.put(&path("l"), meta(0o777), Kind::Symlink(vec![b'x'; 4096].into())).unwrap(),
        "squashfs /l: symbolic link to 4096 bytes, 1 to 4095 are possible",
    );
    says(
        &|tree| tree.put(&path("d"), meta(0o600), Kind::Char(Device { major: 4096, minor: 0 })).unwrap(),
        "squashfs /d: device 4096:0, at most 4095:1048575 is possible",
    );
    says(
        &|tree| put_file(tree, "f", meta(0o600), (8, C::Packed(0, FileRef::new(0)))),
        "squashfs file /f is 8 bytes long, but its pack DIR/pack has 9",
    );
    says(
        &|tree| put_file(tree, "f", meta(0o600), (9, C::Packed(0, FileRef::new(1)))),
        "squashfs file /f: look it up in its pack: pack DIR/pack has no file 1, it has 1",
    );
    let (found, expected) = (packs[1].index().key(), small_blocks().key());
    says(
        &|tree| put_file(tree, "f", meta(0o600), (9, C::Packed(1, FileRef::new(0)))),
        &format!("pack DIR/other was made with {found}, the image needs {expected}"),
    );
    says(
        &|tree| put_file(tree, "f", meta(0o600), (4, C::Bytes(vec![1; 5]))),
        "squashfs file /f: content of 4 bytes was announced, more came",
    );
    says(
        &|tree| {
            for n in 0..65_536 {
                tree.put(&path(&format!("n{n:06}")), Meta { uid: n, ..meta(0o700) }, Kind::Fifo).unwrap();
            }
        },
        "squashfs /n065535: no room for more user and group numbers, at most 65535 are possible",
    );
}

#[test]
fn a_content_that_changes_between_two_reads_is_an_error() {
    for len in [10, 10_000] {
        let mut tree = Tree::new(meta(0o755));
        tree.put(&path("f"), meta(0o644), Kind::File { len, content: () }).unwrap();
        let mut reads = 0;
        let source = |_: &()| {
            reads += 1;
            Ok(Source::Reader(Box::new(std::io::repeat(reads).take(len))))
        };
        let error = write(&tree, source, &mut Cursor::new(Vec::new()), &options(small_blocks())).unwrap_err();
        assert_eq!(error.to_string(), "squashfs file /f: its content changed between two reads");
    }
}

/// Mounts an image, if this kernel can.
fn mounted(image: &[u8], check: impl FnOnce(&Path) + std::panic::UnwindSafe) {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|line| line.trim_start_matches("nodev").trim() == "squashfs") {
        eprintln!("skipped: this kernel has no squashfs");
        return;
    }
    if !can_unpack() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = (dir.path().join("image"), dir.path().join("mounted"));
    fs::write(&file, image).unwrap();
    fs::create_dir(&root).unwrap();
    let mount =
        Command::new("mount").args(["-t", "squashfs", "-o", "loop,ro"]).arg(&file).arg(&root).output();
    let mount = mount.unwrap();
    if !mount.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&mount.stderr));
        return;
    }
    let checked = std::panic::catch_unwind(|| check(&root));
    assert!(Command::new("umount").arg(&root).status().unwrap().success());
    checked.unwrap();
}

#[test]
fn linux_reads_an_image_as_the_tree_it_was_made_of() {
    for settings in [small_blocks(), Settings::default()] {
        let dir = tempfile::tempdir().unwrap();
        let (tree, packs) = everything(dir.path(), settings, 2);
        mounted(&image(&tree, &packs, &options(settings)), |root| assert_same(root, &tree, &packs));
    }
}

#[test]
fn linux_finds_twenty_thousand_names() {
    mounted(&image(&crowd(), &[], &options(Settings::default())), |root| {
        for n in 0..20_000 {
            let at = root.join("big").join(crowd_name(n));
            let found = fs::symlink_metadata(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display()));
            assert_eq!(found.is_dir(), n % 3 == 1);
            if n % 300 == 0 {
                assert_eq!(fs::read(&at).unwrap(), text(u64::from(n), 40));
            }
        }
        assert!(!root.join("big/zzz").exists());
        assert_eq!(fs::read_dir(root.join("big")).unwrap().count(), 20_000);
        assert_eq!(fs::metadata(root.join("big")).unwrap().nlink(), 2 + 6_667);
    });
}
