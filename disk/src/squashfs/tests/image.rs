use super::*;
use kit_spec::tree::Device;

/// A tree with one of everything, over two packs that share contents.
fn everything(dir: &Path, settings: Settings) -> (Tree<C>, Vec<Pack>) {
    let first =
        vec![text(1, 10), text(2, 3000), text(3, 50_000), noise(4, 9000), Vec::new(), vec![0; 40_960]];
    let second = vec![text(2, 3000), text(5, 100), text(3, 50_000), text(6, 4096)];
    let packs = vec![
        packed(&dir.join("first"), settings, 2, &first),
        packed(&dir.join("second"), settings, 2, &second),
    ];
    let mut tree = Tree::new(meta(0o755));
    let mut put = |at: &str, meta, kind| tree.put(&path(at), meta, kind).unwrap();
    for (pack, contents) in [&first, &second].into_iter().enumerate() {
        for (content, file) in contents.iter().zip(0..) {
            let kind = Kind::File { len: content.len() as u64, content: C::Packed(pack, FileRef::new(file)) };
            put(&format!("packed/{pack}/file{file}"), meta(0o644), kind);
        }
    }
    for (number, bytes) in
        [text(7, 77), text(8, 30_000), text(2, 3000), Vec::new(), text(7, 77)].into_iter().enumerate()
    {
        let kind = Kind::File { len: bytes.len() as u64, content: C::Bytes(bytes) };
        put(&format!("fresh/file{number}"), Meta { uid: 1000, gid: 65_534, ..meta(0o4755) }, kind);
    }
    put("dev/null", meta(0o666), Kind::Char(Device { major: 1, minor: 3 }));
    put("dev/far", Meta { uid: 7, ..meta(0o600) }, Kind::Block(Device { major: 4095, minor: 1_048_575 }));
    put("dev/fifo", meta(0o600), Kind::Fifo);
    put("dev/socket", meta(0o700), Kind::Socket);
    put("link", meta(0o777), Kind::Symlink(b"packed/0/file0"[..].into()));
    put("empty", Meta { mtime: -5, ..meta(0o1777) }, Kind::Dir);
    put("late", Meta { mtime: 1 << 40, ..meta(0o700) }, Kind::Dir);
    tree.link(&path("a/hard"), &path("packed/0/file2")).unwrap();
    tree.link(&path("z/hard"), &path("packed/0/file2")).unwrap();
    tree.link(&path("dev/null2"), &path("dev/null")).unwrap();
    tree.link(&path("link2"), &path("link")).unwrap();
    let attributes = [
        (
            "packed/0/file0",
            "security.capability",
            vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
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
    (tree, packs)
}

#[test]
fn an_image_unpacks_to_its_tree() {
    if !can_unpack() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, packs) = everything(dir.path(), small_blocks());
    let image = image(&tree, &packs, &options(small_blocks()));
    assert_same(&unsquashed(dir.path(), &image), &tree, &packs);
}
