//! What was built: every program is one file.

use crate::assert_none;
use std::path::PathBuf;
use std::process::Command;

/// The staged programs: kitbuild's directory and that of a node's programs.
fn staged() -> Option<Vec<PathBuf>> {
    let dirs = ["KIT_BIN_DIR", "KIT_PROGRAMS"].map(std::env::var_os);
    if dirs.iter().any(Option::is_none) {
        println!("skipped: KIT_BIN_DIR and KIT_PROGRAMS are not set; `make test` sets them");
        return None;
    }
    let mut programs = Vec::new();
    for dir in dirs.into_iter().flatten() {
        let entries = std::fs::read_dir(&dir).expect("a directory of staged programs");
        programs.extend(entries.map(|entry| entry.expect("a directory entry").path()));
    }
    programs.sort();
    assert!(programs.len() >= 7, "too few programs are staged: {programs:?}");
    Some(programs)
}

#[test]
fn programs_need_no_shared_library() {
    let Some(programs) = staged() else { return };
    let mut found = Vec::new();
    for program in programs {
        let output = match Command::new("readelf")
            .args(["--wide", "--dynamic", "--program-headers"])
            .arg(&program)
            .output()
        {
            Ok(output) => output,
            Err(error) => return println!("skipped: readelf (package binutils): {error}"),
        };
        assert!(
            output.status.success(),
            "{}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let needs =
            text.lines().filter(|line| line.contains("(NEEDED)") || line.trim_start().starts_with("INTERP"));
        found.extend(needs.map(|line| format!("{}: {}", program.display(), line.trim())));
    }
    assert_none("programs that need a shared library or a loader", &found);
}
