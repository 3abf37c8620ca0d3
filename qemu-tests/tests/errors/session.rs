//! A directory to work in as a user does, and what is left in it afterwards.

use qemu_tests::guest::until;
use qemu_tests::kitbuild::run;
use qemu_tests::{Kitbuild, Missing};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// A directory with a `tmp` of its own, in which kitbuild is run.
pub struct Session {
    dir: tempfile::TempDir,
    kitbuild: Kitbuild,
}

impl Session {
    pub fn new() -> Result<Session, Missing> {
        let kitbuild = Kitbuild::staged()?;
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("tmp")).expect("a directory");
        Ok(Session { dir, kitbuild })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn program(&self) -> &Path {
        self.kitbuild.program()
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    pub fn text(&self, name: &str) -> String {
        fs::read(self.path(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(dir)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// kitbuild, here. What is temporary goes to this directory's own place; machines go where they always do.
    pub fn kitbuild(&self, words: &[&str]) -> Command {
        let mut command = self.kitbuild.command(words);
        command.current_dir(self.dir()).env("TMPDIR", self.path("tmp")).env_remove("XDG_RUNTIME_DIR");
        command
    }

    /// Pins and fetches a node's inputs.
    pub fn lock(&self, node: &str) {
        run(self.kitbuild(&["lock", "--lock", "lock", node])).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Starts a command whose output goes to a file.
    pub fn spawn(&self, command: &mut Command, output: &str) -> Child {
        let file = File::create(self.path(output)).expect("a file");
        let both = file.try_clone().expect("a descriptor");
        command.stdout(file).stderr(both).spawn().expect("kitbuild runs")
    }

    /// Nothing temporary is left.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left = self.names("tmp");
        assert!(left.is_empty(), "left in TMPDIR: {left:?}");
    }
}

/// Sends SIGINT, as a terminal does for ctrl-C.
pub fn interrupt(child: &Child) {
    let mut kill = Command::new("kill");
    kill.args(["-INT", &child.id().to_string()]);
    run(kill).unwrap_or_else(|error| panic!("{error}"));
}

/// Waits for a process's end; kills it when that takes too long.
pub fn wait(child: &mut Child, within: Duration) -> ExitStatus {
    let status = until(within, || child.try_wait().expect("a child"));
    status.unwrap_or_else(|| {
        let _ = child.kill();
        panic!("process {} did not end within {within:?}", child.id())
    })
}

/// Processes whose command line holds a text.
pub fn processes_with(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != std::process::id() && String::from_utf8_lossy(&line).contains(text) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}
