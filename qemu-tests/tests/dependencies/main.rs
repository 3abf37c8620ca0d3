//! What the project is made of: licences, sources, versions. The rules of deny.toml, held without cargo-deny.

mod licence;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use std::collections::{BTreeMap, BTreeSet};

/// Licences whose terms the project keeps by shipping its notices.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages that are there in more than one version, and why nothing can be done about it here.
const TWICE: &[(&str, &str)] = &[
    ("base64", "tonic is still on 0.22"),
    ("embedded-io", "in the graph for optional features of postcard that nobody asks for; not built"),
    ("getrandom", "ring, below rustls, is still on 0.2"),
    ("hashbrown", "petgraph, below prost-build, is still on 0.15; at build time only"),
    ("prettyplease", "tonic-build and prost-build are on both sides of its 0.3; at build time only"),
    ("syn", "procedural macros on both sides of its version 3; at build time only"),
    ("unicode-width", "miette, below protox, is still on 0.1; at build time only"),
];

fn metadata() -> Metadata {
    let manifest = qemu_tests::workspace().join("Cargo.toml");
    let options = ["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned);
    MetadataCommand::new().manifest_path(manifest).other_options(options).exec().expect("cargo metadata")
}

/// Every package that a build of the workspace and its tests contains.
fn used(metadata: &Metadata) -> Vec<&Package> {
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let mut todo: Vec<&PackageId> = metadata.workspace_members.iter().collect();
    let mut seen: BTreeSet<&PackageId> = todo.iter().copied().collect();
    while let Some(id) = todo.pop() {
        let node = resolve.nodes.iter().find(|node| node.id == *id).expect("a node of the graph");
        let member = metadata.workspace_members.contains(id);
        for dependency in &node.deps {
            // Development dependencies of others are not built.
            let built =
                dependency.dep_kinds.iter().any(|kind| member || kind.kind != DependencyKind::Development);
            if built && seen.insert(&dependency.pkg) {
                todo.push(&dependency.pkg);
            }
        }
    }
    metadata.packages.iter().filter(|package| seen.contains(&package.id)).collect()
}

#[test]
fn every_licence_is_one_that_the_project_can_keep() {
    let metadata = metadata();
    let refused: Vec<String> = used(&metadata)
        .into_iter()
        .filter_map(|package| {
            let said = package.license.as_deref().unwrap_or_default();
            let kept = licence::is_satisfied(said, |licence| LICENCES.contains(&licence));
            (!kept).then(|| format!("{} {}: `{said}`", package.name, package.version))
        })
        .collect();
    assert!(refused.is_empty(), "licences that are not in the list:\n  {}", refused.join("\n  "));
}

#[test]
fn packages_come_from_a_registry_or_the_workspace() {
    let metadata = metadata();
    let foreign: Vec<String> = used(&metadata)
        .into_iter()
        .filter(|package| match &package.source {
            Some(source) => !source.repr.starts_with("registry+"),
            None => !metadata.workspace_members.contains(&package.id),
        })
        .map(|package| format!("{} from {:?}", package.name, package.source))
        .collect();
    assert!(foreign.is_empty(), "packages from elsewhere: {foreign:?}");
}

#[test]
fn packages_are_there_in_one_version() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in used(&metadata) {
        versions.entry(package.name.as_str()).or_default().insert(package.version.to_string());
    }
    let several: Vec<String> = versions
        .iter()
        .filter(|(name, versions)| versions.len() > 1 && !TWICE.iter().any(|(twice, _)| twice == *name))
        .map(|(name, versions)| {
            format!("{name}: {}", versions.iter().cloned().collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert!(several.is_empty(), "packages in several versions:\n  {}", several.join("\n  "));
    let stale: Vec<&str> = TWICE
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| versions.get(name).is_none_or(|v| v.len() < 2))
        .collect();
    assert!(stale.is_empty(), "listed as there twice, and are not any more: {stale:?}");
}
