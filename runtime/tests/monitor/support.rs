//! A pod with its monitor, and what tests ask of it.

pub(crate) use crate::container::bundle;
pub use crate::container::{Bundle, DEADLINE, wait_until};
use kit_runtime::monitor::protocol::{self, Create, Ended, Event, Outcome, Reason, Request, Status};
use kit_runtime::monitor::{Client, bury};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A pod's directory, its monitor and a client.
pub struct Pod {
    dir: tempfile::TempDir,
    pub monitor: Child,
    pub client: Client,
}

/// A directory for a pod, with its description.
pub fn pod_dir(sandbox: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("sandbox.json"), sandbox.to_string()).unwrap();
    dir
}

/// Starts a monitor. It is ready, or has failed with this error.
pub fn start_monitor(dir: &Path, options: &[&str]) -> Result<Child, String> {
    let mut monitor = Command::new(env!("CARGO_BIN_EXE_kit-monitor"))
        .arg("--pod")
        .arg(dir)
        .args(["--kitc", env!("CARGO_BIN_EXE_kitc")])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(monitor.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line == "ready\n" {
        return Ok(monitor);
    }
    let mut error = String::new();
    monitor.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(!monitor.wait().unwrap().success());
    Err(error)
}

impl Pod {
    pub fn new(sandbox: &Value) -> Pod {
        Pod::with_options(sandbox, &[])
    }

    pub fn with_options(sandbox: &Value, options: &[&str]) -> Pod {
        let dir = pod_dir(sandbox);
        let monitor = start_monitor(dir.path(), options).unwrap();
        let client = Client::connect(dir.path()).unwrap();
        let mut pod = Pod { dir, monitor, client };
        pod.ok(&Request::Subscribe);
        pod
    }

    /// With namespaces of the host, for tests of other things.
    pub fn plain() -> Pod {
        Pod::new(&json!({"net": "host", "ipc": "host", "uts": "host"}))
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn log_path(&self) -> PathBuf {
        self.path().join("0.log")
    }

    /// The lines of the container's log without their times.
    pub fn log(&self) -> String {
        log_of(&self.log_path())
    }

    /// Asks with descriptors; returns the ones that the answer brings.
    pub fn ask(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> (Outcome, Vec<OwnedFd>) {
        self.client.request(request, fds).unwrap()
    }

    /// Asks for what must be done.
    pub fn ok(&mut self, request: &Request) {
        let (outcome, _) = self.ask(request, &[]);
        assert_eq!(outcome, Outcome::Done, "{request:?}");
    }

    /// Asks for what must be refused.
    pub fn refused(&mut self, request: &Request) -> (Reason, String) {
        match self.ask(request, &[]).0 {
            Outcome::Refused { reason, message } => (reason, message),
            outcome => panic!("{request:?} was not refused: {outcome:?}"),
        }
    }

    pub fn state(&mut self) -> protocol::State {
        match self.ask(&Request::State, &[]).0 {
            Outcome::State(state) => state,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub fn status(&mut self, bundle: &Bundle) -> Status {
        self.state().containers[&bundle.id].status
    }

    /// Makes a container of a bundle; returns its process id.
    pub fn create(&mut self, bundle: &Bundle, change: impl FnOnce(&mut Create)) -> i32 {
        match self.try_create(bundle, change) {
            Outcome::Made { pid } => pid,
            outcome => panic!("{outcome:?}"),
        }
    }

    pub fn try_create(&mut self, bundle: &Bundle, change: impl FnOnce(&mut Create)) -> Outcome {
        fs::write(bundle.path().join("config.json"), bundle.config.to_string()).unwrap();
        let log = Some(self.log_path());
        let mut create =
            Create { id: bundle.id.clone(), bundle: bundle.path().to_owned(), log, ..Create::default() };
        change(&mut create);
        self.ask(&Request::Create(create), &[]).0
    }

    pub fn start(&mut self, bundle: &Bundle) {
        self.ok(&Request::Start { id: bundle.id.clone() });
    }

    /// Makes a container and lets it run.
    pub fn run(&mut self, bundle: &Bundle) -> i32 {
        let pid = self.create(bundle, |_| {});
        self.start(bundle);
        pid
    }

    pub fn signal(&mut self, bundle: &Bundle, number: i32) {
        self.ok(&Request::Signal { id: bundle.id.clone(), exec: None, number, all: false });
    }

    pub fn delete(&mut self, bundle: &Bundle, force: bool) {
        self.ok(&Request::Delete { id: bundle.id.clone(), force });
    }

    /// Connects a stream to a container.
    pub fn attach(&mut self, bundle: &Bundle) -> std::os::unix::net::UnixStream {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (outcome, _) = self.ask(&Request::Attach { id: bundle.id.clone() }, &[theirs.as_fd()]);
        assert_eq!(outcome, Outcome::Done);
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        ours
    }

    pub fn event(&mut self) -> Event {
        self.client.event(DEADLINE).unwrap().expect("an event")
    }

    /// Waits until the container has ended.
    pub fn exit(&mut self, bundle: &Bundle) -> Ended {
        loop {
            match self.event() {
                Event::Exited { id, ended } if id == bundle.id => return ended,
                _ => {}
            }
        }
    }

    /// What the pod has left on the machine.
    pub fn leftovers(&self) -> Vec<String> {
        let ours = self.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut found: Vec<String> =
            mounts.lines().filter(|line| line.contains(ours)).map(|line| format!("mount {line}")).collect();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(ours) {
                found.push(format!("process {:?}", entry.file_name()));
            }
        }
        for entry in fs::read_dir(self.path()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if !["sandbox.json", "monitor.log", "0.log"].contains(&name.as_str()) {
                found.push(name);
            }
        }
        found
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let buried = bury(self.dir.path());
        let _ = self.monitor.wait();
        if !std::thread::panicking() {
            buried.unwrap();
        }
    }
}

/// The lines of a log without their times, which are all of the form of RFC 3339 with nanoseconds.
pub fn log_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert_eq!(
                (time.len(), &time[10..11], &time[19..20], &time[29..]),
                (30, "T", ".", "Z"),
                "{line}"
            );
            format!("{rest}\n")
        })
        .collect()
}
