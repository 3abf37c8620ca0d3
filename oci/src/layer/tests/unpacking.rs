//! Layers onto a disk: what is there afterwards, and that nothing else is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::digest::{self, Verifying};
use crate::layer::unpack::{Marks, Options as How, Unpacked, discard, sweep, unpack};

mod hostile;

/// True, and said so, if this test cannot be run.
fn is_not_root() -> bool {
    let not = !rustix::process::geteuid().is_root();
    if not {
        println!("skipped: owners, devices and trusted attributes need root");
    }
    not
}

/// A directory with a layer in it, and what lies beside.
struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Ground(TempDir::new().expect("a directory"));
        fs::create_dir(ground.0.path().join("layers")).expect("a directory");
        fs::write(ground.0.path().join("canary"), "alive").expect("written");
        ground
    }

    fn layers(&self) -> PathBuf {
        self.0.path().join("layers")
    }

    fn to(&self) -> PathBuf {
        self.layers().join("one")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.to().join(path)
    }

    /// Unpacks an archive under its right digests.
    fn unpack(&self, archive: &[u8], how: &How) -> Result<Unpacked, String> {
        let blob = gzip(archive);
        let stream = Verifying::new(Cursor::new(blob.clone()), digest::of(&blob), None).expect("sha256");
        unpack(stream, &digest::of(archive), &self.to(), how).map_err(|error| chain(&error))
    }

    fn members(&self, members: &[Member]) -> Result<Unpacked, String> {
        self.unpack(&archive(Format::Pax, members), &How::default())
    }

    /// Why a layer is refused; that nothing is left of it, and nothing else was touched.
    fn refused(&self, members: &[Member]) -> String {
        let why = self.members(members).expect_err("this layer is not to be unpacked");
        self.is_untouched();
        why
    }

    fn is_untouched(&self) {
        assert_eq!(names(&self.layers()), [""; 0], "nothing is left of a layer that is refused");
        assert_eq!(names(self.0.path()), ["canary", "layers"]);
        assert_eq!(fs::read_to_string(self.0.path().join("canary")).expect("read"), "alive");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// An error with its causes, without the diff ID.
fn chain(error: &dyn std::error::Error) -> String {
    let mut told = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        told.push(error.to_string());
        next = error.source();
    }
    assert!(error.to_string().starts_with("unpack the layer sha256:"), "{error}");
    told.join(": ")
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

#[test]
fn all_that_a_layer_says_of_an_entry_is_on_the_disk() {
    if is_not_root() {
        return;
    }
    const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let ground = Ground::new();
    let members = [
        Member { mode: 0o711, mtime: 5, ..Member::dir("./") },
        Member { mode: 0o3755, uid: 7, gid: 8, mtime: 1000, ..Member::dir("d") }
            .record("SCHILY.xattr.user.a", "b"),
        Member { mode: 0o4755, uid: 1 << 20, gid: 9, mtime: 2000, ..Member::file("d/suid", "program") }
            .record("SCHILY.xattr.security.capability", CAPABILITY)
            .record("SCHILY.xattr.user.é", "x"),
        Member::link(b'1', "d/second", "./d/suid"),
        Member { uid: 3, gid: 4, mtime: 3000, ..Member::link(b'2', "d/link", "/etc/passwd") },
        Member { mode: 0o620, gid: 5, mtime: 4000, device: (1, 3), ..Member::new(b'3', "d/null") },
        Member { mode: 0o2660, mtime: 4000, device: (7, 300), ..Member::new(b'4', "d/loop") },
        Member { mode: 0o600, mtime: -9, ..Member::new(b'6', "d/pipe") },
        Member::file("implied/parents/file", "x"),
    ];
    let unpacked = ground.members(&members).expect("a good layer");
    assert_eq!((unpacked.entries, unpacked.bytes, unpacked.lost_xattrs), (9, 8, 0));

    let told = |path: &str| {
        let meta = fs::symlink_metadata(ground.at(path)).expect("it is there");
        format!("{:o} {} {} {} {:?}", meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.file_type())
    };
    let told: Vec<String> =
        ["", "d", "d/suid", "d/link", "d/null", "d/loop", "d/pipe", "implied", "implied/parents"]
            .into_iter()
            .map(|path| told(path).split(" FileType").next().unwrap_or_default().to_owned())
            .collect();
    let want = [
        "40711 0 0 5",
        "43755 7 8 1000",
        "104755 1048576 9 2000",
        "120777 3 4 3000",
        "20620 0 5 4000",
        "62660 0 0 4000",
        "10600 0 0 -9",
        "40755 0 0 0",
        "40755 0 0 0",
    ];
    assert_eq!(told, want);
    assert_eq!(fs::read(ground.at("d/second")).unwrap(), b"program");
    assert_eq!(fs::metadata(ground.at("d/second")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(ground.at("d/link")).unwrap(), Path::new("/etc/passwd"));
    let rdev = |path: &str| fs::metadata(ground.at(path)).unwrap().rdev();
    assert_eq!(rdev("d/null"), rustix::fs::makedev(1, 3));
    assert_eq!(rdev("d/loop"), rustix::fs::makedev(7, 300));
    assert_eq!(xattr(&ground.at("d"), "user.a").as_deref(), Some(&b"b"[..]));
    assert_eq!(xattr(&ground.at("d/suid"), "user.é").as_deref(), Some(&b"x"[..]));
    assert_eq!(xattr(&ground.at("d/suid"), "security.capability").as_deref(), Some(CAPABILITY));
    assert_eq!(names(&ground.layers()), ["one"], "nothing unfinished is left");
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier_one() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let members = [
        Member::dir("a"),
        Member::dir("a/deep"),
        Member::file("a/deep/file", "1"),
        Member::file("a", "a file for a directory"),
        Member::link(b'2', "b", "a"),
        Member { mode: 0o700, ..Member::dir("b") },
        Member::file("b/in", "not through the link"),
        Member::file("c", "one"),
        Member::file("c", "two"),
        Member { mode: 0o500, mtime: 1, ..Member::dir("b") },
    ];
    ground.members(&members).expect("a good layer");
    assert_eq!(fs::read_to_string(ground.at("a")).unwrap(), "a file for a directory");
    assert_eq!(fs::read_to_string(ground.at("b/in")).unwrap(), "not through the link");
    assert_eq!(fs::read_to_string(ground.at("c")).unwrap(), "two");
    let b = fs::metadata(ground.at("b")).unwrap();
    assert_eq!((b.mode(), b.mtime()), (0o40500, 1));
}

#[test]
fn holes_stay_holes() {
    let ground = Ground::new();
    let mut map = format!("2\n0\n3\n{}\n3\n", 64 << 20).into_bytes();
    map.resize(512, 0);
    map.extend(b"onetwo");
    let sparse = |name: &str, len: u64| {
        Member::file("GNUSparseFile.0/x", &map)
            .record("GNU.sparse.major", "1")
            .record("GNU.sparse.minor", "0")
            .record("GNU.sparse.name", name)
            .record("GNU.sparse.realsize", len.to_string())
    };
    let members = [sparse("ends", (64 << 20) + 3), sparse("goes-on", 1 << 30)];
    if is_not_root() {
        return;
    }
    let unpacked = ground.members(&members).expect("a good layer");
    assert_eq!(unpacked.bytes, (64 << 20) + 3 + (1 << 30));
    for (name, len) in [("ends", (64 << 20) + 3), ("goes-on", 1 << 30)] {
        let meta = fs::metadata(ground.at(name)).unwrap();
        assert_eq!(meta.len(), len);
        assert!(meta.blocks() < 1000, "{name} takes {} blocks", meta.blocks());
    }
    let bytes = fs::read(ground.at("ends")).unwrap();
    assert_eq!((&bytes[..4], &bytes[(64 << 20) - 1..]), (&b"one\0"[..], &b"\0two"[..]));
}

#[test]
fn what_hides_lower_layers_is_written_as_overlayfs_reads_it() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let members = [
        Member::file("etc/.wh.gone", ""),
        // A whiteout hides nothing of its own layer, wherever it stands.
        Member::file("etc/.wh.file", ""),
        Member::file("etc/file", "new"),
        Member::dir("etc/dir"),
        Member::file("etc/dir/new", ""),
        Member::file("etc/.wh.dir", ""),
        Member { mode: 0o1777, ..Member::dir("tmp") },
        Member::file("tmp/.wh..wh..opq", ""),
        Member::file("unnamed/.wh..wh..opq", ""),
        // Nothing of a lower layer shows below these.
        Member::file("was-dir", ""),
        Member::file("was-dir/.wh.in-it", ""),
        Member::link(b'2', "was-dir-too", "/etc"),
        Member::file("was-dir-too/.wh.passwd", ""),
        Member::file("a/.wh.b", ""),
        Member::file("a/b/.wh.c", ""),
    ];
    ground.members(&members).expect("a good layer");
    assert!(is_whiteout(&ground.at("etc/gone")));
    assert_eq!(fs::read_to_string(ground.at("etc/file")).unwrap(), "new");
    let opaque =
        |path: &str| xattr(&ground.at(path), "trusted.overlay.opaque").is_some_and(|value| value == b"y");
    assert!(opaque("etc/dir") && ground.at("etc/dir/new").exists());
    assert!(opaque("tmp") && opaque("unnamed") && !opaque("etc"));
    assert_eq!(fs::metadata(ground.at("tmp")).unwrap().mode(), 0o41777);
    assert!(ground.at("was-dir").is_file());
    assert_eq!(names(&ground.to()), ["a", "etc", "tmp", "unnamed", "was-dir", "was-dir-too"]);
    assert!(is_whiteout(&ground.at("a/b")));
    assert_eq!(names(&ground.at("etc")), ["dir", "file", "gone"]);
}

#[test]
fn marks_for_a_user_namespace_are_of_the_user() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let members = [Member::file("d/.wh..wh..opq", "")];
    let how = How { marks: Marks::User, ..How::default() };
    ground.unpack(&archive(Format::Pax, &members), &how).expect("a good layer");
    assert_eq!(xattr(&ground.at("d"), "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
    assert_eq!(xattr(&ground.at("d"), "trusted.overlay.opaque"), None);
}

#[test]
fn a_layer_with_a_wrong_digest_is_not_kept() {
    let ground = Ground::new();
    let bytes = archive(Format::Pax, &[Member::dir("d")]);
    let other = digest::of(b"something else");
    for (blob, diff_id) in [(&digest::of(&bytes), &other), (&other, &digest::of(&bytes))] {
        let stream = Verifying::new(Cursor::new(bytes.clone()), blob.clone(), None).expect("sha256");
        let why = unpack(stream, diff_id, &ground.to(), &How::default()).map_err(|error| chain(&error));
        let why = why.expect_err("a digest is wrong");
        assert!(why.contains(&format!("blob {other}")), "{why}");
        ground.is_untouched();
    }
}

#[test]
fn two_that_unpack_the_same_layer_leave_one() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let members: Vec<Member> = (0..200).map(|n| Member::file(format!("{n}"), vec![1; 1000])).collect();
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| ground.members(&members))).collect();
        for one in both {
            assert_eq!(one.join().expect("no panic").expect("a good layer").entries, 200);
        }
    });
    assert_eq!(names(&ground.layers()), ["one"]);
    assert_eq!(names(&ground.to()).len(), 200);
}

#[test]
fn what_a_dead_process_left_is_swept_and_what_a_live_one_is_at_is_not() {
    let ground = Ground::new();
    let dead = ground.layers().join(".part-1-1");
    let live = ground.layers().join(".part-1-2");
    let whole = ground.layers().join("whole");
    for dir in [&dead, &live, &whole] {
        fs::create_dir_all(dir.join("some/thing")).expect("a directory");
    }
    let lock = fs::File::open(&live).expect("opened");
    lock.lock().expect("locked");
    assert_eq!(sweep(&ground.layers()).expect("swept"), 1);
    assert_eq!(names(&ground.layers()), [".part-1-2", "whole"]);
    drop(lock);
    assert_eq!(sweep(&ground.layers()).expect("swept"), 1);
    assert_eq!(names(&ground.layers()), ["whole"]);
}

/// Every path with what is there: type, mode, content or target; files with several names by the first of them.
type Listing = BTreeMap<Vec<u8>, String>;

fn listing(root: &Path) -> Listing {
    let mut found = Listing::new();
    let mut first: BTreeMap<u64, String> = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(at) = open.pop() {
        let path = root.join(&at);
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let shown = at.to_string_lossy().into_owned();
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory");
            let mut below: Vec<_> =
                entries.map(|entry| at.join(entry.expect("an entry").file_name())).collect();
            below.sort();
            open.extend(below.into_iter().rev());
            "dir".to_owned()
        } else if kind.is_symlink() {
            format!("link {}", fs::read_link(&path).expect("a link").display())
        } else {
            let content = fs::read(&path).expect("a file");
            let name = first.entry(meta.ino()).or_insert_with(|| shown.clone());
            format!("file {:?} = {name}", String::from_utf8_lossy(&content))
        };
        let (mode, uid, mtime) = (meta.mode() & 0o7777, meta.uid(), meta.mtime());
        let mode = if kind.is_symlink() { 0o644 } else { mode };
        found.insert(at.as_os_str().as_bytes().to_vec(), format!("{mode:o} {uid} {mtime} {what}"));
    }
    found
}

fn tree_listing(tree: &Tree<Vec<u8>>) -> Listing {
    let mut first = BTreeMap::new();
    tree.walk()
        .map(|(path, id, inode)| {
            let shown = String::from_utf8_lossy(path.as_bytes()).into_owned();
            let what = match inode.kind() {
                Kind::Dir => "dir".to_owned(),
                Kind::Symlink(target) => format!("link {}", String::from_utf8_lossy(target)),
                Kind::File { content, .. } => {
                    let name = first.entry(id).or_insert_with(|| shown.clone());
                    format!("file {:?} = {name}", String::from_utf8_lossy(content))
                }
                other => format!("{other:?}"),
            };
            let Meta { mode, uid, mtime, .. } = inode.meta;
            (path.as_bytes().to_vec(), format!("{mode:o} {uid} {mtime} {what}"))
        })
        .collect()
}

/// Few names, so that entries meet.
fn colliding() -> impl Strategy<Value = Vec<Member>> {
    let path = || {
        let names = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
        names.prop_map(|names| names.join("/"))
    };
    let target =
        prop_oneof![path(), Just("..".to_owned()), Just("/".to_owned()), Just("../../canary".to_owned())];
    let member = (0..4, path(), target, path(), 0u64..3).prop_map(|(kind, name, target, other, uid)| {
        let member = match kind {
            0 => Member { mode: 0o755, ..Member::dir(name) },
            1 => Member::file(&name, format!("of {name} {uid}")),
            2 => Member::link(b'2', name, target),
            _ => return Member::link(b'1', name, other),
        };
        Member { uid, ..member }
    });
    prop::collection::vec(member, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_directory_holds_what_a_tree_holds_or_nothing(members in colliding()) {
        if is_not_root() {
            return Ok(());
        }
        let ground = Ground::new();
        let bytes = archive(Format::Pax, &members);
        match ground.unpack(&bytes, &How::default()) {
            Ok(_) => {
                let mut tree = Tree::new(Meta::root_owned(0o755, 0));
                let layer = Layer::open(&bytes[..], None).unwrap();
                fold(layer, &mut tree, |_, _, content| {
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes).map(|_| bytes)
                }).unwrap();
                prop_assert_eq!(listing(&ground.to()), tree_listing(&tree));
                prop_assert_eq!(names(&ground.layers()), ["one"]);
                prop_assert_eq!(fs::read_to_string(ground.0.path().join("canary")).unwrap(), "alive");
            }
            Err(_) => ground.is_untouched(),
        }
    }
}

#[test]
fn a_directory_of_this_machine_comes_out_as_tar_unpacks_it() {
    if is_not_root() {
        return;
    }
    let ground = Ground::new();
    let Some(bytes) =
        foreign::filter("tar", &["-cf", "-", "-C", "/", "--xattrs", "--format=pax", "usr/sbin", "etc"], b"")
    else {
        return;
    };
    ground.unpack(&bytes, &How::default()).expect("tar's archive is a good layer");
    let theirs = ground.0.path().join("theirs");
    fs::create_dir(&theirs).expect("a directory");
    let to = theirs.to_str().expect("a name in UTF-8");
    let args = ["-xf", "-", "-p", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", to];
    foreign::filter("tar", &args, &bytes).expect("tar was there before");
    let mut want = listing(&theirs);
    let mut have = listing(&ground.to());
    // Times of what the archive does not name are the day's.
    for listing in [&mut want, &mut have] {
        listing.retain(|path, _| path.starts_with(b"usr/sbin") || path.starts_with(b"etc"));
    }
    assert!(have.len() > 100, "{} entries", have.len());
    assert_eq!(have, want);
}

#[test]
fn trees_of_any_depth_and_mode_are_discarded() {
    let ground = Ground::new();
    let root = fs::File::open(ground.layers()).expect("opened");
    let mut at = rustix::io::dup(&root).expect("a descriptor");
    let name = "n".repeat(200);
    for depth in 0..3000 {
        rustix::fs::mkdirat(&at, name.as_str(), rustix::fs::Mode::RWXU).expect("a directory");
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY;
        let below = rustix::fs::openat(&at, name.as_str(), flags, rustix::fs::Mode::empty()).expect("opened");
        if depth % 100 == 0 {
            rustix::fs::mkdirat(&at, "moved-3", rustix::fs::Mode::RWXU).expect("a directory");
            rustix::fs::symlinkat("../../canary", &at, "link").expect("a link");
            rustix::fs::mkdirat(&below, "also", rustix::fs::Mode::empty()).expect("a directory");
        }
        at = below;
    }
    discard(&root, name.as_str()).expect("removed");
    discard(&root, name.as_str()).expect("nothing there is fine");
    for rest in ["moved-3", "link"] {
        discard(&root, rest).expect("removed");
    }
    ground.is_untouched();
}

/// Runs the test of that name again where `script` has made `$0` what it wants, which is a mount of its own.
fn within_a_mount(test: &str, script: &str, dir: &Path) -> bool {
    let this = std::env::current_exe().expect("this program");
    let run = format!("{script} && exec \"$1\" --exact \"$2\" --nocapture");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &run])
        .arg(dir)
        .arg(this)
        .arg(test)
        .env("KIT_TEST_DIR", dir)
        .output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => {
            println!("skipped: unshare: {error}");
            false
        }
    }
}
