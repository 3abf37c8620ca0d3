//! A container's cgroup, as far as PID 1 deals with it: whose it is, killing all in it, and letting some live on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the tree is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";
/// Below it: processes that outlive their container (`stop: {kill: process}`), by the container's name.
const LEFT: &str = "kit/left";
/// How often processes are moved that fork meanwhile.
const ROUNDS: usize = 16;

/// The cgroup of a process, from the tree's root on.
pub fn of_process(pid: i32) -> Option<String> {
    of_text(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The line `0::/PATH` (cgroups(7)). The root itself is nobody's own.
fn of_text(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (path.len() > 1 && !path.split('/').any(|part| part == "..")).then(|| path.to_owned())
}

fn dir(cgroup: &str) -> PathBuf {
    Path::new(ROOT).join(cgroup.trim_start_matches('/'))
}

/// Kills every process in a cgroup and below it.
///
/// # Errors
/// The kernel's.
pub fn kill(cgroup: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(dir(cgroup).join("cgroup.kill"))
        .and_then(|mut file| io::Write::write_all(&mut file, b"1"))
}

/// Moves all processes in a cgroup and below it to a place of their own, where nothing of the container is.
pub fn move_out(cgroup: &str, id: &str) {
    let left = Path::new(ROOT).join(LEFT).join(id);
    let from = dir(cgroup);
    if processes(&from).is_empty() || fs::create_dir_all(&left).is_err() {
        return;
    }
    for _ in 0..ROUNDS {
        let all = processes(&from);
        if all.is_empty() {
            return;
        }
        for pid in all {
            let _ = fs::write(left.join("cgroup.procs"), pid);
        }
    }
}

fn processes(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        all.extend(text.lines().map(str::to_owned));
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        dirs.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_known_by_the_line_of_the_unified_tree() {
        assert_eq!(of_text("0::/kitc/web\n").as_deref(), Some("/kitc/web"));
        assert_eq!(of_text("1:cpu:/x\n0::/web\n").as_deref(), Some("/web"));
        assert_eq!(of_text("0::/\n"), None);
        assert_eq!(of_text("0::/../x\n"), None);
        assert_eq!(of_text("1:cpu:/x\n"), None);
    }

    #[test]
    fn processes_are_found_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("cgroup.procs"), "1\n2\n").unwrap();
        fs::write(dir.path().join("a/b/cgroup.procs"), "3\n").unwrap();
        assert_eq!(processes(dir.path()), ["1", "2", "3"]);
    }
}
