//! `kitbuild image`: recipes.

use super::setup;
use crate::cli::{Global, ImageCommand};
use crate::report::Report;
use crate::source::recipe::Recipe;
use serde_json::json;
use std::path::PathBuf;

pub fn run(global: &Global, what: ImageCommand, report: &Report) -> anyhow::Result<()> {
    match what {
        ImageCommand::Ls => ls(global, report),
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
            json!({"name": format!("kit/{name}"), "dir": dir}),
        );
    }
    Ok(())
}
