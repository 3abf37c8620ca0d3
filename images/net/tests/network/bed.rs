//! The test bed: namespaces, cable, files, and the program running in it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::PATIENCE;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Two namespaces: `srv0` (10.77.0.1/24, up) in the server's, `eth0` (down) in the client's.
pub struct Bed {
    server: String,
    client: String,
    dir: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Result<Self, String> {
        let name = format!("kitnet{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let bed = Self {
            server: format!("{name}-s"),
            client: format!("{name}-c"),
            dir: tempfile::tempdir().map_err(|e| e.to_string())?,
        };
        for namespace in [&bed.server, &bed.client] {
            let output = Command::new("ip").args(["netns", "add", namespace]).output();
            match output {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err(format!("needs root for network namespaces ({why})"));
                }
                Err(e) => return Err(format!("needs ip of iproute2 ({e})")),
            }
        }
        bed.ip_server("link set lo up");
        bed.ip_server(&format!("link add srv0 type veth peer name eth0 netns {}", bed.client));
        bed.ip_server("address add 10.77.0.1/24 dev srv0");
        bed.ip_server("link set srv0 up");
        bed.cmdline("console=ttyS0");
        Ok(bed)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The kernel's command line, as the program sees it.
    pub fn cmdline(&self, text: &str) {
        fs::write(self.path("cmdline"), text).unwrap();
    }

    pub fn resolv_conf(&self) -> String {
        fs::read_to_string(self.path("resolvconf/resolv.conf")).unwrap()
    }

    fn run_ip(&self, namespace: &str, args: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", namespace]).args(args.split(' '));
        let output = command.output().unwrap();
        assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn ip_server(&self, args: &str) -> String {
        self.run_ip(&self.server, args)
    }

    pub fn ip(&self, args: &str) -> String {
        self.run_ip(&self.client, args)
    }

    /// What ip shows in the client's namespace; lines are kept, runs of blanks are one.
    pub fn show(&self, args: &str) -> String {
        let lines: Vec<String> =
            self.ip(args).lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        lines.join("\n")
    }

    pub fn assert_shows(&self, args: &str, wanted: &[&str]) {
        let shown = self.show(args);
        for want in wanted {
            assert!(shown.contains(want), "no `{want}` in:\n{shown}");
        }
    }

    pub fn wait_until_shown(&self, args: &str, want: &str) {
        let begun = Instant::now();
        while !self.show(args).contains(want) {
            assert!(begun.elapsed() < PATIENCE, "no `{want}` in:\n{}", self.show(args));
        }
    }

    fn exec(&self, namespace: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]);
        command
    }

    /// The program's command line in the client's namespace, started by way of another program.
    pub fn wrap_up(&self, wrapper: Command, config: &str, args: &[&str]) -> Command {
        fs::write(self.path("net.json"), config).unwrap();
        let mut command = self.exec(&self.client);
        if !wrapper.get_program().is_empty() {
            command.arg(wrapper.get_program()).args(wrapper.get_args());
        }
        command.arg(env!("CARGO_BIN_EXE_kit-net")).arg("up").args(args);
        for (flag, file) in [
            ("--config", "net.json"),
            ("--cmdline", "cmdline"),
            ("--state", "state"),
            ("--resolv-conf", "resolvconf/resolv.conf"),
        ] {
            command.arg(flag).arg(self.path(file));
        }
        command
    }

    /// Starts `kit-net up` with this configuration.
    pub fn up(&self, config: &str, args: &[&str]) -> Program {
        Program::start(self.wrap_up(Command::new(""), config, args))
    }

    pub fn status(&self, args: &[&str]) -> String {
        let mut command = self.exec(&self.client);
        command.arg(env!("CARGO_BIN_EXE_kit-net")).arg("status").args(args);
        let output = command.arg("--state").arg(self.path("state")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// As after a reboot.
    pub fn forget_lease(&self) {
        fs::remove_file(self.path("state/eth0.lease")).unwrap();
        self.ip("address flush dev eth0");
    }

    /// dnsmasq as DHCP server, if it is installed; listening when this returns.
    pub fn dnsmasq(&self, args: &[&str]) -> Option<Program> {
        let installed = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq"].iter().any(|path| Path::new(path).exists());
        if !installed {
            return None;
        }
        let mut command = self.exec(&self.server);
        command.args([
            "dnsmasq",
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--log-dhcp",
        ]);
        command.args(["--interface=srv0", "--no-ping", "--pid-file="]).args(args);
        command.arg(format!("--dhcp-leasefile={}", self.path("dnsmasq.leases").display()));
        let mut program = Program::start(command);
        program.expect("DHCP, IP range");
        Some(program)
    }

    /// QEMU's own network (10.0.2.0/24 with a DHCP server) at this tap of the client's, if QEMU is installed. No machine
    /// runs in it.
    pub fn qemu_user_network(&self, tap: &str) -> Option<Program> {
        let qemu = Path::new("/usr/bin/qemu-system-x86_64");
        if !qemu.exists() {
            return None;
        }
        let mut command = self.exec(&self.client);
        command.arg(qemu).args(["-machine", "none", "-nodefaults", "-nographic"]);
        command.args(["-netdev", "user,id=user"]);
        command.args(["-netdev", &format!("tap,id=tap,ifname={tap},script=no,downscript=no")]);
        for (id, peer) in [("one", "user"), ("two", "tap")] {
            command.args(["-netdev", &format!("hubport,id={id},hubid=0,netdev={peer}")]);
        }
        Some(Program::start(command))
    }

    /// Runs something on a thread that is in the server's namespace.
    pub fn in_server<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = File::open(Path::new("/run/netns").join(&self.server)).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            run()
        })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
        }
    }
}

/// A program running; killed when dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that holds this text, after those seen before.
    pub fn expect(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line);
                    if self.seen.last().is_some_and(|line| line.contains(text)) {
                        return;
                    }
                }
                Err(e) => panic!("no `{text}` ({e}) in:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for its end: the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            // The end of its stderr is the end of it.
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(e) => panic!("still running ({e}):\n{}", self.seen.join("\n")),
            }
        }
        self.child.wait().unwrap().code()
    }

    /// Sends SIGTERM and waits for its end.
    pub fn terminate(&mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.wait()
    }

    /// What it has said on stderr so far.
    pub fn transcript(&self) -> String {
        self.seen.iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
