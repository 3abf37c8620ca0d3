//! A bundle to run, and what tests ask about it.

use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything in a test may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

const APPLETS: [&str; 29] = [
    "sh", "true", "false", "cat", "ls", "echo", "sleep", "id", "mount", "stat", "touch", "mkdir", "mknod",
    "hostname", "grep", "head", "kill", "readlink", "tty", "chmod", "env", "dd", "ps", "rm", "stty", "pwd",
    "wc", "umount", "chroot",
];

/// A container's name, bundle and root directory.
pub struct Bundle {
    dir: tempfile::TempDir,
    pub id: String,
    pub config: Value,
    pub program: PathBuf,
}

/// Makes a bundle, or says why the test is skipped and returns from it.
macro_rules! bundle {
    () => {
        match $crate::support::Bundle::new() {
            Ok(bundle) => bundle,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        }
    };
}
pub(crate) use bundle;

impl Bundle {
    pub fn new() -> Result<Bundle, &'static str> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("needs root");
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|p| Path::new(p).exists());
        let busybox = busybox.ok_or("needs busybox (package busybox-static)")?;
        let dir = tempfile::tempdir().map_err(|_| "needs a directory for temporary files")?;
        let path = dir.path();
        // User namespaces must be able to get in.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc", "run"] {
            fs::create_dir_all(path.join("rootfs").join(name)).unwrap();
        }
        fs::hard_link(busybox, path.join("rootfs/bin/busybox"))
            .or_else(|_| fs::copy(busybox, path.join("rootfs/bin/busybox")).map(drop))
            .unwrap();
        for applet in APPLETS {
            symlink("busybox", path.join("rootfs/bin").join(applet)).unwrap();
        }
        let id = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config = config(&id);
        Ok(Bundle { dir, id, config, program: env!("CARGO_BIN_EXE_kitc").into() })
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path inside the root file system.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.path().join("rootfs").join(path)
    }

    /// Lets the container run a shell script.
    pub fn sh(&mut self, script: &str) -> &mut Bundle {
        self.set("/process/args", json!(["/bin/sh", "-c", script]))
    }

    /// Replaces the value at a JSON pointer; its parent is there.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = self.config.pointer_mut(parent).unwrap();
        parent[key] = value;
        self
    }

    /// Appends to the list at a JSON pointer.
    pub fn add(&mut self, pointer: &str, value: Value) -> &mut Bundle {
        let list = self.config.pointer_mut(pointer).unwrap();
        if list.is_null() {
            *list = json!([]);
        }
        list.as_array_mut().unwrap().push(value);
        self
    }

    /// Removes a namespace from the list.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Bundle {
        let list = self.config.pointer_mut("/linux/namespaces").unwrap().as_array_mut().unwrap();
        list.retain(|n| n["type"] != kind);
        self
    }

    /// Gives the container all capabilities.
    pub fn all_capabilities(&mut self) -> &mut Bundle {
        let output = Command::new(&self.program).arg("features").output().unwrap();
        let features: Value = serde_json::from_slice(&output.stdout).unwrap();
        // What this machine's own bounding set does not have cannot be given.
        let bounding = status_field("/proc/self/status", "CapBnd");
        let names: Vec<Value> = features["linux"]["capabilities"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
            .filter(|(number, _)| bounding & (1 << number) != 0)
            .map(|(_, name)| name.clone())
            .collect();
        for set in ["bounding", "effective", "permitted"] {
            self.set(&format!("/process/capabilities/{set}"), Value::Array(names.clone()));
        }
        self
    }

    /// Writes the configuration and prepares a call of `kitc`.
    pub fn command(&self, args: &[&str]) -> Command {
        fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.path().join("state")).args(args).current_dir(self.path());
        command
    }

    /// Calls `kitc` with the container's name at the end.
    pub fn kitc(&self, args: &[&str]) -> Output {
        let mut args = args.to_vec();
        args.push(&self.id);
        output_of(self.command(&args).stdin(Stdio::null()))
    }

    /// As [`Bundle::kitc`], which must succeed; returns what was printed.
    pub fn ok(&self, args: &[&str]) -> String {
        succeeded(&self.kitc(args))
    }

    /// As [`Bundle::kitc`], which must fail; returns the error's text.
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.kitc(args);
        assert!(!output.status.success(), "{args:?} did not fail: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs the container in the foreground and returns what it printed.
    pub fn run(&self) -> String {
        self.ok(&["run"])
    }

    /// Runs a program in the running container and returns what it printed.
    pub fn exec(&self, script: &str) -> String {
        let mut command = self.command(&["exec", &self.id, "/bin/sh", "-c", script]);
        succeeded(&output_of(command.stdin(Stdio::null())))
    }

    /// Starts `kitc` and lets it go on beside the test.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut args = args.to_vec();
        args.push(&self.id);
        self.command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The state as `kitc state` prints it.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state"])).unwrap()
    }

    /// The status in the state.
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// The process id in the state.
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap() as i32
    }

    /// Everything that this container has left on the machine: nothing, after a failure.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path().join("state")).into_iter().flatten() {
            found.push(format!("state {:?}", entry.unwrap().file_name()));
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let path = hierarchy.path().join("kitc-test").join(&self.id);
            if path.exists() {
                found.push(format!("cgroup {}", path.display()));
            }
        }
        if Path::new("/sys/fs/cgroup/kitc-test").join(&self.id).exists() {
            found.push("cgroup".to_owned());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = self.path().to_str().unwrap();
        found.extend(mounts.lines().filter(|l| l.contains(ours)).map(|l| format!("mount {l}")));
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let root = fs::read_link(entry.path().join("root")).unwrap_or_default();
            let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            if root.starts_with(ours) || cwd.starts_with(ours) {
                found.push(format!("process {:?}", entry.file_name()));
            }
        }
        found
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.kitc(&["delete", "--force"]);
    }
}

fn config(id: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL"],
                "effective": ["CAP_AUDIT_WRITE", "CAP_KILL"],
                "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL"],
            },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "inside",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "cgroupsPath": format!("/kitc-test/{id}"),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" },
            ],
            "maskedPaths": [],
            "readonlyPaths": [],
        },
    })
}

/// Runs a command and returns what it printed. Through files: a container that goes on would keep a
/// pipe open.
pub fn output_of(command: &mut Command) -> Output {
    let file = || tempfile::tempfile().unwrap();
    let (mut out, mut err) = (file(), file());
    command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let status = loop {
        match command.status() {
            // Another test's child still has the descriptor through which this program was written.
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy => {}
            status => break status.unwrap(),
        }
    };
    let read = |file: &mut fs::File| {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    };
    Output { status, stdout: read(&mut out), stderr: read(&mut err) }
}

/// What a successful call printed.
pub fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until something holds, or fails with what was waited for.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::yield_now();
    }
}

/// A hexadecimal field of a status file of procfs.
pub fn status_field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    field(&text, name)
}

/// A hexadecimal field of the text of such a file.
pub fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// A process in namespaces of its own that waits until it is dropped.
pub struct Neighbour(Child);

impl Neighbour {
    /// Runs `unshare` with these options, or returns `None` where it cannot.
    pub fn new(options: &[&str]) -> Option<Neighbour> {
        let mut child = Command::new("unshare")
            .args(options)
            .args(["sh", "-c", "echo ready; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut ready = [0; 6];
        let read = Read::read_exact(child.stdout.as_mut()?, &mut ready);
        read.ok().map(|()| Neighbour(child))
    }

    /// The path of one of its namespaces.
    pub fn namespace(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }

    /// Which one it is.
    pub fn identity(&self, kind: &str) -> String {
        fs::read_link(self.namespace(kind)).unwrap().display().to_string()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
