//! `kitbuild check` and `kitbuild schema`.

use super::setup::Files;
use crate::cli::FilesArg;
use crate::report::{Report, count};
use serde_json::json;

pub fn run(args: &FilesArg, report: &Report) -> anyhow::Result<()> {
    let files = Files::read(&args.files, report)?;
    let images = files.node.images().len();
    let names: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
    let text = format!("{}: valid, {} named", names.join(", "), count(images, "image"));
    report.result(&text, json!({"event": "valid", "files": names, "images": images}));
    Ok(())
}

pub fn schema(report: &Report) -> anyhow::Result<()> {
    report.out(&serde_json::to_string_pretty(&kit_spec::node::schema())?);
    Ok(())
}
