//! Images are judged by squashfs-tools, packs by what they give back.

mod image;
mod pack;
mod property;
mod reader;

use super::pack::{Donors, FileRef, Pack, PackWriter};
use super::{Options, Settings, Source, Summary, WriteError, block, write};
use kit_spec::tree::{Inode, InodeId, Kind, Meta, Tree, TreePath};
use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A content of a test's tree.
#[derive(Clone, Debug)]
enum C {
    Packed(usize, FileRef),
    Bytes(Vec<u8>),
}

const EPOCH: u32 = 1_700_000_000;

fn small_blocks() -> Settings {
    Settings::new(4096, 3).unwrap()
}

fn options(settings: Settings) -> Options {
    Options { settings, epoch: EPOCH, threads: 2 }
}

/// Bytes that compress somewhat, other ones for each seed.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(format!("{:x} ", state % 4099).as_bytes());
    }
    out.truncate(len);
    out
}

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn path(raw: &str) -> TreePath {
    TreePath::parse(raw).unwrap()
}

fn meta(mode: u16) -> Meta {
    Meta::root_owned(mode, 1_600_000_000)
}

/// A pack of these contents, in this order.
fn packed(at: &Path, settings: Settings, threads: usize, contents: &[Vec<u8>]) -> Pack {
    let mut writer = PackWriter::create(at, settings, threads, Arc::default()).unwrap();
    for (content, number) in contents.iter().zip(0..) {
        assert_eq!(writer.add(content.len() as u64, &mut &content[..]).unwrap(), FileRef::new(number));
    }
    writer.finish().unwrap()
}

fn unpacked(pack: &Pack, file: u32) -> Vec<u8> {
    let mut out = Vec::new();
    pack.reader(FileRef::new(file)).unwrap().read_to_end(&mut out).unwrap();
    out
}

fn try_image(tree: &Tree<C>, packs: &[Pack], options: &Options) -> Result<(Vec<u8>, Summary), WriteError> {
    let mut out = Cursor::new(Vec::new());
    let source = |content| {
        Ok(match content {
            &C::Packed(pack, file) => Source::Packed { pack: &packs[pack], file },
            C::Bytes(bytes) => Source::Reader(Box::new(&bytes[..])),
        })
    };
    let summary = write(tree, source, &mut out, options)?;
    assert_eq!(out.position(), summary.bytes_written, "the output stands at the image's end");
    Ok((out.into_inner(), summary))
}

fn image(tree: &Tree<C>, packs: &[Pack], options: &Options) -> Vec<u8> {
    let (image, summary) = try_image(tree, packs, options).unwrap();
    assert_eq!(image.len() as u64, summary.bytes_written);
    assert_eq!(image.len() % 4096, 0);
    image
}

/// False, and said so, where squashfs-tools or root are missing.
fn can_unpack() -> bool {
    if Command::new("unsquashfs").arg("-version").output().is_err() {
        eprintln!("skipped: unsquashfs is not installed");
        return false;
    }
    // The owner of a file that this process makes tells who it is.
    let probe = tempfile::NamedTempFile::new().unwrap();
    if probe.as_file().metadata().unwrap().uid() != 0 {
        eprintln!("skipped: needs root, to restore owners and devices");
        return false;
    }
    true
}

/// Unpacks an image with unsquashfs.
fn unsquashed(dir: &Path, image: &[u8]) -> PathBuf {
    let file = dir.join("image");
    fs::write(&file, image).unwrap();
    let root = dir.join("root");
    let run = Command::new("unsquashfs").args(["-no-progress", "-d"]).arg(&root).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "unsquashfs: {said}");
    assert!(run.stderr.is_empty(), "unsquashfs: {said}");
    root
}

/// Compares a directory with a tree, in all that a tree tells.
fn assert_same(root: &Path, tree: &Tree<C>, packs: &[Pack]) {
    let mut inodes: HashMap<InodeId, u64> = HashMap::new();
    let mut count = 0;
    for (path, id, inode) in tree.walk() {
        let at = root.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let found = fs::symlink_metadata(&at).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(*inodes.entry(id).or_insert(found.ino()), found.ino(), "{path}: hard link");
        assert_same_inode(&path, inode, &at, &found, packs);
        if inode.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name().into_vec()).collect();
            names.sort();
            let expected: Vec<_> = inode.children().map(|(name, _)| name.to_vec()).collect();
            assert_eq!(names, expected, "{path}: names");
        }
        count += 1;
    }
    assert!(count > 0);
}

fn assert_same_inode(path: &TreePath, inode: &Inode<C>, at: &Path, found: &fs::Metadata, packs: &[Pack]) {
    let meta = &inode.meta;
    if !found.file_type().is_symlink() {
        assert_eq!(found.mode() & 0o7777, u32::from(meta.mode), "{path}: mode");
    }
    assert_eq!((found.uid(), found.gid()), (meta.uid, meta.gid), "{path}: owner");
    assert_eq!(found.mtime(), meta.mtime.clamp(0, i64::from(u32::MAX)), "{path}: time");
    if !inode.is_dir() {
        assert_eq!(found.nlink(), u64::from(inode.links()), "{path}: links");
    }
    match inode.kind() {
        Kind::Dir => assert!(found.is_dir(), "{path}: directory"),
        Kind::File { len, content } => {
            assert_eq!(found.len(), *len, "{path}: length");
            let expected = match content {
                C::Bytes(bytes) => bytes.clone(),
                C::Packed(pack, file) => unpacked(&packs[*pack], file.ordinal()),
            };
            assert!(fs::read(at).unwrap() == expected, "{path}: content");
        }
        Kind::Symlink(target) => {
            assert_eq!(fs::read_link(at).unwrap().as_os_str().as_bytes(), &**target, "{path}")
        }
        Kind::Char(device) | Kind::Block(device) => {
            let kind = if matches!(inode.kind(), Kind::Char(_)) {
                found.file_type().is_char_device()
            } else {
                found.file_type().is_block_device()
            };
            assert!(kind, "{path}: kind of device");
            let rdev = found.rdev();
            let (major, minor) = (rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xf_ff00);
            assert_eq!((major, minor), (u64::from(device.major), u64::from(device.minor)), "{path}: device");
        }
        Kind::Fifo => assert!(found.file_type().is_fifo(), "{path}: fifo"),
        Kind::Socket => assert!(found.file_type().is_socket(), "{path}: socket"),
    }
    assert_eq!(xattrs(at), meta.xattrs, "{path}: extended attributes");
}

fn xattrs(at: &Path) -> kit_spec::tree::Xattrs {
    let mut names = vec![0; 65_536];
    let len = rustix::fs::llistxattr(at, &mut names).unwrap();
    let mut out = kit_spec::tree::Xattrs::new();
    for name in names[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(at, name, &mut value).unwrap();
        out.insert(name.into(), value[..len].into());
    }
    out
}
