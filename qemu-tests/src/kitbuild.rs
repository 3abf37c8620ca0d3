//! The staged `kitbuild`, run as a command.

use kit_spec::artifact::{Artifact, ArtifactError, Format};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The program, with its recipes and a node's programs where it finds them by itself.
#[derive(Clone, Debug)]
pub struct Kitbuild {
    program: PathBuf,
}

/// Why there is nothing to test: a reason to skip.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Missing {
    /// Nobody says where the programs are.
    #[error("KIT_BIN_DIR is not set; `make test` sets it to what it has staged")]
    BinDir,
    /// A tool of the test's is not installed.
    #[error("{program} is not installed; .ci/setup installs it")]
    Program {
        /// Its name.
        program: &'static str,
    },
    /// The test makes files or namespaces that only root can.
    #[error("needs root")]
    Root,
}

/// Why there is nothing to boot.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file of the test's cannot be put in place.
    #[error("{doing} {path}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// kitbuild failed.
    #[error("{command}: {status}\n{said}")]
    Failed {
        /// The command, as typed.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed.
        said: String,
    },
    /// What it wrote about its output is not what it should be.
    #[error("read {path}", path = path.display())]
    Artifact {
        /// The description.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ArtifactError,
    },
}

/// What a build made, in a directory that goes with this value.
#[derive(Debug)]
pub struct Built {
    /// Where the files are.
    pub dir: TempDir,
    /// What they are.
    pub artifact: Artifact,
}

impl Kitbuild {
    /// The one in `KIT_BIN_DIR`.
    ///
    /// # Errors
    /// When that is not set: a reason to skip the test.
    pub fn staged() -> Result<Kitbuild, Missing> {
        let dir = std::env::var_os("KIT_BIN_DIR").ok_or(Missing::BinDir)?;
        Ok(Kitbuild { program: Path::new(&dir).join("kitbuild") })
    }

    /// The one at a path.
    pub fn at(program: impl Into<PathBuf>) -> Kitbuild {
        Kitbuild { program: program.into() }
    }

    /// The program itself.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that has nothing from the environment but where the user's files are: it must find its programs and
    /// recipes as an installed one does. Packages are kept in the user's own cache, so that they are fetched once.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null());
        for name in ["KIT_PROGRAMS", "KIT_IMAGES", "KIT_CACHE", "KIT_REGISTRIES", "SOURCE_DATE_EPOCH"] {
            command.env_remove(name);
        }
        command
    }

    /// Builds one format from a node file. The lock is the build's own, not one beside the file.
    ///
    /// # Errors
    /// When the build fails, or what it wrote cannot be read.
    pub fn build(&self, node: &Path, format: Format) -> Result<Built, BuildError> {
        let dir = tempfile::Builder::new().prefix("kit-test.").tempdir();
        let dir = dir.map_err(io_error("make a directory in", &std::env::temp_dir()))?;
        let mut command = self.command(["build", "--quiet", "--format", format.name()]);
        command.arg("--out").arg(dir.path()).arg("--lock").arg(dir.path().join("lock")).arg(node);
        run(command)?;
        let artifact = described(dir.path(), format)?;
        Ok(Built { dir, artifact })
    }

    /// Builds one format from the text of a node file.
    ///
    /// # Errors
    /// As [`Kitbuild::build`].
    pub fn build_text(&self, name: &str, text: &str, format: Format) -> Result<Built, BuildError> {
        let dir = tempfile::tempdir().map_err(io_error("make a directory in", &std::env::temp_dir()))?;
        let node = dir.path().join(format!("{name}.yml"));
        fs::write(&node, text).map_err(io_error("write", &node))?;
        self.build(&node, format)
    }
}

/// The description of a format in a directory of output.
///
/// # Errors
/// When there is none, or it is malformed.
pub fn described(dir: &Path, format: Format) -> Result<Artifact, BuildError> {
    let wanted = format!(".{format}.artifact.json");
    let entries = fs::read_dir(dir).map_err(io_error("list", dir))?;
    let found = entries.flatten().map(|entry| entry.path()).find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(&wanted))
    });
    let path = found.unwrap_or_else(|| dir.join(wanted));
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    Artifact::parse(&text).map_err(|source| BuildError::Artifact { path, source })
}

/// Runs a command to its end.
///
/// # Errors
/// When it fails; with all that it printed.
pub fn run(mut command: Command) -> Result<Output, BuildError> {
    let output = command.output().map_err(io_error("run", Path::new(command.get_program())))?;
    if output.status.success() {
        return Ok(output);
    }
    let said =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim_end().to_owned());
    Err(BuildError::Failed { command: typed(&command), status: output.status, said: said.join("\n") })
}

/// Where a program is in PATH.
///
/// # Errors
/// When it is not: a reason to skip the test.
pub fn tool(program: &'static str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some tools where only root's PATH leads.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|path| path.is_file()).ok_or(Missing::Program { program })
}

fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Io { doing, path, source }
}
