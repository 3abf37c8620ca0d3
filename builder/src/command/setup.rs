//! What several commands begin with: node files read, places found, the store opened.

use crate::build::Places;
use crate::cli::{Global, PinArgs};
use crate::report::{Report, count};
use crate::resolve::{Locked, Sources, resolve};
use anyhow::{Context, anyhow, bail};
use kit_oci::reference::Reference;
use kit_oci::registry::{Client, Credentials, Hosts, Mirror, Options, Roots};
use kit_oci::store::{Name, Store};
use kit_spec::artifact::{Arch, Format};
use kit_spec::lock::Lock;
use kit_spec::node::{Node, Source};
use oci_spec::image::Descriptor;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

/// A node file is some kilobytes. One byte more than the parser takes, which then says so.
const MAX_NODE: u64 = (16 << 20) + 1;

/// Node files that are valid together.
pub struct Files {
    /// What they say.
    pub node: Node,
    /// The first file; none for standard input.
    pub first: Option<PathBuf>,
}

impl Files {
    /// Reads, merges and checks; warnings are reported.
    pub fn read(paths: &[PathBuf], report: &Report) -> anyhow::Result<Files> {
        let mut texts = Vec::new();
        for path in paths {
            texts.push((path.display().to_string(), text(path)?));
        }
        let sources: Vec<Source> = texts.iter().map(|(name, text)| Source { name, text }).collect();
        let colour = io::stderr().is_terminal();
        match Node::parse(&sources) {
            Ok((node, warnings)) => {
                for warning in warnings {
                    report.diagnostic(&warning.render(colour));
                }
                Ok(Files { node, first: paths.first().filter(|path| path.as_os_str() != "-").cloned() })
            }
            Err(diagnostics) => {
                let count = diagnostics.errors().len();
                report.diagnostic(&diagnostics.render(colour));
                let names: Vec<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
                bail!("{} {} in {}", count, if count == 1 { "error" } else { "errors" }, names.join(", "))
            }
        }
    }

    /// The name that output begins with unless one is given.
    pub fn name(&self) -> String {
        name_of(self.first.as_deref())
    }

    /// The same, for files.
    ///
    /// # Errors
    /// When files cannot begin so.
    pub fn output_name(&self) -> anyhow::Result<String> {
        let name = self.name();
        kit_spec::artifact::check_name(&name).context("name the output (--name gives it another name)")?;
        Ok(name)
    }

    /// What paths are relative to.
    pub fn base(&self) -> PathBuf {
        match self.first.as_deref().and_then(Path::parent) {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// Where the lock is unless said otherwise.
    pub fn lock_path(&self, given: Option<&Path>) -> PathBuf {
        match given {
            Some(path) => path.to_owned(),
            None => self.base().join(format!("{}.lock", self.name())),
        }
    }
}

/// The name that a node file gives to what is made of it; `node` for standard input.
pub fn name_of(first: Option<&Path>) -> String {
    let stem = first.filter(|path| path.as_os_str() != "-").and_then(Path::file_stem);
    stem.map_or_else(|| "node".into(), |stem| stem.to_string_lossy().into_owned())
}

fn text(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().take(MAX_NODE).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_NODE).read_to_end(&mut bytes))
    };
    let what = || format!("read {}", path.display());
    read.with_context(what)?;
    let not_text =
        |_| anyhow!("it is no text: a node file is YAML, and what was built has an .artifact.json");
    String::from_utf8(bytes).map_err(not_text).with_context(what)
}

/// Where things are, from the flags, the environment and where kitbuild itself is.
pub fn places(global: &Global, base: PathBuf) -> anyhow::Result<Places> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    let beside = beside.unwrap_or_else(|| PathBuf::from("/usr"));
    let cache = match &global.cache {
        Some(cache) => cache.clone(),
        None => user_cache()
            .ok_or_else(|| anyhow!("no directory for the cache: set --cache, $XDG_CACHE_HOME or $HOME"))?,
    };
    let cache = std::path::absolute(&cache).with_context(|| format!("find {}", cache.display()))?;
    let programs = global.programs.clone().unwrap_or_else(|| beside.join("lib/kit"));
    let recipes = match &global.images {
        Some(images) => vec![images.clone()],
        None => above(&base).into_iter().chain([beside.join("share/kit/images")]).collect(),
    };
    Ok(Places { cache, programs, recipes, base })
}

fn user_cache() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache"))).map(|dir| dir.join("kit"))
}

/// The nearest `images` directory with recipes, in the directory of the node file or above it.
fn above(base: &Path) -> Option<PathBuf> {
    let start = std::path::absolute(base).ok()?;
    start.ancestors().map(|dir| dir.join("images")).find(|dir| dir.join("init/image.yml").is_file())
}

/// A client for registries, unless the network is forbidden.
pub fn client(global: &Global, offline: bool) -> anyhow::Result<Option<Client>> {
    if offline {
        return Ok(None);
    }
    let mut mirrors = Vec::new();
    for word in &global.mirror {
        mirrors.push(word.parse::<Mirror>().with_context(|| format!("--mirror {word}"))?);
    }
    let credentials = Credentials::from_env().context("read registry credentials")?;
    let roots = Roots::of_the_machine().context("read the machine's certificates")?;
    let hosts = match &global.registries {
        // One that was named must be there.
        Some(dir) if !dir.is_dir() => bail!("--registries {}: it is not a directory", dir.display()),
        Some(dir) => Hosts::load(dir, &roots)?,
        None => Hosts::default(),
    };
    Ok(Some(Client::new(Options { mirrors, hosts, credentials, roots, ..Options::default() })))
}

/// Opens the store.
pub fn store(places: &Places) -> anyhow::Result<Store> {
    Store::open(places.store()).with_context(|| format!("open the store {}", places.store().display()))
}

/// Reads a lock; one that is missing pins nothing.
pub fn read_lock(path: &Path, must_exist: bool) -> anyhow::Result<Lock> {
    match fs::read_to_string(path) {
        Ok(text) => Lock::parse(&text).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => Ok(Lock::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// What a node is resolved with.
pub struct Pinning<'a> {
    /// The lock.
    pub lock_at: &'a Path,
    /// What may be asked.
    pub args: &'a PinArgs,
    /// Ask anew for what is pinned already.
    pub update: bool,
    /// What is built for.
    pub arch: Arch,
    /// The formats.
    pub formats: &'a [Format],
}

/// Pins a node's inputs and writes the lock if that added to it.
pub fn pin(
    files: &Files,
    pinning: &Pinning,
    places: &Places,
    store: &Store,
    client: Option<&Client>,
    report: &Report,
) -> anyhow::Result<Locked> {
    let Pinning { lock_at, args, update, arch, formats } = pinning;
    let before = if *update { Lock::default() } else { read_lock(lock_at, args.locked)? };
    let step = report.step("resolve");
    let sources = Sources {
        arch: *arch,
        lock: before.clone(),
        locked: args.locked,
        store,
        client,
        ask_anew: *update,
        apt: places.apt(),
        recipes: places.recipes.clone(),
        base: places.base.clone(),
    };
    let locked = resolve(files.node.clone(), formats, sources)?;
    step.done(&count(locked.images.len() + locked.layouts.len(), "image"));
    if locked.lock != before && locked.lock != Lock::default() && !args.locked {
        write_lock(lock_at, &locked.lock, report)?;
    }
    Ok(locked)
}

/// Writes a lock.
pub fn write_lock(path: &Path, lock: &Lock, report: &Report) -> anyhow::Result<()> {
    let dir = path.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut staging = crate::output::Staging::new(dir)?;
    let written = staging.add(&name, lock.to_json().as_bytes()).and_then(|()| staging.commit());
    written.with_context(|| format!("write the lock {} (--lock names another place)", path.display()))?;
    report.note(&format!("pinned in {}", path.display()));
    Ok(())
}

/// What a name stands for in the store. `nginx` alone may also be `kit/nginx`, which was made here.
pub fn named(store: &Store, name: &str) -> anyhow::Result<(Reference, Descriptor)> {
    let reference: Reference = name.parse()?;
    let made_here = || (!name.contains('/')).then(|| format!("kit/{name}").parse().ok()).flatten();
    for reference in [Some(reference.clone()), made_here()].into_iter().flatten() {
        if let Some(target) = store.resolve(&reference)? {
            return Ok((reference, target));
        }
    }
    bail!("the store has no image called {reference} (`kitbuild cache ls` lists those that it has)")
}

/// Writes an image of the store as an OCI archive.
pub fn export(store: &Store, image: Name, out: &Path) -> anyhow::Result<()> {
    let dir = out.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    let file_name = out.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some(file_name) = file_name else { bail!("`{}` is not the name of a file", out.display()) };
    let mut staging = crate::output::Staging::new(dir)?;
    let file = staging.begin(&file_name)?;
    let what = format!("export {}", image.reference);
    store.export(&[image], io::BufWriter::with_capacity(256 << 10, file)).context(what)?;
    staging.commit()?;
    Ok(())
}
