//! `kitbuild cache`.

use super::setup;
use crate::build::Places;
use crate::cli::{CacheCommand, Global, PullArgs};
use crate::report::{Report, size};
use crate::source::deb;
use anyhow::{Context, anyhow, bail};
use kit_oci::archive::Limits;
use kit_oci::pull::{self, Source};
use kit_oci::reference::Reference;
use kit_oci::store::{Name, Store, StoreError, Summary};
use oci_spec::image::Descriptor;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

pub fn run(global: &Global, what: CacheCommand, report: &Report) -> anyhow::Result<()> {
    let places = setup::places(global, PathBuf::from("."))?;
    let store = setup::store(&places)?;
    match what {
        CacheCommand::Ls => ls(&store, report),
        CacheCommand::Import { path, name } => import(&store, &path, name.as_deref(), report),
        CacheCommand::Pull(args) => pull(global, &store, &args, report),
        CacheCommand::Rm { names } => rm(&store, &places, &names, report),
        CacheCommand::Export { name, out } => export(&store, &name, &out, report),
        CacheCommand::Verify => verify(&store, report),
        CacheCommand::Clean { all } => clean(&store, &places, all, report),
    }
}

fn ls(store: &Store, report: &Report) -> anyhow::Result<()> {
    for Name { reference, target } in store.names().context("list the store")? {
        say(&reference, &target, &store.summary(&target)?, None, report);
    }
    Ok(())
}

fn import(store: &Store, path: &Path, name: Option<&str>, report: &Report) -> anyhow::Result<()> {
    let name = name.map(str::parse::<Reference>).transpose()?;
    let what = || format!("import {}", path.display());
    let images = if path.is_dir() {
        store.import_layout(path, name.as_ref()).with_context(what)?
    } else {
        let file = fs::File::open(path).with_context(what)?;
        store.import_archive(file, name.as_ref(), &Limits::default()).with_context(what)?
    };
    if images.is_empty() {
        bail!("{} holds no image", path.display());
    }
    for image in images {
        let digest = image.target.digest().to_string();
        if image.names.is_empty() {
            report.warning(&format!("{digest} has no name: give it one by --name, or it is swept"));
        }
        for name in image.names.iter().map(ToString::to_string) {
            report.result(
                &format!("{name} {digest}"),
                json!({"event": "imported", "name": name, "digest": digest}),
            );
        }
    }
    Ok(())
}

fn export(store: &Store, name: &str, out: &Path, report: &Report) -> anyhow::Result<()> {
    let (reference, target) = setup::named(store, name)?;
    setup::export(store, Name { reference, target }, out)?;
    report.result(&out.display().to_string(), json!({"event": "exported", "name": name, "path": out}));
    Ok(())
}

fn pull(global: &Global, store: &Store, args: &PullArgs, report: &Report) -> anyhow::Result<()> {
    let reference: Reference = args.name.parse()?;
    let client = setup::client(global, false)?.ok_or_else(|| anyhow!("the network may not be asked"))?;
    let blobs = report.blobs("fetch");
    let source = Source::registry(&client).progress(&blobs);
    let step = report.step(format!("pull {reference}"));
    let target = if args.all_platforms {
        let root = pull::resolve_root(&reference, store, &source)?;
        store.pull_whole(&reference, &root, &[], &source)?.root
    } else {
        let pinned = pull::resolve(&reference, &args.platform, store, &source)?;
        store.pull(&pinned, &source)?;
        Descriptor::new(pinned.media_type, pinned.size, pinned.digest)
    };
    let summary = store.summary(&target)?;
    step.done(&size(summary.size));
    say(&reference, &target, &summary, Some("pulled"), report);
    Ok(())
}

fn rm(store: &Store, places: &Places, names: &[String], report: &Report) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for name in names {
        found.push(setup::named(store, name)?.0);
    }
    for reference in &found {
        store.untag(reference).with_context(|| format!("forget {reference}"))?;
    }
    let freed = match store.gc(&deb::kept(&places.apt())) {
        Ok(swept) => swept.freed_bytes,
        Err(error @ StoreError::InUse { .. }) => {
            report.warning(&format!("{error}: blobs stay until `kitbuild cache clean`"));
            0
        }
        Err(error) => return Err(error).context("sweep the store"),
    };
    for reference in &found {
        let name = reference.to_string();
        report.result(&format!("removed {name}"), json!({"event": "removed", "name": name}));
    }
    report.note(&format!("{} freed", size(freed)));
    Ok(())
}

/// A line or an object about an image of the store.
fn say(name: &Reference, target: &Descriptor, summary: &Summary, event: Option<&str>, report: &Report) {
    let digest = target.digest().to_string();
    let platforms: Vec<String> = summary.platforms.iter().map(ToString::to_string).collect();
    let mut object = json!({
        "name": name.to_string(), "digest": digest, "mediaType": target.media_type(), "size": summary.size,
        "platforms": platforms, "complete": summary.missing == 0,
    });
    if let Some(event) = event {
        object["event"] = event.into();
    }
    let platforms = if platforms.is_empty() { "-".to_owned() } else { platforms.join(",") };
    let torn = if summary.missing == 0 { "" } else { "  incomplete" };
    report.result(
        &format!("{:<44} {digest} {:>9}  {platforms}{torn}", name.to_string(), size(summary.size)),
        object,
    );
}

fn verify(store: &Store, report: &Report) -> anyhow::Result<()> {
    let step = report.step("verify the store");
    let checked = store.verify().context("verify the store")?;
    step.done(&format!("{} blobs, {}", checked.blobs, size(checked.bytes)));
    for damaged in &checked.corrupt {
        report.warning(&format!("{}: {}", damaged.digest, damaged.mismatch));
    }
    if !checked.corrupt.is_empty() {
        bail!(
            "{} of {} blobs are damaged: `kitbuild cache clean` removes them",
            checked.corrupt.len(),
            checked.blobs
        );
    }
    Ok(())
}

fn clean(store: &Store, places: &Places, all: bool, report: &Report) -> anyhow::Result<()> {
    let layers = &places.layers();
    let derived = dir_size(layers);
    let mut roots = Vec::new();
    if layers.exists() {
        fs::remove_dir_all(layers).with_context(|| format!("remove {}", layers.display()))?;
    }
    if all {
        for name in store.names().context("list the store")? {
            store.untag(&name.reference).with_context(|| format!("forget {}", name.reference))?;
        }
        deb::forget(&places.apt()).context("forget packages")?;
    } else {
        roots = deb::kept(&places.apt());
    }
    let swept = store.gc(&roots).context("sweep the store")?;
    let text = format!(
        "removed {} blobs, {}, and {} of unpacked layers",
        swept.removed.len(),
        size(swept.freed_bytes),
        size(derived)
    );
    report.result(&text, json!({"event": "cleaned", "blobs": swept.removed.len(), "bytes": swept.freed_bytes, "derived": derived}));
    Ok(())
}

fn dir_size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => dir_size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
