//! Recipes: `images/NAME/image.yml` puts built programs, Debian packages, files and an image configuration together.
//!
//! A recipe has exactly the keys `name programs deb files users dirs config`. `kit/NAME` in a node file means one.

use kit_spec::tree::{PathError, TreePath};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A recipe, valid.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its name, which is its directory's.
    pub name: String,
    /// The directory that `source` of a file is relative to.
    pub dir: PathBuf,
    /// Programs of this project: where they go, and their names.
    pub programs: Vec<(TreePath, String)>,
    /// Debian packages.
    pub deb: Vec<Package>,
    /// Files, in order.
    pub files: Vec<RecipeFile>,
    /// Users to add.
    pub users: Vec<User>,
    /// Directories, in order.
    pub dirs: Vec<RecipeDir>,
    /// How its process is started unless the node file says otherwise.
    pub config: Config,
}

/// A Debian package of a recipe, with all it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "WrittenPackage")]
pub struct Package {
    /// `NAME` or `NAME=VERSION`.
    pub package: String,
    /// Of the package and all it depends on, only packages whose names match one of these; empty: all.
    pub only: Vec<String>,
    /// Of the files, only those that match one of these; empty: all.
    pub include: Vec<String>,
    /// Files to leave out.
    pub exclude: Vec<String>,
    /// Of the kernel modules among the files, only these and what they need; empty: all.
    pub modules: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenPackage {
    Name(String),
    Parts(PackageParts),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageParts {
    package: String,
    #[serde(default)]
    only: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    modules: Vec<String>,
}

impl From<WrittenPackage> for Package {
    fn from(written: WrittenPackage) -> Self {
        match written {
            WrittenPackage::Name(package) => {
                Package { package, only: vec![], include: vec![], exclude: vec![], modules: vec![] }
            }
            WrittenPackage::Parts(PackageParts { package, only, include, exclude, modules }) => {
                Package { package, only, include, exclude, modules }
            }
        }
    }
}

/// A file of a recipe.
#[derive(Clone, Debug)]
pub struct RecipeFile {
    /// Where it goes.
    pub path: TreePath,
    /// What it is.
    pub kind: RecipeFileKind,
    /// Permission bits.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
}

/// What a file of a recipe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipeFileKind {
    /// These bytes.
    Contents(String),
    /// A file beside the recipe.
    Source(PathBuf),
    /// A symbolic link.
    Symlink(String),
    /// What lies in the image already under the one path that this pattern matches, moved.
    From(String),
}

/// A directory of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeDir {
    /// Where.
    pub path: TreePath,
    /// Permission bits.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
}

/// A user of a recipe, with a group of the same name and number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number of the user and of the group.
    pub uid: u32,
    /// Home directory; `/nonexistent` unless written.
    #[serde(default = "nonexistent")]
    pub home: String,
    /// Shell; `/usr/sbin/nologin` unless written.
    #[serde(default = "nologin")]
    pub shell: String,
}

fn nonexistent() -> String {
    "/nonexistent".into()
}

fn nologin() -> String {
    "/usr/sbin/nologin".into()
}

/// A recipe's image configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// What is run.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Its arguments.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Environment, `NAME=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Directory it is run in.
    #[serde(default)]
    pub working_dir: String,
    /// User it is run as.
    #[serde(default)]
    pub user: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Container settings by a node file's keys: what the label `org.mobyproject.config` says of other images.
    #[serde(default)]
    pub defaults: Option<serde_json::Value>,
}

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No such recipe.
    #[error("there is no recipe `{name}` in {}", .searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    Unknown {
        /// The name after `kit/`.
        name: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// It cannot be read.
    #[error("read recipe {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a recipe.
    #[error("{path}: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        problem: String,
    },
    /// A path leads out of the image.
    #[error("{path}: {key}")]
    Path {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// A value that cannot be.
    #[error("{path}: {key}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    programs: BTreeMap<String, String>,
    #[serde(default)]
    deb: Vec<Package>,
    #[serde(default)]
    files: Vec<RawFile>,
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    dirs: Vec<RawDir>,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: String,
    contents: Option<String>,
    source: Option<String>,
    symlink: Option<String>,
    from: Option<String>,
    mode: Option<String>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDir {
    path: String,
    mode: Option<String>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

impl Recipe {
    /// Finds and reads the recipe `name` in the first of `dirs` that has it.
    ///
    /// # Errors
    /// See [`RecipeError`].
    pub fn load(name: &str, dirs: &[PathBuf]) -> Result<Recipe, RecipeError> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        let found = dirs.iter().map(|dir| dir.join(name)).find(|dir| dir.join("image.yml").is_file());
        match found {
            Some(dir) if plain && !name.starts_with('.') => Recipe::read(&dir),
            _ => Err(RecipeError::Unknown { name: name.into(), searched: dirs.to_vec() }),
        }
    }

    /// Reads the recipe in a directory.
    ///
    /// # Errors
    /// See [`RecipeError`].
    pub fn read(dir: &Path) -> Result<Recipe, RecipeError> {
        let path = dir.join("image.yml");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| RecipeError::Read { path: path.clone(), source })?;
        Recipe::parse(&text, dir, &path)
    }

    /// Parses a recipe's text; `path` is only for errors.
    ///
    /// # Errors
    /// See [`RecipeError`].
    pub fn parse(text: &str, dir: &Path, path: &Path) -> Result<Recipe, RecipeError> {
        let raw: Raw = serde_saphyr::from_str(text)
            .map_err(|error| RecipeError::Syntax { path: path.into(), problem: error.to_string() })?;
        let within = Within { path };
        let mut programs = Vec::new();
        for (to, program) in raw.programs {
            programs.push((within.tree_path(&to, || format!("programs[{to}]"))?, program));
        }
        let mut files = Vec::new();
        for (i, file) in raw.files.into_iter().enumerate() {
            files.push(within.file(file, dir, i)?);
        }
        let mut dirs = Vec::new();
        for (i, raw) in raw.dirs.into_iter().enumerate() {
            dirs.push(RecipeDir {
                path: within.tree_path(&raw.path, || format!("dirs[{i}].path"))?,
                mode: within.mode(raw.mode.as_deref(), 0o755, || format!("dirs[{i}].mode"))?,
                owner: (raw.uid, raw.gid),
            });
        }
        let Raw { name, deb, users, config, .. } = raw;
        Ok(Recipe { name, dir: dir.into(), programs, deb, files, users, dirs, config })
    }
}

struct Within<'a> {
    path: &'a Path,
}

impl Within<'_> {
    fn tree_path(&self, text: &str, key: impl Fn() -> String) -> Result<TreePath, RecipeError> {
        let parsed = TreePath::parse(text).map_err(|source| RecipeError::Path {
            path: self.path.into(),
            key: key(),
            source,
        })?;
        if parsed.is_root() {
            return Err(self.value(key(), "the root itself cannot be put".into()));
        }
        Ok(parsed)
    }

    fn value(&self, key: String, problem: String) -> RecipeError {
        RecipeError::Value { path: self.path.into(), key, problem }
    }

    fn mode(&self, text: Option<&str>, default: u16, key: impl Fn() -> String) -> Result<u16, RecipeError> {
        let Some(text) = text else { return Ok(default) };
        u16::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .ok_or_else(|| self.value(key(), format!("`{text}` is not an octal mode such as \"0644\"")))
    }

    fn file(&self, file: RawFile, dir: &Path, i: usize) -> Result<RecipeFile, RecipeError> {
        let RawFile { path, contents, source, symlink, from, mode, uid, gid } = file;
        let kind = match (contents, source, symlink, from) {
            (Some(contents), None, None, None) => RecipeFileKind::Contents(contents),
            (None, Some(source), None, None) => RecipeFileKind::Source(dir.join(source)),
            (None, None, Some(target), None) => RecipeFileKind::Symlink(target),
            (None, None, None, Some(pattern)) => RecipeFileKind::From(pattern),
            _ => {
                let problem = "one of contents, source, symlink and from is needed".into();
                return Err(self.value(format!("files[{i}]"), problem));
            }
        };
        let mode = self.mode(mode.as_deref(), 0o644, || format!("files[{i}].mode"))?;
        let path = self.tree_path(&path, || format!("files[{i}].path"))?;
        Ok(RecipeFile { path, kind, mode, owner: (uid, gid) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERYTHING: &str = "name: x\nprograms: {/sbin/init: kit-init}\ndeb:\n- nginx\n- {package: linux-image-amd64, only: [linux-image-*], modules: [loop]}\n\
        files:\n- {path: /etc/x, contents: hi, mode: \"0600\"}\n- {path: /kernel, from: /boot/vmlinuz-*}\n\
        users:\n- {name: www, uid: 33}\ndirs:\n- {path: /var/log/nginx, uid: 33}\nconfig: {entrypoint: [/x], workingDir: /}\n";

    fn parse(text: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(text, Path::new("/r"), Path::new("/r/image.yml"))
    }

    #[test]
    fn a_recipe_puts_programs_packages_and_files_together() {
        let recipe = parse(EVERYTHING).unwrap();
        assert_eq!(recipe.programs[0].1, "kit-init");
        assert_eq!(recipe.deb[1].modules, ["loop"]);
        assert_eq!(recipe.files[0].mode, 0o600);
        assert_eq!(recipe.files[1].kind, RecipeFileKind::From("/boot/vmlinuz-*".into()));
        assert_eq!(recipe.users[0].shell, "/usr/sbin/nologin");
        assert_eq!(recipe.config.working_dir, "/");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let error = parse("name: x\npackages: [nginx]\n").unwrap_err().to_string();
        assert!(error.starts_with("/r/image.yml: ") && error.contains("packages"), "{error}");
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let error = parse("name: x\nfiles:\n- {path: ../x, contents: hi}\n").unwrap_err();
        assert_eq!(error.to_string(), "/r/image.yml: files[0].path");
    }

    #[test]
    fn a_file_is_one_thing() {
        let error = parse("name: x\nfiles:\n- {path: a, contents: hi, symlink: b}\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/r/image.yml: files[0]: one of contents, source, symlink and from is needed"
        );
    }

    #[test]
    fn an_unknown_recipe_says_where_it_was_looked_for() {
        let error = Recipe::load("nope", &["/a".into(), "/b".into()]).unwrap_err();
        assert_eq!(error.to_string(), "there is no recipe `nope` in /a, /b");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_damaged_recipe_is_read_or_refused_with_its_path(
            changes in prop::collection::vec(
                (any::<prop::sample::Index>(), 0usize..12, "[\\[\\]{}:,&*#?|>!%@'\"~<./\n a0-]{0,4}|\\PC{0,3}"), 1..5,
            ),
        ) {
            let mut text = EVERYTHING.to_owned();
            for (at, len, with) in changes {
                let from = text.floor_char_boundary(at.index(text.len() + 1));
                let to = text.floor_char_boundary((from + len).min(text.len())).max(from);
                text.replace_range(from..to, &with);
            }
            match parse(&text) {
                Ok(recipe) => {
                    let paths = recipe.programs.iter().map(|(path, _)| path);
                    let paths = paths.chain(recipe.files.iter().map(|file| &file.path));
                    for path in paths.chain(recipe.dirs.iter().map(|dir| &dir.path)) {
                        prop_assert!(!path.is_root());
                        prop_assert!(!path.as_bytes().split(|byte| *byte == b'/').any(|part| part == b".."));
                    }
                }
                Err(error) => prop_assert!(error.to_string().starts_with("/r/image.yml"), "{}", error),
            }
        }

        #[test]
        fn any_text_is_no_recipe_or_one(text in "(name|files|deb|path|- |  |: |\n|[\\[\\]{}&*a,\"'])\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
