//! `kitbuild image`: recipes, and images made of them.

use super::setup;
use crate::build::Places;
use crate::cli::{Global, ImageArgs, ImageBuildArgs, ImageCommand, ImagePushArgs};
use crate::fetch;
use crate::image::{self, Image};
use crate::layers::Layers;
use crate::oci_image;
use crate::report::{Report, Style, count, size};
use crate::resolve::{Pinned, Sources, resolve_image};
use crate::source::deb;
use crate::source::recipe::Recipe;
use anyhow::{Context, anyhow, bail};
use kit_disk::squashfs::Settings;
use kit_oci::reference::Reference;
use kit_oci::store::{Name, Store};
use kit_spec::lock::PackagePin;
use kit_spec::node::image::ImageRef;
use kit_spec::tree::Kind;
use serde_json::json;
use std::path::{Path, PathBuf};

pub fn run(global: &Global, what: ImageCommand, report: &Report) -> anyhow::Result<()> {
    match what {
        ImageCommand::Ls => ls(global, report),
        ImageCommand::Build(args) => build(global, &args, report),
        ImageCommand::Inspect(args) => inspect(global, &args, report),
        ImageCommand::Push(args) => push(global, &args, report),
    }
}

fn ls(global: &Global, report: &Report) -> anyhow::Result<()> {
    let places = setup::places(global, PathBuf::from("."))?;
    let mut names = std::collections::BTreeMap::new();
    for dir in &places.recipes {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries.flatten().filter(|entry| entry.path().join("image.yml").is_file()) {
            names.entry(entry.file_name().to_string_lossy().into_owned()).or_insert_with(|| entry.path());
        }
    }
    for (name, dir) in names {
        let recipe = Recipe::read(&dir)?;
        let parts = recipe.programs.iter().map(|(_, program)| program.clone());
        let parts: Vec<String> =
            parts.chain(recipe.deb.iter().map(|deb| format!("deb:{}", deb.package))).collect();
        report.result(
            &format!("kit/{name:<12} {}", parts.join(" ")),
            json!({"name": format!("kit/{name}"), "dir": dir, "parts": parts}),
        );
    }
    Ok(())
}

/// An image put together from a recipe or packages.
struct Made<'a> {
    /// `kit/NAME`, or the packages as they were asked for.
    name: String,
    image: Image,
    layers: Layers<'a>,
    packages: Vec<PackagePin>,
}

/// What is meant: a directory with a recipe, packages, or the name of a recipe.
fn meant(what: &str) -> anyhow::Result<(ImageRef, Option<PathBuf>)> {
    let dir = Path::new(what);
    if dir.join("image.yml").is_file() {
        let name = Recipe::read(dir)?.name;
        return Ok((format!("kit/{name}").parse()?, Some(dir.to_owned())));
    }
    let named = if what.starts_with("deb:") || what.starts_with("kit/") || what.contains('/') {
        what.parse::<ImageRef>()
    } else {
        format!("kit/{what}").parse()
    };
    match named.with_context(|| format!("`{what}`"))? {
        image @ (ImageRef::Recipe(_) | ImageRef::Debian(_)) => Ok((image, None)),
        _ => bail!(
            "`{what}` is neither a recipe's name, nor a directory with an image.yml, nor `deb:PACKAGE,..`"
        ),
    }
}

fn make<'a>(
    places: &Places,
    store: &'a Store,
    global: &Global,
    args: &ImageArgs,
    report: &'a Report,
) -> anyhow::Result<Made<'a>> {
    let (reference, dir) = meant(&args.image)?;
    let client = setup::client(global, args.offline)?;
    let lock = match &args.lock {
        Some(path) => setup::read_lock(path, args.locked)?,
        None if args.locked => bail!("--locked needs --lock PATH: an image has no lock of its own"),
        None => Default::default(),
    };
    let step = report.step("resolve");
    let sources = Sources {
        arch: args.how.arch.into(),
        lock: lock.clone(),
        locked: args.locked,
        store,
        client: client.as_ref(),
        ask_anew: false,
        apt: places.apt(),
        recipes: places.recipes.clone(),
        base: places.base.clone(),
    };
    let (pinned, new_lock) = resolve_image(&reference, dir.as_deref(), sources)?;
    let mut packages: Vec<PackagePin> = pinned.packages().cloned().collect();
    packages.sort();
    packages.dedup();
    step.done(&count(packages.len(), "package"));
    if let Some(path) = args.lock.as_deref().filter(|_| !args.locked) {
        // Pins for other images and architectures are kept.
        let mut all = lock.clone();
        for (arch, pins) in new_lock.packages {
            all.packages.entry(arch).or_default().extend(pins);
        }
        if all != lock {
            setup::write_lock(path, &all, report)?;
        }
    }
    let arch = args.how.arch.into();
    fetch::packages(packages.iter(), arch, store, client.is_some(), &places.apt(), report)?;
    let step = report.step("put together");
    let mut layers = Layers::new(store, &places.layers(), Settings::default(), args.how.threads());
    let blobs = packages.iter().filter_map(|pin| Some((deb::digest(pin).ok()?, pin.size)));
    layers.begin_packing(blobs, report);
    let epoch = i64::from(args.how.epoch);
    let image = match &pinned {
        Pinned::Packages(pins) => image::from_packages(&mut layers, pins, epoch),
        Pinned::Recipe(recipe, pins) => {
            image::check_programs(recipe, &places.programs, arch)?;
            image::from_recipe(&mut layers, recipe, pins, &places.programs, epoch)
        }
        Pinned::Registry(..) | Pinned::Local(..) => bail!("{reference} is an image already"),
    };
    let image = image.with_context(|| format!("image {reference}"))?;
    layers.end_packing();
    step.done(&format!("{} files", image.tree.walk().count()));
    Ok(Made { name: reference.to_string(), image, layers, packages })
}

fn build(global: &Global, args: &ImageBuildArgs, report: &Report) -> anyhow::Result<()> {
    if args.tag.is_none() && args.image.image.starts_with("deb:") {
        bail!("an image of packages has no name of its own: give it one by --tag");
    }
    let places = setup::places(global, PathBuf::from("."))?;
    let store = setup::store(&places)?;
    let hold = store.hold()?;
    let made = make(&places, &store, global, &args.image, report)
        .with_context(|| format!("build {}", args.image.image))?;
    let name = match &args.tag {
        Some(tag) => tag.parse::<Reference>().with_context(|| format!("--tag {tag}"))?,
        None => made.name.parse()?,
    };
    let step = report.step("write the layer");
    let how = &args.image.how;
    let target = oci_image::put(&store, &made.image, &made.layers.contents, how.arch.into(), how.epoch)
        .with_context(|| format!("build {name}"))?;
    store.tag(&name, &target).with_context(|| format!("name {name}"))?;
    drop(hold);
    let bytes = store.summary(&target)?.size;
    step.done(&size(bytes));
    if let Some(out) = &args.out {
        setup::export(&store, Name { reference: name.clone(), target: target.clone() }, out)?;
    }
    let digest = target.digest().to_string();
    let text = match &args.out {
        Some(out) => format!("{name} {digest} {}", out.display()),
        None => format!("{name} {digest}"),
    };
    let object = json!({"event": "image", "name": name.to_string(), "digest": digest, "size": bytes, "path": args.out});
    report.result(&text, object);
    Ok(())
}

fn inspect(global: &Global, args: &ImageArgs, report: &Report) -> anyhow::Result<()> {
    let places = setup::places(global, PathBuf::from("."))?;
    let store = setup::store(&places)?;
    let _hold = store.hold()?;
    let Made { name, image, packages, .. } =
        make(&places, &store, global, args, report).with_context(|| format!("inspect {}", args.image))?;
    let (mut files, mut bytes) = (0u64, 0u64);
    for (_, _, inode) in image.tree.walk() {
        if let Kind::File { len, .. } = inode.kind() {
            files += 1;
            bytes += len;
        }
    }
    let config = &image.config;
    let object = json!({
        "name": name,
        "files": files,
        "size": bytes,
        "packages": packages,
        "config": {
            "entrypoint": config.entrypoint, "cmd": config.cmd, "env": config.env,
            "workingDir": config.working_dir, "user": config.user, "labels": config.labels,
        },
    });
    if report.style() == Style::Json {
        report.event(object);
        return Ok(());
    }
    report.out(&format!("{name}: {files} files, {}", size(bytes)));
    for (key, words) in [("entrypoint", &config.entrypoint), ("cmd", &config.cmd), ("env", &config.env)] {
        if !words.is_empty() {
            report.out(&format!("  {key:<11} {}", words.join(" ")));
        }
    }
    for (key, word) in [("workingDir", &config.working_dir), ("user", &config.user)] {
        if !word.is_empty() {
            report.out(&format!("  {key:<11} {word}"));
        }
    }
    for (key, value) in &config.labels {
        report.out(&format!("  label       {key}={value}"));
    }
    for pin in &packages {
        report.out(&format!("  package     {:<28} {:<28} {:>9}", pin.name, pin.version, size(pin.size)));
    }
    Ok(())
}

fn push(global: &Global, args: &ImagePushArgs, report: &Report) -> anyhow::Result<()> {
    let places = setup::places(global, PathBuf::from("."))?;
    let store = setup::store(&places)?;
    let (name, target) = setup::named(&store, &args.name)?;
    let to = match &args.reference {
        Some(to) => to.parse::<Reference>().with_context(|| format!("`{to}`"))?,
        None => name,
    };
    if to.tag().is_none() {
        bail!("{to} has no tag: what is pushed needs one to be found by");
    }
    let client = setup::client(global, false)?.ok_or_else(|| anyhow!("the network may not be asked"))?;
    let step = report.step(format!("push {to}"));
    store.push(&target, &to, &client, &report.blobs("push"))?;
    let bytes = store.summary(&target)?.size;
    step.done(&size(bytes));
    let digest = target.digest().to_string();
    report.result(
        &format!("{to} {digest}"),
        json!({"event": "pushed", "name": to.to_string(), "digest": digest, "size": bytes}),
    );
    Ok(())
}
