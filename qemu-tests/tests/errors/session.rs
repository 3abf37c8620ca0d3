//! A directory to work in as a user does, and what is left in it afterwards.

use qemu_tests::guest::until;
use qemu_tests::kitbuild::run;
use qemu_tests::{Kitbuild, Missing};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
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

    /// The same into `cache`, which no other test has.
    pub fn lock_into_own_cache(&self, node: &str) {
        let words = ["lock", "--lock", "lock", "--cache", "cache", node];
        run(self.kitbuild(&words)).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Leaves in the own cache only what was fetched.
    pub fn forget_what_is_derived(&self) {
        let layers = self.path("cache/layers");
        if layers.exists() {
            fs::remove_dir_all(layers).expect("a directory");
        }
    }

    /// The files in the own cache that are derived from what was fetched.
    pub fn derived(&self) -> Vec<String> {
        let dirs = self.names("cache/layers");
        let files = dirs.iter().flat_map(|dir| self.names(&format!("cache/layers/{dir}")));
        files.filter(|name| !name.starts_with('.')).collect()
    }

    /// What is derived has its lasting name: nothing is half written.
    #[track_caller]
    pub fn assert_only_whole_layers(&self) {
        for dir in self.names("cache/layers") {
            let names = self.names(&format!("cache/layers/{dir}"));
            assert!(names.iter().all(|name| is_whole_layer(name)), "left in the cache: {names:?}");
        }
    }

    /// Starts a command whose output goes to a file. It hears signals even where whoever runs the tests does not, as
    /// a job in the background of a shell does not hear ctrl-C.
    pub fn spawn(&self, command: &Command, output: &str) -> Child {
        let file = File::create(self.path(output)).expect("a file");
        let both = file.try_clone().expect("a descriptor");
        let mut hearing = Command::new("env");
        hearing.arg("--default-signal").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => hearing.env(name, value),
                None => hearing.env_remove(name),
            };
        }
        hearing.current_dir(self.dir()).stdin(Stdio::null()).stdout(file).stderr(both);
        hearing.spawn().expect("kitbuild runs")
    }

    /// Nothing temporary is left.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left = self.names("tmp");
        assert!(left.is_empty(), "left in TMPDIR: {left:?}");
    }
}

/// Sends a signal; INT is what a terminal sends for ctrl-C.
pub fn signal(child: &Child, name: &str) {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &child.id().to_string()]);
    run(kill).unwrap_or_else(|error| panic!("{error}"));
}

/// Whether a file of the cache is one that a build was done with.
pub fn is_whole_layer(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.starts_with("sha256-") && [".pack", ".layer"].iter().any(|end| name.ends_with(end))
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
