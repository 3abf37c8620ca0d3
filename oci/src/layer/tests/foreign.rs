//! A directory that other programs pack, read by us, is the same directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use super::*;

/// Runs a program on some input; none, with a word about it, if it is not installed.
pub(super) fn filter(program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(args);
    output(&mut command, input)
}

fn output(command: &mut Command, input: &[u8]) -> Option<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: {program}: {error}");
            return None;
        }
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("a child that was started")
    });
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

fn at(seconds: i64, nanos: u32) -> FileTimes {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    FileTimes::new().set_modified(time + Duration::from_nanos(nanos.into()))
}

fn write(path: &Path, content: &[u8], seconds: i64, nanos: u32) {
    fs::write(path, content).unwrap();
    File::options().write(true).open(path).unwrap().set_times(at(seconds, nanos)).unwrap();
}

/// What every format can hold.
fn plain(dir: &Path) {
    fs::create_dir_all(dir.join("d/sub")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    write(&dir.join("d/a"), b"some\ntext\n", 1_500_000_000, 0);
    write(&dir.join("d/sub/block"), &[7; 512], 1, 0);
    write(&dir.join("d/sub/none"), b"", 1_600_000_000, 900_000_000);
    write(&dir.join("n\u{e4}me with = and %"), &vec![b'x'; 100_000], 1_700_000_000, 5);
    write(&dir.join("x".repeat(97)), b"long enough", 1_700_000_000, 0);
    fs::hard_link(dir.join("d/a"), dir.join("d/sub/linked")).unwrap();
    symlink("../outside", dir.join("soft")).unwrap();
    fs::set_permissions(dir.join("d/a"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(dir.join("empty"), Permissions::from_mode(0o1777)).unwrap();
}

/// What only PAX and, but for attributes, GNU archives hold.
fn rich(dir: &Path) {
    plain(dir);
    let deep = dir.join("p".repeat(200)).join("q".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    write(&deep.join("r".repeat(255)), b"far down", -86_400, 0);
    fs::hard_link(deep.join("r".repeat(255)), deep.join("linked")).unwrap();
    symlink("t".repeat(300), deep.join("soft")).unwrap();
    write(&dir.join(OsStr::from_bytes(b"no \xff utf-8\n")), b"", 1_700_000_000, 0);
    let chown = std::os::unix::fs::chown(dir.join("d/sub/none"), Some(3_000_000), Some(4_000_000_000));
    let node = rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("null"),
        rustix::fs::FileType::CharacterDevice,
        0o600.into(),
        rustix::fs::makedev(1, 3),
    );
    if chown.is_err() || node.is_err() {
        println!("skipped: large owners and devices need root");
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("pipe"), 0o640.into()).unwrap();
}

/// Gives two files attributes; false if this file system has none.
fn attributes(dir: &Path) -> bool {
    let flags = rustix::fs::XattrFlags::empty();
    let first = rustix::fs::setxattr(dir.join("d/a"), c"user.plain", b"value", flags);
    let second = rustix::fs::setxattr(dir.join("d/a"), c"user.a b=%", b"=\n\0\xff", flags);
    let third = rustix::fs::setxattr(dir.join("empty"), c"user.on.a.directory", b"yes", flags);
    let done = first.and(second).and(third);
    if let Err(error) = done {
        println!("skipped: extended attributes on this file system: {error}");
    }
    done.is_ok()
}

type Listing = BTreeMap<TreePath, (Meta, Kind<Vec<u8>>, u32)>;

fn listing_of_dir(dir: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(at) = pending.pop() {
        let found = fs::symlink_metadata(&at).unwrap();
        let kind = match found.file_type() {
            kind if kind.is_dir() => {
                pending.extend(fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
                Kind::Dir
            }
            kind if kind.is_symlink() => {
                Kind::Symlink(fs::read_link(&at).unwrap().as_os_str().as_bytes().into())
            }
            kind if kind.is_fifo() => Kind::Fifo,
            kind if kind.is_char_device() => Kind::Char(Device { major: 1, minor: 3 }),
            _ => file(&fs::read(&at).unwrap()),
        };
        let links = if kind == Kind::Dir { 1 } else { found.nlink() as u32 };
        let meta = Meta {
            mode: (found.mode() & 0o7777) as u16,
            uid: found.uid(),
            gid: found.gid(),
            mtime: found.mtime(),
            xattrs: Xattrs::new(),
        };
        let path = at.strip_prefix(dir).unwrap().as_os_str().as_bytes();
        listing.insert(TreePath::parse(path).unwrap(), (meta, kind, links));
    }
    listing
}

fn listing_of(bytes: &[u8]) -> Listing {
    let mut tree = Tree::new(Meta::default());
    apply(&mut tree, read(bytes).unwrap_or_else(|error| panic!("{}", told(Err::<(), _>(error))))).unwrap();
    tree.walk()
        .map(|(path, _, inode)| (path, (inode.meta.clone(), inode.kind().clone(), inode.links())))
        .collect()
}

fn compare(maker: &str, dir: &Path, bytes: &[u8]) {
    let want = listing_of_dir(dir);
    let mut found = listing_of(bytes);
    found.values_mut().for_each(|(meta, _, _)| meta.xattrs.clear());
    for (path, want) in &want {
        let found = found.get(path).unwrap_or_else(|| panic!("{maker}: {path} is missing"));
        assert!(found == want, "{maker}: {path}: {:?} instead of {:?}", summary(found), summary(want));
    }
    assert_eq!(found.len(), want.len(), "{maker}");
}

fn summary((meta, kind, links): &(Meta, Kind<Vec<u8>>, u32)) -> String {
    let kind = match kind {
        Kind::File { len, .. } => format!("file of {len}"),
        other => format!("{other:?}"),
    };
    format!("{meta:?} {kind}, {links} links")
}

/// Go rounds times to the nearest second when it is not asked for a format.
fn whole_seconds(dir: &Path) {
    for (path, (meta, _, _)) in listing_of_dir(dir) {
        let whole = rustix::fs::Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: whole, last_modification: whole };
        let path = dir.join(OsStr::from_bytes(path.as_bytes()));
        let not_followed = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, not_followed).unwrap();
    }
}

fn pack(dir: &Path, program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    output(Command::new(program).args(args).current_dir(dir).env("LC_ALL", "C.UTF-8"), input)
}

const PYTHON: &str = "import sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=getattr(tarfile, sys.argv[1] + '_FORMAT')) as tar:
    tar.add('.')";

/// Packs a directory with everything that makes tar archives; `rich` only with what can hold it.
fn makers(dir: &Path, rich: bool, check: &dyn Fn(&str, &[u8])) {
    let tar = |format: &str| vec![format!("--format={format}"), "-cf".into(), "-".into(), ".".into()];
    let mut runs: Vec<(&str, Vec<String>)> = Vec::new();
    let formats: &[&str] =
        if rich { &["gnu", "oldgnu", "pax"] } else { &["v7", "ustar", "gnu", "oldgnu", "pax"] };
    runs.extend(formats.iter().map(|format| ("tar", tar(format))));
    let formats: &[&str] = if rich { &["pax"] } else { &["pax", "ustar", "gnutar"] };
    runs.extend(formats.iter().map(|format| ("bsdtar", tar(format))));
    let formats: &[&str] = if rich { &["PAX"] } else { &["PAX", "GNU", "USTAR"] };
    runs.extend(formats.iter().map(|format| ("python3", vec!["-c".into(), PYTHON.into(), (*format).into()])));
    if !rich {
        runs.push(("busybox", vec!["tar".into(), "-cf".into(), "-".into(), ".".into()]));
    }
    for (program, args) in runs {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        if let Some(bytes) = pack(dir, program, &args, b"") {
            check(&format!("{program} {}", args.join(" ")), &bytes);
        }
    }
}

#[test]
fn a_plain_directory_packed_by_others_is_read_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    plain(dir.path());
    makers(dir.path(), false, &|maker, bytes| compare(maker, dir.path(), bytes));
    let names: Vec<u8> = listing_of_dir(dir.path())
        .keys()
        .flat_map(|path| [b"./".as_slice(), path.as_bytes(), b"\0"].concat())
        .collect();
    if let Some(bytes) = pack(dir.path(), "cpio", &["-o", "-0", "-H", "ustar", "--quiet"], &names) {
        compare("cpio", dir.path(), &bytes);
    }
}

#[test]
fn a_directory_of_long_names_and_large_numbers_packed_by_others_is_read_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    rich(dir.path());
    makers(dir.path(), true, &|maker, bytes| compare(maker, dir.path(), bytes));
}

#[test]
fn extended_attributes_packed_by_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    plain(dir.path());
    if !attributes(dir.path()) {
        return;
    }
    for (program, args) in [("tar", ["--xattrs", "-cf", "-", "."]), ("bsdtar", ["--xattrs", "-cf", "-", "."])]
    {
        let args: Vec<&str> = if program == "bsdtar" {
            ["--format=pax"].into_iter().chain(args).collect()
        } else {
            ["--format=posix"].into_iter().chain(args).collect()
        };
        let Some(bytes) = pack(dir.path(), program, &args, b"") else { continue };
        let listing = listing_of(&bytes);
        let xattr = |at: &str, name: &str| {
            listing[&path(at)].0.xattrs.get(name.as_bytes()).map(|value| value.to_vec())
        };
        assert_eq!(xattr("d/a", "user.plain").as_deref(), Some(b"value".as_slice()), "{program}");
        assert_eq!(xattr("empty", "user.on.a.directory").as_deref(), Some(b"yes".as_slice()), "{program}");
        assert_eq!(xattr("d/a", "user.a b=%").as_deref(), Some(b"=\n\0\xff".as_slice()), "{program}");
    }
}

#[test]
fn sparse_files_packed_by_others_are_read_with_their_holes() {
    let dir = tempfile::tempdir().unwrap();
    let holes = File::create(dir.path().join("holes")).unwrap();
    for n in 0..60u64 {
        std::os::unix::fs::FileExt::write_all_at(&holes, &[n as u8; 4096], n * 65536 + 8192).unwrap();
    }
    holes.set_len(8 << 20).unwrap();
    let empty = File::create(dir.path().join("only a hole")).unwrap();
    empty.set_len(1 << 20).unwrap();
    write(&dir.path().join("z"), b"after", 1, 0);
    for (program, args) in [
        ("tar", vec!["--format=gnu"]),
        ("tar", vec!["--format=pax", "--sparse-version=0.0"]),
        ("tar", vec!["--format=pax", "--sparse-version=0.1"]),
        ("tar", vec!["--format=pax", "--sparse-version=1.0"]),
        ("bsdtar", vec!["--format=pax", "--read-sparse"]),
    ] {
        let more: &[&str] = if program == "tar" { &["-S", "-cf", "-", "."] } else { &["-cf", "-", "."] };
        let args: Vec<&str> = args.into_iter().chain(more.iter().copied()).collect();
        let Some(bytes) = pack(dir.path(), program, &args, b"") else { continue };
        if bytes.len() > 4 << 20 {
            println!("skipped: {program} {args:?} found no holes on this file system");
        }
        compare(&format!("{program} {args:?}"), dir.path(), &bytes);
    }
}

const GO: &str = r#"package main

import ("archive/tar"; "io"; "io/fs"; "os"; "path/filepath"; "time")

func main() {
	formats := map[string]tar.Format{"any": 0, "pax": tar.FormatPAX, "gnu": tar.FormatGNU}
	out := tar.NewWriter(os.Stdout)
	check := func(err error) { if err != nil { panic(err) } }
	check(filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		check(err)
		info, err := os.Lstat(path)
		check(err)
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 { link, err = os.Readlink(path); check(err) }
		header, err := tar.FileInfoHeader(info, link)
		check(err)
		header.Name = path
		if info.IsDir() { header.Name += "/" }
		header.Format = formats[os.Args[1]]
		header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
		check(out.WriteHeader(header))
		if info.Mode().IsRegular() {
			file, err := os.Open(path)
			check(err)
			defer file.Close()
			_, err = io.Copy(out, file)
			check(err)
		}
		return nil
	}))
	check(out.Close())
}
"#;

#[test]
fn a_directory_packed_by_go_is_read_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    plain(&tree);
    fs::remove_file(tree.join("d/sub/linked")).unwrap();
    fs::write(dir.path().join("pack.go"), GO).unwrap();
    let packer = dir.path().join("pack");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&packer).arg("pack.go").current_dir(dir.path());
    build.env("GO111MODULE", "off");
    if std::env::var_os("HOME").is_none() {
        build.env("GOCACHE", dir.path().join("cache"));
    }
    if output(&mut build, b"").is_none() {
        return;
    }
    whole_seconds(&tree);
    for format in ["any", "pax", "gnu"] {
        let bytes =
            output(Command::new(&packer).arg(format).current_dir(&tree), b"").expect("it was just built");
        compare(&format!("go {format}"), &tree, &bytes);
    }
}
