//! The tarball that `make dist` makes: unpacked anywhere, used by somebody who has no rights, no Rust and no source tree.

use qemu_tests::guest::until;
use qemu_tests::kitbuild::{run, tool};
use qemu_tests::{Kitbuild, Missing, or_skip};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The user and group `nobody` of Debian.
const NOBODY: &str = "65534";

/// System calls that a build has no use for once its inputs are there: whatever mounts, whatever speaks to somebody,
/// whatever starts a program. `%network` is strace's class of everything that has to do with sockets.
const NOT_NEEDED: &[&str] = &[
    "%network",
    "mount",
    "umount2",
    "fsopen",
    "fspick",
    "fsconfig",
    "fsmount",
    "move_mount",
    "mount_setattr",
    "open_tree",
    "pivot_root",
    "chroot",
    "unshare",
    "setns",
    "execve",
    "execveat",
    "io_uring_setup",
];

/// What is installed, and a home for whoever uses it.
struct Installed {
    dir: tempfile::TempDir,
    root: PathBuf,
    as_user: Vec<String>,
}

/// Makes the tarball from what is staged.
fn pack(kitbuild: &Kitbuild, out: &Path) -> PathBuf {
    let stage = kitbuild.program().parent().and_then(Path::parent).expect("bin/kitbuild below a directory");
    let mut dist = Command::new(".ci/dist");
    dist.arg(stage).args(["0.0.0"]).arg(out).current_dir(qemu_tests::workspace());
    run(dist).unwrap_or_else(|error| panic!("{error}"));
    out.join("kit-0.0.0-x86_64-linux.tar.gz")
}

impl Installed {
    fn new() -> Result<Installed, Missing> {
        let kitbuild = Kitbuild::staged()?;
        let dir = tempfile::tempdir().expect("a directory");
        let tarball = pack(&kitbuild, dir.path());
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(&tarball).arg("-C").arg(dir.path());
        run(tar).unwrap_or_else(|error| panic!("{error}"));
        let home = dir.path().join("home");
        fs::create_dir(&home).expect("a home");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a directory");
        let as_user = match unprivileged(&home)? {
            true => vec![],
            false => ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
                .map(str::to_owned)
                .to_vec(),
        };
        Ok(Installed { root: dir.path().join("kit-0.0.0"), dir, as_user })
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A command of that user's, without anything of this one's environment; `before` is put before kitbuild.
    fn command(&self, before: &[&str], words: &[&str]) -> Command {
        let mut line: Vec<String> = self.as_user.clone();
        line.extend(before.iter().map(|word| (*word).to_owned()));
        line.push(self.root.join("bin/kitbuild").display().to_string());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(words).env_clear().current_dir(self.home());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.home()).stdin(Stdio::null());
        command
    }

    fn node(&self) -> String {
        self.root.join("share/kit/yaml/node.yml").display().to_string()
    }
}

/// True if this process is an ordinary user; else the home is given to one.
fn unprivileged(home: &Path) -> Result<bool, Missing> {
    use std::os::unix::fs::{MetadataExt, chown};
    if fs::metadata("/proc/self").expect("/proc").uid() != 0 {
        return Ok(true);
    }
    tool("setpriv")?;
    let nobody = NOBODY.parse().ok();
    chown(home, nobody, nobody).expect("root may give files away");
    Ok(false)
}

#[test]
fn the_tarball_is_the_same_every_time() {
    let kitbuild = or_skip!(Kitbuild::staged());
    let (one, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let read = |dir: &Path| fs::read(pack(&kitbuild, dir)).expect("a tarball");
    assert!(read(one.path()) == read(other.path()), "two tarballs differ");
    let mut list = Command::new("tar");
    list.args(["-tvzf"]).arg(one.path().join("kit-0.0.0-x86_64-linux.tar.gz"));
    let listing = run(list).unwrap_or_else(|error| panic!("{error}"));
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let wanted = [
        "bin/kitbuild",
        "lib/kit/kit-init",
        "lib/kit/kit-loader",
        "lib/kit/kitctl",
        "lib/kit/kitc",
        "lib/kit/kit-net",
        "lib/kit/kit-sysctl",
        "share/kit/images/init/image.yml",
        "share/kit/yaml/node.yml",
        "share/man/man1/kitbuild.1",
        "share/bash-completion/completions/kitbuild",
        "share/zsh/site-functions/_kitbuild",
        "share/fish/vendor_completions.d/kitbuild.fish",
        "share/doc/kit/LICENSE",
    ];
    for name in wanted {
        assert!(
            listing.lines().any(|line| line.ends_with(&format!("kit-0.0.0/{name}"))),
            "no {name} in:\n{listing}"
        );
    }
    assert!(!listing.contains("Cargo.toml") && !listing.contains("/src/"), "sources in:\n{listing}");
}

#[test]
fn a_locked_build_mounts_nothing_and_speaks_to_nobody() {
    let installed = or_skip!(Installed::new());
    let strace = or_skip!(tool("strace")).display().to_string();
    let node = installed.node();
    run(installed.command(&[], &["lock", "--quiet", "--lock", "lock", &node]))
        .unwrap_or_else(|error| panic!("{error}"));
    let filter = format!("trace={}", NOT_NEEDED.join(","));
    let before =
        [strace.as_str(), "--follow-forks", "--quiet=all", "-e", "signal=none", "-e", &filter, "-o", "trace"];
    let formats = "kernel+initrd,kernel+squashfs,iso,raw-efi,tar";
    let words =
        ["build", "--quiet", "--locked", "--offline", "--lock", "lock", "-f", formats, "-o", "out", &node];
    run(installed.command(&before, &words)).unwrap_or_else(|error| panic!("{error}"));
    let trace = fs::read_to_string(installed.home().join("trace")).expect("a trace");
    let mut calls = trace.lines();
    let first = calls.next().unwrap_or_default();
    assert!(first.contains("execve(") && first.contains("bin/kitbuild"), "{first}");
    let rest: Vec<&str> = calls.collect();
    assert!(rest.is_empty(), "calls that a build has no use for:\n{}", rest.join("\n"));
    assert!(installed.home().join("out/node.iso").is_file());
}

#[test]
fn it_boots_the_example_for_an_ordinary_user() {
    let installed = or_skip!(Installed::new());
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let publish = format!("{}:80", port.expect("a port of loopback").port());
    let name = format!("installed-{}", std::process::id());
    let log = installed.dir.path().join("console");
    let file = File::create(&log).expect("a file");
    let node = installed.node();
    let words = ["run", &node, "--lock", "lock", "--name", &name, "--publish", &publish, "--timeout", "300"];
    let mut command = installed.command(&[], &words);
    let mut child =
        command.stdout(file.try_clone().expect("a descriptor")).stderr(file).spawn().expect("kitbuild runs");
    let console = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let ended = |child: &mut std::process::Child| child.try_wait().expect("a child").is_some();
    let up = until(Duration::from_secs(300), || {
        (console().contains("kit: ready") || ended(&mut child)).then_some(())
    });
    assert!(up.is_some() && console().contains("kit: ready"), "{}", console());
    let stop = installed.command(&[], &["stop", &name, "--grace", "60"]);
    run(stop).unwrap_or_else(|error| panic!("{error}\n{}", console()));
    let status = child.wait().expect("a child");
    assert!(status.success(), "{status}: {}", console());
    assert!(console().contains("kit: shutdown"), "{}", console());
}
