//! `kitbuild build`.

use super::setup::{self, Files, Pinning};
use crate::build::{Build, Places, build};
use crate::cli::{BuildArgs, Global, HowArgs, PinArgs};
use crate::report::{Report, size};
use anyhow::Context;
use kit_spec::artifact::{Artifact, Format};
use serde_json::json;
use std::path::{Path, PathBuf};

pub fn run(global: &Global, args: BuildArgs, report: &Report) -> anyhow::Result<()> {
    let files = Files::read(&args.files.files, report)?;
    if args.dry_run {
        report.out(files.node.to_yaml().trim_end());
        return Ok(());
    }
    let name = match args.name.clone() {
        Some(name) => name,
        None => files.output_name()?,
    };
    let mut formats = args.format.clone();
    let mut seen = std::collections::HashSet::new();
    formats.retain(|format| seen.insert(*format));
    let order = Order { name, formats: &formats, out: &args.out, pins: &args.pins, how: &args.how };
    for (artifact, path) in make(global, &files, &order, report)? {
        let total = size(artifact.files.iter().map(|file| file.size).sum());
        let names: Vec<&str> = artifact.files.iter().map(|file| file.path.as_str()).collect();
        let text = format!("{}: {} ({total})", artifact.format, names.join(" "));
        report.result(&text, json!({"event": "artifact", "path": path, "artifact": artifact}));
    }
    Ok(())
}

/// What is to be made of node files.
pub struct Order<'a> {
    pub name: String,
    pub formats: &'a [Format],
    pub out: &'a Path,
    pub pins: &'a PinArgs,
    pub how: &'a HowArgs,
}

/// Resolves, fetches and builds.
pub fn make(
    global: &Global,
    files: &Files,
    order: &Order,
    report: &Report,
) -> anyhow::Result<Vec<(Artifact, PathBuf)>> {
    crate::output::check_dir(order.out)?;
    let places: Places = setup::places(global, files.base())?;
    let store = setup::store(&places)?;
    let _hold = store.hold()?;
    let client = setup::client(global, order.pins.offline)?;
    let lock_at = files.lock_path(order.pins.lock.as_deref());
    let pinning = Pinning {
        lock_at: &lock_at,
        args: order.pins,
        update: false,
        arch: order.how.arch.into(),
        formats: order.formats,
    };
    let what = || format!("build {}", files.first.as_deref().unwrap_or(Path::new("-")).display());
    let locked = setup::pin(files, &pinning, &places, &store, client.as_ref(), report).with_context(what)?;
    let how = Build {
        places: &places,
        store: &store,
        client: client.as_ref(),
        name: order.name.clone(),
        formats: order.formats,
        out: order.out,
        epoch: order.how.epoch,
        threads: order.how.threads(),
    };
    build(&locked, &how, report).with_context(what)
}

impl HowArgs {
    /// Threads to compress with.
    pub fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.filter(|jobs| *jobs > 0).unwrap_or_else(all)
    }
}
