//! Machines that go on without whoever launched them, and are found again, by other processes too.
//!
//! The other process is this program again, with one test selected that does nothing unless it is told what to do.

mod guest;

use kit_machine::{AttachError, Exit, Home, Monitor, Running};
use kit_spec::machine::Name;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

struct Host {
    dir: TempDir,
    home: Home,
}

impl Host {
    /// None where there is no QEMU.
    fn new() -> Option<Host> {
        if !guest::has_qemu() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("machines")).unwrap();
        Some(Host { dir, home })
    }

    fn launch(&self) -> Running {
        launch(&self.home, self.dir.path())
    }

    /// Another process, that does one of the things in [`another_process`].
    fn another(&self, action: &str) -> Other {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "another_process", "--nocapture", "--test-threads=1"]);
        command.env("KIT_TEST_ACTION", action).env("KIT_TEST_DIR", self.dir.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Other { child, output }
    }

    fn is_empty(&self) -> bool {
        self.dir.path().join("machines").read_dir().unwrap().next().is_none()
    }
}

/// A test that fails leaves no machine running.
impl Drop for Host {
    fn drop(&mut self) {
        for left in self.home.list().unwrap_or_default() {
            let _ = self.home.stop(&left.machine.name, Duration::ZERO);
        }
    }
}

struct Other {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Other {
    /// What it has to say, on a line that begins with `say: `.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it said nothing");
            if let Some((_, said)) = line.split_once("say: ") {
                return said.trim_end().to_owned();
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name() -> Name {
    "n".parse().unwrap()
}

fn launch(home: &Home, dir: &Path) -> Running {
    let machine = guest::machine(name().as_str(), dir);
    let running = home.launch(&machine, &Monitor::Qemu(Default::default())).unwrap();
    running.wait_for("guest: hello", MINUTE).unwrap();
    running
}

/// Waits until a process is gone: of one that is no child, only its absence can be seen.
fn wait_gone(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let flags = rustix::process::PidfdFlags::empty();
    let Ok(process) = rustix::process::pidfd_open(pid, flags) else { return };
    let mut fds = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    let minute = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&minute)), Ok(1), "process {pid:?} lives");
}

/// Not a test, but what other processes do.
#[test]
fn another_process() {
    let (Some(action), Some(dir)) = (std::env::var_os("KIT_TEST_ACTION"), std::env::var_os("KIT_TEST_DIR"))
    else {
        return;
    };
    let dir = Path::new(&dir);
    let home = Home::at(dir.join("machines")).unwrap();
    let say = |what: &dyn std::fmt::Display| println!("say: {what}");
    let until_told = || std::io::stdin().read_exact(&mut [0]).unwrap();
    match action.to_str().unwrap() {
        "launch and wait" => {
            let running = launch(&home, dir);
            say(&running.pid());
            until_told();
        }
        "launch and detach" => {
            let detached = launch(&home, dir).detach().unwrap();
            say(&detached.pid);
        }
        "attach and type" => {
            let running = home.attach(&name()).unwrap();
            running.wait_for("guest: hello", MINUTE).unwrap();
            running.send(b"ABBA").unwrap();
            running.wait_for("ABBA", MINUTE).unwrap();
            say(&running.pid());
            until_told();
        }
        "stop" => say(&home.stop(&name(), MINUTE).unwrap()),
        action => panic!("what is `{action}`?"),
    }
}

#[test]
fn a_machine_dies_with_the_process_that_launched_it() {
    let Some(host) = Host::new() else { return };
    let mut other = host.another("launch and wait");
    let pid: u32 = other.hear().parse().unwrap();
    let listed = host.home.list().unwrap();
    assert_eq!((listed.len(), listed[0].pid, listed[0].owner), (1, pid, Some(other.child.id())));
    let error = host.home.attach(&name()).unwrap_err().to_string();
    assert_eq!(error, format!("machine `n` is in the charge of another process, {}", other.child.id()));
    other.child.kill().unwrap();
    wait_gone(pid);
    assert_eq!(host.home.list().unwrap(), []);
    assert!(host.is_empty(), "what was left over is removed by who looks");
}

#[test]
fn a_detached_machine_outlives_its_process_and_is_attached_to_by_others() {
    let Some(host) = Host::new() else { return };
    let mut launcher = host.another("launch and detach");
    let pid: u32 = launcher.hear().parse().unwrap();
    assert!(launcher.child.wait().unwrap().success());
    let listed = host.home.list().unwrap();
    assert_eq!((listed[0].machine.name.as_str(), listed[0].pid, listed[0].owner), ("n", pid, None));

    let mut other = host.another("attach and type");
    assert_eq!(other.hear(), pid.to_string());
    assert!(matches!(host.home.attach(&name()), Err(AttachError::Owned { owner: Some(_), .. })));
    other.child.stdin.take().unwrap().write_all(b"!").unwrap();
    assert!(other.child.wait().unwrap().success());

    let running = host.home.attach(&name()).unwrap();
    let transcript = String::from_utf8(running.transcript()).unwrap();
    assert!(transcript.ends_with("guest: hello\r\nABBA"), "{transcript}");
    assert_eq!(std::fs::read(&listed[0].log).unwrap(), running.transcript());
    assert_eq!(running.stop(MINUTE).unwrap(), Exit::PowerOff);
    drop(running);
    assert!(host.is_empty());
    wait_gone(pid);
}

#[test]
fn a_machine_goes_on_when_who_attached_to_it_is_killed() {
    let Some(host) = Host::new() else { return };
    let pid = host.launch().detach().unwrap().pid;
    let mut other = host.another("attach and type");
    assert_eq!(other.hear(), pid.to_string());
    drop(other);
    let running = host.home.attach(&name()).unwrap();
    running.send(b"AGAIN").unwrap();
    running.wait_for("AGAIN", MINUTE).unwrap();
    assert_eq!(running.kill().unwrap(), Exit::Unknown, "whose child it was is another's to know");
}

#[test]
fn a_machine_is_stopped_from_aside_whoever_is_in_charge() {
    let Some(host) = Host::new() else { return };
    let running = host.launch();
    assert_eq!(host.another("stop").hear(), "the guest powered off");
    assert_eq!(running.wait(MINUTE).unwrap(), Exit::PowerOff);
    drop(running);

    let pid = host.launch().detach().unwrap().pid;
    assert_eq!(host.another("stop").hear(), "the guest powered off");
    wait_gone(pid);
    assert!(host.is_empty());
    assert_eq!(host.home.stop(&name(), MINUTE).unwrap_err().to_string(), "no machine `n` runs");
    assert_eq!(host.home.attach(&name()).unwrap_err().to_string(), "no machine `n` runs");
}

#[test]
fn not_a_byte_is_missing_or_doubled_between_the_log_and_the_socket() {
    let Some(host) = Host::new() else { return };
    let mut running = host.launch();
    running.send(b"c").unwrap();
    running.wait_for("0000\r\n", MINUTE).unwrap();
    for round in 0..8 {
        running.detach().unwrap();
        running = host.home.attach(&name()).unwrap();
        let mut console = running.console();
        console.seek_to_last(0);
        console.wait_for("\r\n", MINUTE).unwrap();
        let text = String::from_utf8(running.transcript()).unwrap();
        let (_, counted) = text.split_once("guest: hello\r\n").unwrap();
        let (counted, _) = counted.rsplit_once("\r\n").unwrap();
        for (expected, line) in counted.split("\r\n").enumerate() {
            assert_eq!(line, format!("{:04X}", expected % 0x10000), "round {round}");
        }
    }
    running.kill().unwrap();
}

#[test]
fn a_machine_detached_leaves_no_zombie() {
    let Some(host) = Host::new() else { return };
    let detached = host.launch().detach().unwrap();
    assert_eq!(host.home.stop(&name(), MINUTE).unwrap(), Exit::PowerOff);
    // The process is our child: it stays in /proc until it is reaped, which a pidfd does not wait for.
    let stat = format!("/proc/{}/stat", detached.pid);
    let end = std::time::Instant::now() + MINUTE;
    while Path::new(&stat).exists() {
        assert!(std::time::Instant::now() < end, "it is a zombie");
        std::thread::yield_now();
    }
}
