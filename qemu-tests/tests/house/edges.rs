//! Arrows between crates, and what may be in the tree of each.

use crate::{assert_none, workspace};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use std::process::Command;

/// Which package may depend on which of the workspace's; arrows lead downward only. A new arrow is the rarest of
/// changes: it is named in the summary of its commit and in ARCHITECTURE.md.
const MAY: &[(&str, &[&str])] = &[
    // 0: words
    ("kit-spec", &[]),
    ("kit-cri", &[]),
    // 1: mechanisms
    ("kit-disk", &["kit-spec"]),
    ("kit-oci", &["kit-spec"]),
    ("kit-machine", &["kit-spec"]),
    // 2: engine
    ("kit-runtime", &["kit-oci", "kit-cri"]),
    // 3: programs
    ("kitbuild", &["kit-spec", "kit-oci", "kit-disk", "kit-machine"]),
    ("kit-init", &["kit-spec"]),
    ("kit-vmm", &["kit-spec"]),
    ("kit-agents", &["kit-spec", "kit-cri"]),
    ("infrakit", &["kit-spec", "kit-disk", "kit-machine"]),
    ("kit-net", &["kit-spec"]),
    ("kit-sysctl", &["kit-spec"]),
    // 4: judges
    ("qemu-tests", &["kit-spec", "kit-machine"]),
];

/// Packages whose code blocks: an executor in their tree is a second way to do everything.
const BLOCKING: &[&str] = &[
    "kit-spec",
    // Its messages; a program that asks for client or server drives them itself.
    "kit-cri",
    "kit-disk",
    "kit-oci",
    "kit-machine",
    "kitbuild",
    "kit-init",
    "kit-vmm",
    "kit-net",
    "kit-sysctl",
];

/// What blocking packages do not depend on, by themselves or through others.
const EXECUTORS: &[&str] = &["tokio", "async-std", "smol", "futures-executor"];

/// Packages of programs that run on a node and speak to nobody but the kernel, and what has no place in their trees: the
/// YAML parser, TLS and HTTP, everything async.
const ON_A_NODE: &[&str] = &["kit-init", "kit-net", "kit-sysctl"];
const NOT_ON_A_NODE: &[&str] =
    &["granit-parser", "serde-saphyr", "schemars", "rustls", "ureq", "clap", "tokio", "zstd-sys"];

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(workspace().join("Cargo.toml")).no_deps().other_options(["--offline".to_owned()]);
    command.exec().expect("cargo metadata")
}

fn is_local(metadata: &Metadata, name: &str) -> bool {
    metadata.packages.iter().any(|package| package.name.as_str() == name)
}

fn forbidden(metadata: &Metadata, package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, may)) = MAY.iter().find(|(package, _)| *package == name) else {
        return vec![format!("{name} is in no floor: give it a place in the table of this test")];
    };
    let local = package.dependencies.iter().map(|dependency| dependency.name.as_str());
    let local = local.filter(|other| is_local(metadata, other) && !may.contains(other) && *other != name);
    local.map(|other| format!("{name} depends on {other}")).collect()
}

#[test]
fn arrows_between_crates_lead_downward() {
    let metadata = metadata();
    let found: Vec<String> =
        metadata.packages.iter().flat_map(|package| forbidden(&metadata, package)).collect();
    assert_none("arrows that the house does not have", &found);
}

#[test]
fn the_table_of_arrows_has_no_cycle() {
    for (at, (name, may)) in MAY.iter().enumerate() {
        for other in *may {
            let place = MAY.iter().position(|(package, _)| package == other);
            assert!(place.is_some_and(|place| place < at), "{name} -> {other} does not lead downward");
        }
    }
}

/// The packages that a package's own build contains, as `cargo tree` counts features: for it alone.
fn tree(package: &str) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    command.args(["--target", "x86_64-unknown-linux-gnu", "--package", package]).current_dir(workspace());
    let output = command.output().expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn found_in_trees(packages: &[&str], unwanted: &[&str]) -> Vec<String> {
    let metadata = metadata();
    let there = packages.iter().filter(|package| is_local(&metadata, package));
    let mut found = Vec::new();
    for package in there {
        let tree = tree(package);
        let hits = unwanted.iter().filter(|name| tree.iter().any(|one| one == *name));
        found.extend(hits.map(|name| format!("{package} contains {name}")));
    }
    found
}

#[test]
fn blocking_crates_have_no_executor() {
    assert_none("executors in blocking crates", &found_in_trees(BLOCKING, EXECUTORS));
}

#[test]
fn programs_of_a_node_carry_no_parser_of_the_network_or_of_yaml() {
    assert_none("what a node's programs do not carry", &found_in_trees(ON_A_NODE, NOT_ON_A_NODE));
}

/// `kitc` is built of the package `kit-runtime` without its feature `daemon`.
#[test]
fn kitc_carries_nothing_of_the_daemon() {
    const OF_THE_DAEMON: &[&str] =
        &["kit-oci", "kit-cri", "rustls", "ureq", "tokio", "zstd-sys", "flate2", "tar"];
    assert_none("what is for the daemon only", &found_in_trees(&["kit-runtime"], OF_THE_DAEMON));
}

#[test]
fn judges_link_no_program() {
    let tree = tree("qemu-tests");
    let linked: Vec<String> = ["kitbuild", "kit-init", "kit-runtime", "kit-vmm", "kit-agents", "infrakit"]
        .into_iter()
        .filter(|program| tree.iter().any(|one| one == program))
        .map(str::to_owned)
        .collect();
    assert_none("programs that the judges link", &linked);
}
