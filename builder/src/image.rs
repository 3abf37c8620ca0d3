//! An image, ready to be put into a root: its files as a tree, and how its process is started.

use crate::contents::Blob;
use crate::kernel::{self, KernelError};
use crate::layers::{Form, Layers, LayersError};
use crate::output::hex;
use crate::source::deb;
use crate::source::debian_root::{self, DebianRootError};
use crate::source::recipe::{Package, Recipe, RecipeFileKind};
use kit_oci::digest::Digest;
use kit_spec::artifact::Arch;
use kit_spec::lock::PackagePin;
use kit_spec::tree::{Change, Kind, Meta, PathError, Tree, TreeError, TreePath};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The label by which an image says how it is to be run, in the words of a node file.
pub const LABEL: &str = "org.mobyproject.config";

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its root.
    pub tree: Tree<Blob>,
    /// How its process is started.
    pub config: Config,
}

/// What an image says of its process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What is run.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub cmd: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Directory it is run in.
    pub working_dir: String,
    /// User, as written: `nginx`, `101:101`.
    pub user: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Why an image cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A layer cannot be used.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// A layer does something that cannot be.
    #[error("apply layer {digest}")]
    Apply {
        /// The layer.
        digest: String,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// The root of packages cannot be completed.
    #[error(transparent)]
    Root(#[from] DebianRootError),
    /// The kernel's modules cannot be selected.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A program is not there.
    #[error("there is no program `{name}` in {dir}: build this project's node programs first")]
    Program {
        /// Its name.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A program is for another architecture.
    #[error(
        "the program `{name}` in {dir} is not for {arch}: --programs names where those are that were built for it"
    )]
    ProgramArch {
        /// Its name.
        name: String,
        /// Where it is.
        dir: PathBuf,
        /// What is built for.
        arch: &'static str,
    },
    /// A local file cannot be read.
    #[error("read {path}")]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pattern is none, or does not match as it must.
    #[error("recipe {recipe}: `{pattern}` {problem}")]
    Pattern {
        /// The recipe's name.
        recipe: String,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// A file cannot be put where the recipe says.
    #[error("recipe {recipe}: put {path}")]
    Put {
        /// The recipe's name.
        recipe: String,
        /// Where.
        path: TreePath,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// A recipe's `defaults` cannot be written as a label.
    #[error("recipe {recipe}: config.defaults")]
    Defaults {
        /// The recipe's name.
        recipe: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A package's pin is damaged.
    #[error(transparent)]
    Package(#[from] deb::DebError),
    /// A path of a local file is none inside an image.
    #[error("a path of the image")]
    Path(#[from] PathError),
}

/// The bytes of a local file, hashed now.
///
/// # Errors
/// When it cannot be read.
pub fn local(path: &Path) -> Result<(u64, Blob), ImageError> {
    let failed = |source| ImageError::Local { path: path.into(), source };
    let bytes = fs::read(path).map_err(failed)?;
    Ok((bytes.len() as u64, Blob::Bytes(bytes.into())))
}

/// A program of this project that runs on nodes.
///
/// # Errors
/// When it is not there.
pub fn program(dir: &Path, name: &str) -> Result<(u64, Blob), ImageError> {
    let at = dir.join(name);
    if !at.is_file() {
        return Err(ImageError::Program { name: name.into(), dir: dir.into() });
    }
    local(&at)
}

/// Checks that the programs of a recipe are for an architecture, by their ELF header (`e_machine`). What is no ELF file,
/// such as a script, is for all.
///
/// # Errors
/// When one is not, or is not there.
pub fn check_programs(recipe: &Recipe, dir: &Path, arch: Arch) -> Result<(), ImageError> {
    let machine: u16 = match arch {
        Arch::Amd64 => 62,
        Arch::Arm64 => 183,
    };
    for (_, name) in &recipe.programs {
        let (_, Blob::Bytes(bytes)) = program(dir, name)? else { continue };
        let other = bytes.starts_with(b"\x7fELF") && bytes.get(18..20) != Some(&machine.to_le_bytes());
        if other {
            let arch = deb::debian_name(arch);
            return Err(ImageError::ProgramArch { name: name.clone(), dir: dir.into(), arch });
        }
    }
    Ok(())
}

/// An image of a registry, a layout or an archive, from its layers' digests and sizes.
///
/// # Errors
/// See [`ImageError`].
pub fn from_layers(
    layers: &mut Layers,
    list: &[(Digest, u64)],
    config: Config,
    epoch: i64,
) -> Result<Image, ImageError> {
    let mut tree = Tree::new(Meta::root_owned(0o755, epoch));
    for (digest, size) in list {
        let changes = layers.changes(digest, *size, Form::Oci)?;
        kit_oci::layer::apply(&mut tree, changes)
            .map_err(|source| ImageError::Apply { digest: digest.to_string(), source })?;
    }
    Ok(Image { tree, config })
}

/// An image of Debian packages alone.
///
/// # Errors
/// See [`ImageError`].
pub fn from_packages(layers: &mut Layers, pins: &[PackagePin], epoch: i64) -> Result<Image, ImageError> {
    let mut tree = debian_root::merged_usr(epoch).map_err(DebianRootError::from)?;
    for pin in pins {
        let package = package(layers, pin, epoch)?;
        tree.merge(&TreePath::root(), package)
            .map_err(|source| ImageError::Apply { digest: pin.sha256.clone(), source })?;
    }
    debian_root::complete(&mut tree, &layers.contents, &[], epoch)?;
    let env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    Ok(Image { tree, config: Config { env, working_dir: "/".into(), ..Config::default() } })
}

/// An image that a recipe describes, its packages already decided: for each of the recipe's, what it stands for.
///
/// # Errors
/// See [`ImageError`].
pub fn from_recipe(
    layers: &mut Layers,
    recipe: &Recipe,
    packages: &[Vec<PackagePin>],
    programs: &Path,
    epoch: i64,
) -> Result<Image, ImageError> {
    let mut tree = match recipe.deb.as_slice() {
        [] => Tree::new(Meta::root_owned(0o755, epoch)),
        _ => debian_root::merged_usr(epoch).map_err(DebianRootError::from)?,
    };
    let mut there = std::collections::BTreeSet::new();
    for (wanted, pins) in recipe.deb.iter().zip(packages) {
        for pin in pins.iter().filter(|pin| there.insert(pin.sha256.clone())) {
            let mut files = package(layers, pin, epoch)?;
            filter(recipe, wanted, &mut files)?;
            if !wanted.modules.is_empty() {
                kernel::select(&mut files, &layers.contents, &wanted.modules)?;
            }
            tree.merge(&TreePath::root(), files)
                .map_err(|source| ImageError::Apply { digest: pin.sha256.clone(), source })?;
        }
    }
    for dir in &recipe.dirs {
        let meta = Meta { uid: dir.owner.0, gid: dir.owner.1, ..Meta::root_owned(dir.mode, epoch) };
        put(recipe, &mut tree, &dir.path, meta, Kind::Dir)?;
    }
    for (path, name) in &recipe.programs {
        let (len, content) = program(programs, name)?;
        put(recipe, &mut tree, path, Meta::root_owned(0o755, epoch), Kind::File { len, content })?;
    }
    files(recipe, &mut tree, epoch)?;
    if !recipe.deb.is_empty() {
        debian_root::complete(&mut tree, &layers.contents, &recipe.users, epoch)?;
    } else if !recipe.users.is_empty() {
        debian_root::accounts(&mut tree, &layers.contents, &recipe.users, epoch)?;
    }
    Ok(Image { tree, config: config(recipe)? })
}

/// The files of one Debian package.
///
/// # Errors
/// See [`ImageError`].
pub fn package(layers: &mut Layers, pin: &PackagePin, epoch: i64) -> Result<Tree<Blob>, ImageError> {
    let digest = deb::digest(pin)?;
    let changes: Vec<Change<Blob>> = layers.changes(&digest, pin.size, Form::Deb)?;
    let mut tree = Tree::new(Meta::root_owned(0o755, epoch));
    for change in changes {
        tree.apply(change).map_err(|source| ImageError::Apply { digest: digest.to_string(), source })?;
    }
    if let Some(control) = layers.unpacked(&digest, pin.size, Form::Deb)?.control.clone() {
        let path = TreePath::parse(format!("var/lib/dpkg/status.d/{}", pin.name))?;
        let kind =
            Kind::File { len: control.len() as u64, content: Blob::Bytes(control.into_bytes().into()) };
        let put = tree.put(&path, Meta::root_owned(0o644, epoch), kind);
        put.map_err(|source| ImageError::Apply { digest: digest.to_string(), source })?;
    }
    Ok(tree)
}

/// Leaves of a package's files what the recipe wants.
fn filter(recipe: &Recipe, wanted: &Package, tree: &mut Tree<Blob>) -> Result<(), ImageError> {
    let patterns = |list: &[String]| -> Result<Vec<glob::Pattern>, ImageError> {
        list.iter().map(|text| pattern(recipe, text)).collect()
    };
    let (include, exclude) = (patterns(&wanted.include)?, patterns(&wanted.exclude)?);
    let matches =
        |list: &[glob::Pattern], path: &str| list.iter().any(|pattern| pattern.matches_with(path, MATCH));
    let status = TreePath::parse("var/lib/dpkg/status.d")?;
    let gone: Vec<TreePath> = tree
        .walk()
        .filter(|(path, _, inode)| !inode.is_dir() && !path.starts_with(&status))
        .filter(|(path, _, _)| {
            let path = path.to_string();
            (!include.is_empty() && !matches(&include, &path)) || matches(&exclude, &path)
        })
        .map(|(path, _, _)| path)
        .collect();
    for path in gone {
        tree.remove(&path);
        kernel::drop_empty(tree, path.parent());
    }
    Ok(())
}

fn files(recipe: &Recipe, tree: &mut Tree<Blob>, epoch: i64) -> Result<(), ImageError> {
    for file in &recipe.files {
        let meta = Meta { uid: file.owner.0, gid: file.owner.1, ..Meta::root_owned(file.mode, epoch) };
        let kind = match &file.kind {
            RecipeFileKind::Contents(text) => {
                Kind::File { len: text.len() as u64, content: Blob::Bytes(text.as_bytes().into()) }
            }
            RecipeFileKind::Source(path) => {
                let (len, content) = local(path)?;
                Kind::File { len, content }
            }
            RecipeFileKind::Symlink(target) => Kind::Symlink(target.as_bytes().into()),
            RecipeFileKind::From(text) => {
                let from = the_one(recipe, tree, text)?;
                let Some(inode) = tree.get(&from) else { continue };
                let (meta, kind) = (inode.meta.clone(), inode.kind().clone());
                tree.remove(&from);
                kernel::drop_empty(tree, from.parent());
                put(recipe, tree, &file.path, meta, kind)?;
                continue;
            }
        };
        put(recipe, tree, &file.path, meta, kind)?;
    }
    Ok(())
}

/// The one file that a pattern matches.
fn the_one(recipe: &Recipe, tree: &Tree<Blob>, text: &str) -> Result<TreePath, ImageError> {
    let pattern = pattern(recipe, text)?;
    let found: Vec<TreePath> = tree
        .walk()
        .filter(|(path, _, inode)| !inode.is_dir() && pattern.matches_with(&path.to_string(), MATCH))
        .map(|(path, _, _)| path)
        .collect();
    let wrong =
        |problem: String| ImageError::Pattern { recipe: recipe.name.clone(), pattern: text.into(), problem };
    match <[TreePath; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(found) if found.is_empty() => Err(wrong("matches no file".into())),
        Err(found) => {
            Err(wrong(format!("matches {} files, {} and {} among them", found.len(), found[0], found[1])))
        }
    }
}

/// `*` stays within one directory, `**` does not.
const MATCH: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

fn pattern(recipe: &Recipe, text: &str) -> Result<glob::Pattern, ImageError> {
    glob::Pattern::new(text).map_err(|error| ImageError::Pattern {
        recipe: recipe.name.clone(),
        pattern: text.into(),
        problem: format!("is not a pattern: {error}"),
    })
}

fn put(
    recipe: &Recipe,
    tree: &mut Tree<Blob>,
    path: &TreePath,
    meta: Meta,
    kind: Kind<Blob>,
) -> Result<(), ImageError> {
    tree.put(path, meta, kind).map_err(|source| ImageError::Put {
        recipe: recipe.name.clone(),
        path: path.clone(),
        source,
    })
}

fn config(recipe: &Recipe) -> Result<Config, ImageError> {
    let written = &recipe.config;
    let mut labels = written.labels.clone();
    if let Some(defaults) = &written.defaults {
        let json = serde_json::to_string(defaults)
            .map_err(|source| ImageError::Defaults { recipe: recipe.name.clone(), source })?;
        labels.insert(LABEL.into(), json);
    }
    let mut env = written.env.clone();
    if !env.iter().any(|word| word.starts_with("PATH=")) {
        env.insert(0, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    Ok(Config {
        entrypoint: written.entrypoint.clone(),
        cmd: written.cmd.clone(),
        env,
        working_dir: if written.working_dir.is_empty() { "/".into() } else { written.working_dir.clone() },
        user: written.user.clone(),
        labels,
    })
}

/// SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A blob of these bytes, with their length, as a regular file.
pub fn bytes(bytes: impl Into<Vec<u8>>) -> Kind<Blob> {
    let bytes: Arc<[u8]> = bytes.into().into();
    Kind::File { len: bytes.len() as u64, content: Blob::Bytes(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_another_architecture_is_refused_and_a_script_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(18, 0);
        elf.extend_from_slice(&[62, 0]);
        fs::write(dir.path().join("tool"), elf).unwrap();
        fs::write(dir.path().join("script"), "#!/bin/sh\n").unwrap();
        let text = "name: x\nprograms: {/tool: tool, /script: script}\n";
        let recipe = Recipe::parse(text, dir.path(), dir.path()).unwrap();
        check_programs(&recipe, dir.path(), Arch::Amd64).unwrap();
        let error = check_programs(&recipe, dir.path(), Arch::Arm64).unwrap_err();
        assert!(error.to_string().starts_with("the program `tool` in "), "{error}");
    }
}
