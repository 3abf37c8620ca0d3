//! `kitbuild cache`.

use super::setup;
use crate::build::Places;
use crate::cli::{CacheCommand, Global};
use crate::report::{Report, size};
use crate::source::deb;
use anyhow::{Context, anyhow, bail};
use kit_oci::archive::Limits;
use kit_oci::reference::Reference;
use kit_oci::store::{Name, Store};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

pub fn run(global: &Global, what: CacheCommand, report: &Report) -> anyhow::Result<()> {
    let places = setup::places(global, PathBuf::from("."))?;
    let store = setup::store(&places)?;
    match what {
        CacheCommand::Ls => ls(&store, report),
        CacheCommand::Import { path, name } => import(&store, &path, name.as_deref(), report),
        CacheCommand::Export { name, out } => export(&store, &name, &out, report),
        CacheCommand::Verify => verify(&store, report),
        CacheCommand::Clean { all } => clean(&store, &places, all, report),
    }
}

fn ls(store: &Store, report: &Report) -> anyhow::Result<()> {
    for name in store.names().context("list the store")? {
        let digest = name.target.digest().to_string();
        report.result(
            &format!("{:<60} {digest}", name.reference.to_string()),
            json!({"name": name.reference.to_string(), "digest": digest}),
        );
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
    let reference: Reference = name.parse()?;
    let dir = out.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    let file_name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let target =
        store.resolve(&reference)?.ok_or_else(|| anyhow!("the store has no image called {reference}"))?;
    let mut staging = crate::output::Staging::new(dir)?;
    let file = staging.begin(&file_name)?;
    store.export(&[Name { reference, target }], file).with_context(|| format!("export {name}"))?;
    staging.commit()?;
    report.result(&out.display().to_string(), json!({"event": "exported", "name": name, "path": out}));
    Ok(())
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
