//! The command line: what is asked for, in one value, and the one place that prints.

use crate::command;
use crate::command::run::DiskArg;
use crate::report::{Report, Style};
use crate::temporary::Watch;
use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kit_oci::platform::Platform;
use kit_spec::artifact::{Arch, ArtifactError, Format};
use kit_spec::machine::{Name, Publish};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

mod examples;

/// From a YAML file to a bootable image: without Docker, without root, bit-identical every time.
#[derive(Debug, Parser)]
#[command(name = "kitbuild", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = examples::ALL)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where fetched and derived data is kept [default: $XDG_CACHE_HOME/kit]
    #[arg(long, global = true, value_name = "DIR", env = "KIT_CACHE", hide_env_values = true)]
    pub cache: Option<PathBuf>,
    /// Where this project's node programs are [default: ../lib/kit beside kitbuild]
    #[arg(long, global = true, value_name = "DIR", env = "KIT_PROGRAMS", hide_env_values = true)]
    pub programs: Option<PathBuf>,
    /// Where recipes (`kit/NAME`) are [default: images/ above the node file, then ../share/kit/images]
    #[arg(long, global = true, value_name = "DIR", env = "KIT_IMAGES", hide_env_values = true)]
    pub images: Option<PathBuf>,
    /// Ask another registry first: REGISTRY=URL, or `*=URL` for all
    #[arg(long, global = true, value_name = "REGISTRY=URL")]
    pub mirror: Vec<String>,
    /// What is configured for registries: DIR/REGISTRY/hosts.toml, as containerd has it
    #[arg(long, global = true, value_name = "DIR", env = "KIT_REGISTRIES", hide_env_values = true)]
    pub registries: Option<PathBuf>,
    /// Say what happens as JSON, an object a line, on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but errors
    #[arg(long, short, global = true, conflicts_with = "json")]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build images of a node
    #[command(after_help = examples::BUILD)]
    Build(BuildArgs),
    /// Build a node, or take a built one, and boot it in QEMU
    #[command(after_help = examples::RUN)]
    Run(RunArgs),
    /// List machines that run detached
    #[command(after_help = examples::PS)]
    Ps,
    /// Join the console of a detached machine (leave with ctrl-])
    #[command(after_help = examples::CONSOLE)]
    Console(NameArg),
    /// Stop a detached machine: its power button first, then its plug
    #[command(after_help = examples::STOP)]
    Stop(StopArgs),
    /// Check node files, without network
    #[command(after_help = examples::CHECK)]
    Check(FilesArg),
    /// Pin and fetch every input of a node: `build --locked --offline` then needs no network
    #[command(after_help = examples::LOCK)]
    Lock(LockArgs),
    /// Print the JSON Schema of node files, for editors
    #[command(after_help = examples::SCHEMA)]
    Schema,
    /// List the output formats
    #[command(after_help = examples::FORMATS)]
    Formats,
    /// Show what a node file comes to, or what an artifact holds
    #[command(after_help = examples::INSPECT)]
    Inspect(InspectArgs),
    /// Look after the store of fetched images and packages
    #[command(after_help = examples::CACHE)]
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Recipes, and images made of them
    #[command(after_help = examples::IMAGE)]
    #[command(subcommand)]
    Image(ImageCommand),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETION)]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory
        dir: PathBuf,
    },
}

/// Node files.
#[derive(Clone, Debug, Args)]
pub struct FilesArg {
    /// Node files, merged in this order; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Where pins are, and what may be asked.
#[derive(Clone, Debug, Args)]
pub struct PinArgs {
    /// The lock [default: the first file's name with .lock, beside it]
    #[arg(long, value_name = "PATH")]
    pub lock: Option<PathBuf>,
    /// Use only what the lock pins; an input that it does not pin is an error
    #[arg(long)]
    pub locked: bool,
    /// Use only what is in the store; an input that is not is an error
    #[arg(long)]
    pub offline: bool,
}

/// What a build is told.
#[derive(Clone, Debug, Args)]
pub struct BuildArgs {
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub files: FilesArg,
    /// Formats, separated by commas (`kitbuild formats` lists them)
    #[arg(long, short, value_delimiter = ',', default_value = "kernel+initrd", value_name = "FORMAT")]
    pub format: Vec<Format>,
    /// The name that output files begin with [default: the first file's]
    #[arg(long, value_name = "NAME", value_parser = output_name)]
    pub name: Option<String>,
    /// The directory to write to
    #[arg(long, short, visible_alias = "dir", default_value = ".", value_name = "DIR")]
    pub out: PathBuf,
    /// Build nothing: print the node file that the files come to when they are merged
    #[arg(long)]
    pub dry_run: bool,
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub pins: PinArgs,
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub how: HowArgs,
}

/// How a build is done.
#[derive(Clone, Debug, Args)]
pub struct HowArgs {
    /// The architecture to build for
    #[arg(long, default_value = "amd64", value_enum)]
    pub arch: ArchArg,
    /// The time, in seconds since 1970, of everything that has none of its own
    #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = 1_492_533_000, value_name = "SECONDS")]
    pub epoch: u32,
    /// Threads to compress with [default: one for each processor]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<usize>,
}

/// An architecture on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ArchArg {
    /// x86-64
    #[value(alias = "x86_64")]
    Amd64,
    /// 64-bit ARM
    #[value(alias = "aarch64")]
    Arm64,
}

impl From<ArchArg> for Arch {
    fn from(arch: ArchArg) -> Arch {
        match arch {
            ArchArg::Amd64 => Arch::Amd64,
            ArchArg::Arm64 => Arch::Arm64,
        }
    }
}

/// What a run is told.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Node files to build first, or one artifact's .artifact.json
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Format to build and boot
    #[arg(long, short, value_name = "FORMAT", conflicts_with = "iso")]
    pub format: Option<Format>,
    /// Boot an ISO: the same as `--format iso`
    #[arg(long)]
    pub iso: bool,
    /// Boot by UEFI, where the format leaves a choice
    #[arg(long)]
    pub uefi: bool,
    /// Plug an ISO in as a disk, not as a CD
    #[arg(long)]
    pub as_disk: bool,
    /// Memory in MiB
    #[arg(long, short, default_value_t = 1024, visible_alias = "memory", value_name = "MIB")]
    #[arg(value_parser = clap::value_parser!(u32).range(32..))]
    pub mem: u32,
    /// Virtual processors
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub cpus: u32,
    /// Lead a port of this machine to the node's: [ADDRESS:]HOST:GUEST[/udp]
    #[arg(long, short, value_name = "HOST:GUEST")]
    pub publish: Vec<Publish>,
    /// Add a disk: PATH[,format=raw|qcow2][,readonly][,size=10G]; with a size it is made if it is missing
    #[arg(long, value_name = "PATH[,..]")]
    pub disk: Vec<DiskArg>,
    /// End the machine after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Leave it running in the background
    #[arg(long, short)]
    pub detach: bool,
    /// The machine's name [default: the image's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub pins: PinArgs,
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub how: HowArgs,
}

/// The name of a machine.
#[derive(Clone, Debug, Args)]
pub struct NameArg {
    /// The machine's name
    pub name: Name,
}

/// Which machine to stop.
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub machine: NameArg,
    /// Seconds that it may take to power off
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub grace: u64,
}

/// What is to be pinned.
#[derive(Clone, Debug, Args)]
pub struct LockArgs {
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub files: FilesArg,
    /// The lock [default: the first file's name with .lock, beside it]
    #[arg(long, value_name = "PATH")]
    pub lock: Option<PathBuf>,
    /// Ask anew for what is pinned already
    #[arg(long)]
    pub update: bool,
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub how: HowArgs,
}

/// What is to be shown.
#[derive(Clone, Debug, Args)]
pub struct InspectArgs {
    /// A node file, or an artifact's .artifact.json
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// What is done with the store.
#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// List images in the store
    Ls,
    /// Bring images in from an OCI layout, an OCI archive or a docker-archive
    Import {
        /// The directory or file
        path: PathBuf,
        /// Call the image so, whatever it says of itself
        #[arg(long, value_name = "REFERENCE")]
        name: Option<String>,
    },
    /// Fetch an image from its registry
    Pull(PullArgs),
    /// Remove images, and the blobs that no other needs
    #[command(visible_alias = "remove")]
    Rm {
        /// The images' names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Write an image out as an OCI archive
    Export {
        /// The image's name
        name: String,
        /// The file to write
        #[arg(long, short, value_name = "FILE")]
        out: PathBuf,
    },
    /// Hash everything in the store
    Verify,
    /// Remove what no image needs, and what is derived
    Clean {
        /// Remove everything
        #[arg(long)]
        all: bool,
    },
}

/// What is to be fetched.
#[derive(Clone, Debug, Args)]
pub struct PullArgs {
    /// The image's reference
    #[arg(value_name = "REFERENCE")]
    pub name: String,
    /// The platform whose image is fetched
    #[arg(long, default_value = "linux/amd64", value_name = "OS/ARCH")]
    pub platform: Platform,
    /// Fetch the images of all platforms
    #[arg(long, conflicts_with = "platform")]
    pub all_platforms: bool,
}

/// What is done with recipes.
#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// List recipes
    Ls,
    /// Make an OCI image of a recipe or of Debian packages, in the store
    Build(ImageBuildArgs),
    /// Show what a recipe comes to: its packages, size and configuration
    Inspect(ImageArgs),
    /// Upload an image of the store to a registry
    Push(ImagePushArgs),
}

/// An image that is put together here.
#[derive(Clone, Debug, Args)]
pub struct ImageArgs {
    /// A recipe's name, a directory with an image.yml, or `deb:PACKAGE,..`
    #[arg(value_name = "NAME|DIR")]
    pub image: String,
    /// Take packages that this lock pins at these versions, and write others into it
    #[arg(long, value_name = "PATH")]
    pub lock: Option<PathBuf>,
    /// Use only what the lock pins
    #[arg(long)]
    pub locked: bool,
    /// Use only what is in the store
    #[arg(long)]
    pub offline: bool,
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub how: HowArgs,
}

/// An image that is to be made.
#[derive(Clone, Debug, Args)]
pub struct ImageBuildArgs {
    #[allow(missing_docs, reason = "its fields say it")]
    #[command(flatten)]
    pub image: ImageArgs,
    /// Call it so [default: kit/NAME]
    #[arg(long, short, value_name = "REFERENCE")]
    pub tag: Option<String>,
    /// Write it as an OCI archive too
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// An image that is to be uploaded.
#[derive(Clone, Debug, Args)]
pub struct ImagePushArgs {
    /// The image's name in the store
    pub name: String,
    /// Where to [default: NAME]
    pub reference: Option<String>,
}

fn output_name(word: &str) -> Result<String, ArtifactError> {
    kit_spec::artifact::check_name(word).map(|()| word.to_owned())
}

/// Runs what the arguments say; the process's exit code.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(with_build(args)) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let style = match (cli.global.json, cli.global.quiet) {
        (true, _) => Style::Json,
        (_, true) => Style::Quiet,
        _ => Style::detect(),
    };
    let report = Report::new(style);
    match run(cli, &report) {
        Ok(code) => code,
        Err(error) => {
            report.failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, report: &Report) -> anyhow::Result<ExitCode> {
    let global = cli.global;
    let watch = Watch::begin().context("prepare for ctrl-C")?;
    match cli.command {
        Command::Build(args) => command::build::run(&global, args, report)?,
        Command::Run(args) => return command::run::run(&global, args, report, watch),
        Command::Ps => command::machines::ps(report)?,
        Command::Console(args) => return command::machines::console(&args.name, watch),
        Command::Stop(args) => command::machines::stop(&args, report)?,
        Command::Check(args) => command::check::run(&args, report)?,
        Command::Lock(args) => command::lock::run(&global, args, report)?,
        Command::Schema => command::check::schema(report)?,
        Command::Formats => command::inspect::formats(report),
        Command::Inspect(args) => command::inspect::run(&args, report)?,
        Command::Cache(what) => command::cache::run(&global, what, report)?,
        Command::Image(what) => command::image::run(&global, what, report)?,
        Command::Completion { shell } => {
            use clap::CommandFactory;
            clap_complete::generate(shell, &mut Cli::command(), "kitbuild", &mut std::io::stdout());
        }
        Command::Man { dir } => {
            use clap::CommandFactory;
            clap_mangen::generate_to(Cli::command(), &dir)
                .with_context(|| format!("write manual pages into {}", dir.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `kitbuild node.yml` is `kitbuild build node.yml`: the first word is no command but looks like a node file, or is an
/// option, and there is a node file but no command after it.
fn with_build(mut args: Vec<OsString>) -> Vec<OsString> {
    use clap::CommandFactory;
    let is_node = |word: &OsString| {
        let word = word.to_string_lossy();
        [".yml", ".yaml"].iter().any(|end| word.ends_with(end))
    };
    let builds = match args.get(1) {
        None => false,
        Some(first) if first == "-" => true,
        Some(first) if first.to_string_lossy().starts_with('-') => {
            let cli = Cli::command();
            let is_command = |word: &OsString| cli.get_subcommands().any(|known| known.get_name() == word);
            args.iter().any(is_node) && !args.iter().any(is_command)
        }
        Some(first) => is_node(first),
    };
    if builds {
        args.insert(1, "build".into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_node_file_alone_is_built() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(with_build(args(&["kitbuild", "a/node.yml"])), args(&["kitbuild", "build", "a/node.yml"]));
        assert_eq!(
            with_build(args(&["kitbuild", "-f", "iso", "node.yml"])),
            args(&["kitbuild", "build", "-f", "iso", "node.yml"])
        );
        for words in
            [&["kitbuild", "check", "x.yml"][..], &["kitbuild", "-q", "check", "x.yml"], &["kitbuild"]]
        {
            assert_eq!(with_build(args(words)), args(words));
        }
    }
}
