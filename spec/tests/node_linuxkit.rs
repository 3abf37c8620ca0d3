//! LinuxKit's own node files: what it accepts is accepted, what it refuses is refused.
//!
//! Runs over a checkout that `KIT_LINUXKIT_DIR` names.

use kit_spec::node::{Node, Source};
use std::path::{Path, PathBuf};

/// What LinuxKit refuses, and the line where we say so. All but the last are refused by `linuxkit build --dry-run`; the
/// last one by the build itself, which that test of LinuxKit's own asserts.
const REFUSED: [(&str, usize); 5] = [
    ("examples/static-ip.yml", 28),
    ("projects/clear-containers/clear-containers.yml", 10),
    ("projects/compose/docker-compose.yml", 1),
    ("test/cases/000_build/091_validate_linuxkit_yaml/linuxkit.yml", 1),
    ("test/cases/000_build/070_volumes/002_rw_on_ro/test.yml", 12),
];

#[test]
fn what_linuxkit_accepts_is_accepted_and_what_it_refuses_is_refused() {
    let Some(dir) = std::env::var_os("KIT_LINUXKIT_DIR").map(PathBuf::from) else {
        println!("skipped: KIT_LINUXKIT_DIR is not set");
        return;
    };
    let mut files = Vec::new();
    node_files(&dir, &mut files);
    files.sort();
    let (mut accepted, mut refused, mut warnings) = (0, 0, 0);
    let mut wrong = String::new();
    for path in &files {
        let name = path.strip_prefix(&dir).unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let expected = REFUSED.iter().find(|(refused, _)| *refused == name);
        match (Node::parse(&[Source { name, text: &text }]), expected) {
            (Ok((node, warned)), None) => {
                accepted += 1;
                let text = node.to_yaml();
                let again = Node::parse(&[Source { name, text: &text }]).map(|(again, _)| again == node);
                if !again.unwrap_or(false) {
                    wrong += &format!("{name}: does not read back from\n{text}\n");
                }
                warnings += warned.len();
                warned.iter().for_each(|warning| println!("{warning}\n"));
            }
            (Err(errors), Some((_, line))) => {
                refused += 1;
                println!("{errors}\n");
                if errors.errors()[0].line != *line {
                    wrong += &format!("{name}: refused on line {}\n", errors.errors()[0].line);
                }
            }
            (Ok(_), Some(_)) => wrong += &format!("{name}: accepted\n"),
            (Err(errors), None) => wrong += &format!("{name}: refused\n{errors}\n"),
        }
    }
    println!("{} files: {accepted} accepted with {warnings} warnings, {refused} refused", files.len());
    assert!(wrong.is_empty(), "{wrong}");
}

/// Files that have one of the lists of containers or images at their top, outside of vendored code.
fn node_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() && path.file_name().is_some_and(|name| name != "vendor") {
            node_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lists = ["init:", "onboot:", "services:"];
            if text.lines().any(|line| lists.iter().any(|list| line.starts_with(list))) {
                files.push(path);
            }
        }
    }
}
