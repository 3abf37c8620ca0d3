//! `kitbuild inspect` and `kitbuild formats`.

use super::setup::Files;
use crate::cli::InspectArgs;
use crate::report::{Report, Style, size};
use anyhow::Context;
use kit_spec::artifact::{Artifact, Format};
use serde_json::json;
use std::fs;
use std::path::Path;

pub fn run(args: &InspectArgs, report: &Report) -> anyhow::Result<()> {
    if args.file.extension().is_some_and(|end| end == "json") {
        return artifact(&args.file, report);
    }
    let files = Files::read(std::slice::from_ref(&args.file), report)?;
    report.out(&serde_json::to_string_pretty(&files.node)?);
    Ok(())
}

fn artifact(path: &Path, report: &Report) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let artifact = Artifact::parse(&text).with_context(|| format!("read {}", path.display()))?;
    if report.style() == Style::Json {
        report.event(json!({"event": "artifact", "path": path, "artifact": artifact}));
        return Ok(());
    }
    report.out(&format!(
        "{} {} for {}",
        artifact.name,
        artifact.format,
        serde_json::to_string(&artifact.arch)?
    ));
    for file in &artifact.files {
        report.out(&format!("  {:<40} {:>10}  sha256:{}", file.path, size(file.size), file.sha256));
    }
    Ok(())
}

pub fn formats(report: &Report) {
    for format in Format::ALL {
        let what = match format {
            Format::KernelInitrd => "NAME-kernel, NAME-initrd.img (carries the root), NAME-cmdline",
            Format::KernelSquashfs => {
                "NAME-kernel, NAME-squashfs-initrd.img, NAME-squashfs.img (the root, a disk), NAME-cmdline"
            }
            Format::Iso => "NAME.iso: BIOS and UEFI, CD and USB stick",
            Format::RawEfi => "NAME-efi.img: a disk for UEFI",
            Format::Tar => "NAME.tar: the root, with the kernel in boot/",
        };
        report.result(&format!("{:<16} {what}", format.name()), json!({"format": format, "files": what}));
    }
}
