//! `kitbuild lock`.

use super::setup::{self, Files, Pinning};
use crate::cli::{Global, LockArgs, PinArgs};
use crate::fetch::fetch;
use crate::report::{Report, count};
use anyhow::Context;
use kit_spec::artifact::Format;
use serde_json::json;

pub fn run(global: &Global, args: LockArgs, report: &Report) -> anyhow::Result<()> {
    let files = Files::read(&args.files.files, report)?;
    let places = setup::places(global, files.base())?;
    let store = setup::store(&places)?;
    let _hold = store.hold()?;
    let client = setup::client(global, false)?;
    let lock_at = files.lock_path(args.lock.as_deref());
    let pins = PinArgs { lock: args.lock.clone(), locked: false, offline: false };
    let pinning = Pinning {
        lock_at: &lock_at,
        args: &pins,
        update: args.update,
        arch: args.how.arch.into(),
        formats: &Format::ALL,
    };
    let locked = setup::pin(&files, &pinning, &places, &store, client.as_ref(), report)?;
    fetch(&locked, &store, client.as_ref(), &places.apt(), report).context("fetch inputs")?;
    let packages = locked.packages().count();
    let images = locked.lock.images.values().map(std::collections::BTreeMap::len).sum::<usize>();
    let text = format!(
        "{}: {}, {}, all in the store",
        lock_at.display(),
        count(images, "image"),
        count(packages, "package")
    );
    report.result(&text, json!({"event": "lock", "path": lock_at, "images": images, "packages": packages}));
    Ok(())
}
