use kit_spec::tree::{Kind, Meta, Tree, TreePath};

use super::super::root::{ResolvConf, furnish};

const MTIME: i64 = 1000;

fn path(raw: &str) -> TreePath {
    raw.parse().expect("a clean path")
}

fn furnished(files: &[(&str, Kind<&'static [u8]>)], resolv_conf: ResolvConf) -> Tree<&'static [u8]> {
    let mut tree = Tree::new(Meta::root_owned(0o755, 1));
    for (at, kind) in files {
        tree.put(&path(at), Meta { uid: 5, ..Meta::root_owned(0o700, 1) }, kind.clone()).unwrap();
    }
    furnish(&mut tree, resolv_conf, MTIME, |bytes| bytes).unwrap();
    tree
}

fn file(bytes: &'static [u8]) -> Kind<&'static [u8]> {
    Kind::File { len: bytes.len() as u64, content: bytes }
}

fn listing(tree: &Tree<&'static [u8]>) -> Vec<String> {
    tree.walk()
        .skip(1)
        .map(|(path, _, inode)| match inode.kind() {
            Kind::File { content, .. } => {
                format!("{path}={}", content.split(|b| *b == b'\n').next().unwrap().escape_ascii())
            }
            Kind::Symlink(target) => format!("{path}->{}", target.escape_ascii()),
            _ => path.to_string(),
        })
        .collect()
}

#[test]
fn an_empty_image_gets_what_every_root_holds() {
    let tree = furnished(&[], ResolvConf::Empty);
    assert_eq!(
        listing(&tree),
        [
            "/dev",
            "/dev/pts",
            "/dev/shm",
            "/etc",
            r"/etc/hosts=127.0.0.1\tlocalhost",
            "/etc/mtab->/proc/mounts",
            "/etc/resolv.conf=# No name server is configured.",
            "/proc",
            "/sys",
        ]
    );
    for (at, _, inode) in tree.walk().skip(1) {
        assert_eq!((inode.meta.uid, inode.meta.mtime), (0, MTIME), "{at}");
    }
}

#[test]
fn what_builders_leave_behind_is_taken_away_or_replaced() {
    let left = [
        (".dockerenv", file(b"")),
        ("Dockerfile", file(b"FROM scratch")),
        ("dev/console", file(b"")),
        ("dev/pts", file(b"")),
        ("etc/hostname", file(b"buildkitsandbox")),
        ("etc/hosts", file(b"10.0.0.1 builder")),
        ("etc/resolv.conf", Kind::Symlink(b"../run/systemd/resolve/stub-resolv.conf".as_slice().into())),
        ("etc/mtab", file(b"mine")),
        ("usr/bin/app", file(b"app")),
    ];
    let tree = furnished(&left, ResolvConf::Link);
    assert_eq!(
        listing(&tree),
        [
            "/dev",
            "/dev/pts",
            "/dev/shm",
            "/etc",
            r"/etc/hosts=127.0.0.1\tlocalhost",
            "/etc/mtab=mine",
            "/etc/resolv.conf->/run/resolvconf/resolv.conf",
            "/proc",
            "/sys",
            "/usr",
            "/usr/bin",
            "/usr/bin/app=app",
        ]
    );
    assert_eq!(tree.get(&path("etc/hosts")).unwrap().meta, Meta::root_owned(0o644, MTIME));
    assert_eq!(tree.get(&path("usr/bin/app")).unwrap().meta.mtime, 1);
}

#[test]
fn directories_of_the_image_keep_their_modes_and_what_they_hold() {
    let tree = furnished(&[("proc", Kind::Dir), ("dev/shm/kept", file(b"x"))], ResolvConf::Empty);
    let proc = &tree.get(&path("proc")).unwrap().meta;
    assert_eq!((proc.mode, proc.uid, proc.mtime), (0o700, 5, MTIME));
    assert!(tree.get(&path("dev/shm/kept")).is_some());
}

#[test]
fn a_file_in_place_of_etc_gives_way() {
    let tree = furnished(
        &[("etc", file(b"?")), ("dev", Kind::Symlink(b"/nowhere".as_slice().into()))],
        ResolvConf::Empty,
    );
    assert!(tree.get(&path("etc")).unwrap().is_dir() && tree.get(&path("dev/pts")).unwrap().is_dir());
}
