//! What maintainer scripts would have made of unpacked Debian packages, made deterministically instead.
//!
//! A root of unpacked packages lacks the merged `/usr` links, users and groups, the bundle of certificates, and
//! directories that scripts make; and it holds manuals that no container reads. Copyright files stay, and so does each
//! package's `control` under `/var/lib/dpkg/status.d`, where scanners of minimal images look for it.

use crate::contents::{Blob, Contents};
use crate::source::recipe::User;
use kit_spec::tree::{Kind, Meta, Tree, TreeError, TreePath};
use std::fmt::Write;
use std::io;

const MIB: u64 = 1 << 20;

/// Why a root cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum DebianRootError {
    /// A file of a package cannot be read.
    #[error("read {path} of an unpacked package")]
    Read {
        /// The path in the image.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tree does not take a file.
    #[error("complete an unpacked root")]
    Tree(#[from] TreeError),
}

/// An empty root with Debian's merged `/usr`: packages unpacked over it land behind the links.
///
/// # Errors
/// Never on an empty root; the signature is the tree's.
pub fn merged_usr(epoch: i64) -> Result<Tree<Blob>, TreeError> {
    let mut tree = Tree::new(Meta::root_owned(0o755, epoch));
    for dir in ["usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"] {
        tree.put(&path(dir), Meta::root_owned(0o755, epoch), Kind::Dir)?;
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        let target = format!("usr/{link}").into_bytes();
        tree.put(&path(link), Meta::root_owned(0o777, epoch), Kind::Symlink(target.into()))?;
    }
    Ok(tree)
}

/// Completes a root into which packages were unpacked.
///
/// # Errors
/// When a package's file cannot be read, or is not of the kind it must be.
pub fn complete(
    tree: &mut Tree<Blob>,
    contents: &Contents,
    users: &[User],
    epoch: i64,
) -> Result<(), DebianRootError> {
    for dir in ["usr/share/man", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/bug"] {
        tree.remove(&path(dir));
    }
    drop_docs(tree);
    for (dir, mode) in
        [("tmp", 0o1777), ("var/tmp", 0o1777), ("run", 0o755), ("etc", 0o755), ("var/log", 0o755)]
    {
        if tree.get(&path(dir)).is_none() {
            tree.put(&path(dir), Meta::root_owned(mode, epoch), Kind::Dir)?;
        }
    }
    if tree.get(&path("var/run")).is_none() {
        tree.put(&path("var/run"), Meta::root_owned(0o777, epoch), Kind::Symlink(b"/run".as_slice().into()))?;
    }
    accounts(tree, contents, users, epoch)?;
    certificates(tree, contents, epoch)
}

/// Adds users to a root's `/etc/passwd` and `/etc/group`, which are made from Debian's masters where those are.
///
/// # Errors
/// As [`complete`].
pub fn accounts(
    tree: &mut Tree<Blob>,
    contents: &Contents,
    users: &[User],
    epoch: i64,
) -> Result<(), DebianRootError> {
    let mut passwd =
        text(tree, contents, "etc/passwd")?.or(text(tree, contents, "usr/share/base-passwd/passwd.master")?);
    let mut group =
        text(tree, contents, "etc/group")?.or(text(tree, contents, "usr/share/base-passwd/group.master")?);
    let passwd = passwd.get_or_insert_with(|| {
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n".into()
    });
    // The masters lock everyone out by `*`; images say `x`, and shadow is not there.
    let group = group.get_or_insert_with(|| "root:x:0:\nnogroup:x:65534:\n".into());
    for user in users {
        let User { name, uid, home, shell } = user;
        if !has_line(passwd, name) {
            let _ = writeln!(passwd, "{name}:x:{uid}:{uid}::{home}:{shell}");
        }
        if !has_line(group, name) {
            let _ = writeln!(group, "{name}:x:{uid}:");
        }
    }
    put_text(tree, "etc/passwd", passwd.clone(), epoch)?;
    put_text(tree, "etc/group", group.clone(), epoch)?;
    Ok(())
}

/// `/etc/ssl/certs/ca-certificates.crt`, as `update-ca-certificates` makes it.
fn certificates(tree: &mut Tree<Blob>, contents: &Contents, epoch: i64) -> Result<(), DebianRootError> {
    let bundle = "etc/ssl/certs/ca-certificates.crt";
    let parts = path("usr/share/ca-certificates");
    if tree.get(&parts).is_none() || tree.get(&path(bundle)).is_some() {
        return Ok(());
    }
    let certificates: Vec<String> = tree
        .walk()
        .filter(|(at, _, inode)| {
            at.starts_with(&parts)
                && at.as_bytes().ends_with(b".crt")
                && matches!(inode.kind(), Kind::File { .. })
        })
        .map(|(at, _, _)| String::from_utf8_lossy(at.as_bytes()).into_owned())
        .collect();
    let mut all = String::new();
    for certificate in certificates {
        all.push_str(&text(tree, contents, &certificate)?.unwrap_or_default());
        if !all.ends_with('\n') {
            all.push('\n');
        }
    }
    put_text(tree, bundle, all, epoch)
}

fn drop_docs(tree: &mut Tree<Blob>) {
    let docs = path("usr/share/doc");
    let gone: Vec<TreePath> = tree
        .walk()
        .filter(|(at, _, inode)| {
            at.starts_with(&docs) && !inode.is_dir() && at.file_name() != Some(b"copyright".as_slice())
        })
        .map(|(at, _, _)| at)
        .collect();
    for at in gone {
        tree.remove(&at);
    }
}

fn has_line(file: &str, name: &str) -> bool {
    file.lines().any(|line| line.split(':').next() == Some(name))
}

fn text(tree: &Tree<Blob>, contents: &Contents, at: &str) -> Result<Option<String>, DebianRootError> {
    let bytes = contents
        .read_path(tree, at, MIB)
        .map_err(|source| DebianRootError::Read { path: format!("/{at}"), source })?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn put_text(tree: &mut Tree<Blob>, at: &str, text: String, epoch: i64) -> Result<(), DebianRootError> {
    let content = Blob::Bytes(text.into_bytes().into());
    let Blob::Bytes(bytes) = &content else { return Ok(()) };
    let len = bytes.len() as u64;
    tree.put(&path(at), Meta::root_owned(0o644, epoch), Kind::File { len, content })?;
    Ok(())
}

/// Paths that are written in this file.
fn path(text: &str) -> TreePath {
    text.parse().unwrap_or_else(|_| TreePath::root())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tree: &mut Tree<Blob>, at: &str, text: &str) {
        put_text(tree, at, text.into(), 0).unwrap();
    }

    fn get(tree: &Tree<Blob>, at: &str) -> Option<String> {
        text(tree, &Contents::default(), at).unwrap()
    }

    #[test]
    fn packages_land_behind_the_merged_usr_links() {
        let mut root = merged_usr(0).unwrap();
        let mut package = Tree::new(Meta::root_owned(0o755, 0));
        put(&mut package, "lib/x86_64-linux-gnu/libc.so.6", "elf");
        root.merge(&TreePath::root(), package).unwrap();
        assert!(root.get(&path("usr/lib/x86_64-linux-gnu/libc.so.6")).is_some());
    }

    #[test]
    fn users_come_from_the_masters_and_the_recipe() {
        let mut root = merged_usr(0).unwrap();
        put(
            &mut root,
            "usr/share/base-passwd/passwd.master",
            "root:*:0:0:root:/root:/bin/bash\nwww-data:*:33:33::/var/www:/x\n",
        );
        let users = [
            User { name: "www-data".into(), uid: 33, home: "/".into(), shell: "/".into() },
            User { name: "web".into(), uid: 900, home: "/srv".into(), shell: "/x".into() },
        ];
        complete(&mut root, &Contents::default(), &users, 0).unwrap();
        let passwd = get(&root, "etc/passwd").unwrap();
        assert_eq!(passwd.matches("www-data").count(), 1);
        assert!(passwd.ends_with("web:x:900:900::/srv:/x\n"));
        assert!(get(&root, "etc/group").unwrap().contains("web:x:900:\n"));
    }

    #[test]
    fn certificates_are_bundled_in_order() {
        let mut root = merged_usr(0).unwrap();
        put(&mut root, "usr/share/ca-certificates/mozilla/B.crt", "B");
        put(&mut root, "usr/share/ca-certificates/mozilla/A.crt", "A\n");
        complete(&mut root, &Contents::default(), &[], 0).unwrap();
        assert_eq!(get(&root, "etc/ssl/certs/ca-certificates.crt").unwrap(), "A\nB\n");
    }

    #[test]
    fn manuals_go_and_copyright_stays() {
        let mut root = merged_usr(0).unwrap();
        put(&mut root, "usr/share/doc/x/README", "-");
        put(&mut root, "usr/share/doc/x/copyright", "-");
        put(&mut root, "usr/share/man/man1/x.1.gz", "-");
        complete(&mut root, &Contents::default(), &[], 0).unwrap();
        assert!(get(&root, "usr/share/doc/x/copyright").is_some());
        assert!(root.get(&path("usr/share/doc/x/README")).is_none());
        assert!(root.get(&path("usr/share/man")).is_none());
    }
}
