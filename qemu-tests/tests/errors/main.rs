//! What goes wrong in a user's hands: a clear error, the right exit code, nothing left behind.

mod session;

use qemu_tests::guest::until;
use qemu_tests::kitbuild::tool;
use qemu_tests::{Kitbuild, or_skip};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;
use session::Session;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A node that boots and does nothing.
const NODE: &str =
    "kernel:\n  image: kit/kernel\n  cmdline: console=ttyS0 quiet panic=1\ninit:\n  - kit/init\n";

#[test]
fn a_typo_is_shown_where_it_is() {
    let session = or_skip!(Session::new());
    session.write("node.yml", &format!("{NODE}servces: []\n"));
    let output = session.kitbuild(&["run", "node.yml"]).output().expect("kitbuild runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: servces: unknown key `servces`\n"), "{said}");
    for part in ["node.yml:6:1", "6 | servces: []", "did you mean `services`?", "error: 1 error in node.yml"]
    {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
    session.assert_clean();
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let session = or_skip!(Session::new());
    for words in [
        &["build"][..],
        &["build", "--fromat", "iso", "x.yml"],
        &["nonsense"],
        &["build", "-f", "isso", "x.yml"],
    ] {
        let output = session.kitbuild(words).output().expect("kitbuild runs");
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    session.assert_clean();
}

#[test]
fn a_dry_run_prints_what_files_come_to_and_builds_nothing() {
    let session = or_skip!(Session::new());
    session.write("base.yml", NODE);
    session
        .write("site.yml", "kernel:\n  cmdline: console=ttyS1\nservices:\n  - name: a\n    image: kit/net\n");
    let output = session.kitbuild(&["build", "--dry-run", "base.yml", "site.yml"]).output();
    let output = output.expect("kitbuild runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    session.write("merged.yml", &String::from_utf8_lossy(&output.stdout));
    let inspect = |words: &[&str]| session.kitbuild(words).output().expect("kitbuild runs").stdout;
    let merged = inspect(&["inspect", "merged.yml"]);
    let merged: serde_json::Value = serde_json::from_slice(&merged).expect("JSON");
    assert_eq!(merged["kernel"]["cmdline"], "console=ttyS1");
    assert_eq!((&merged["kernel"]["image"], &merged["init"][0]), (&"kit/kernel".into(), &"kit/init".into()));
    assert_eq!(merged["services"][0]["name"], "a");
    session.assert_clean();
}

#[test]
fn a_run_that_cannot_be_is_refused_before_it_is_built() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    for (words, code, said) in [
        (&["--cpus", "0"][..], 2, "0 is not in 1..=255"),
        (&["--mem", "3"], 2, "3 is not in 32.."),
        (&["--disk", "x.img,frmat=raw"], 2, "`frmat=raw` is none of format=raw"),
        (&["--disk", "missing.img"], 1, "open the disk missing.img"),
        (&["--format", "tar"], 1, "format tar cannot be booted"),
        (&["--format", "kernel+initrd", "--uefi"], 1, "UEFI boots --format iso or raw-efi"),
    ] {
        let output = session.kitbuild(&["run", "node.yml"]).args(words).output().expect("kitbuild runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(said) && !text.contains("assemble"), "{words:?}: {text}");
    }
    session.assert_clean();
}

#[test]
fn a_missing_image_offline_is_named() {
    let session = or_skip!(Session::new());
    session.write("node.yml", "services:\n  - name: web\n    image: example.com/team/web:1\n");
    let mut command = session.kitbuild(&["run", "node.yml", "--offline"]);
    let output = command.arg("--cache").arg(session.path("cache")).output().expect("kitbuild runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: build node.yml\n"), "{said}");
    assert!(said.contains("services[0].image"), "{said}");
    assert!(said.contains("example.com/team/web:1 is not in the store"), "{said}");
    session.assert_clean();
}

#[test]
fn a_full_disk_is_told_and_nothing_half_written_stays() {
    let session = or_skip!(Session::new());
    or_skip!(tool("unshare"));
    session.write("node.yml", NODE);
    // The lock first: what is tested is writing, not fetching.
    session.lock("node.yml");
    for (command, format) in [("build", "kernel+initrd"), ("build", "iso"), ("run", "raw-efi")] {
        let script = r#"
            mount -t tmpfs -o size=4m none full || exit 77
            case $1 in
              build) TMPDIR=$PWD/tmp "$KIT" build --locked --offline --lock lock -f "$2" -o full node.yml ;;
              run) TMPDIR=$PWD/full "$KIT" run --locked --offline --lock lock -f "$2" node.yml ;;
            esac
            echo "exit $?" >told
            ls -A full >left
        "#;
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "--map-root-user", "sh", "-c", script, "sh", command, format]);
        fs::create_dir_all(session.path("full")).expect("a directory");
        shell.current_dir(session.dir()).env("KIT", session.program()).env_remove("XDG_RUNTIME_DIR");
        let output = shell.output().expect("unshare runs");
        if !session.path("told").exists() {
            println!("skipped: no tmpfs can be mounted here: {}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let read = |name: &str| fs::read_to_string(session.path(name)).expect("what was told");
        assert_eq!(read("told"), "exit 1\n", "{command} {format}: {said}");
        assert!(said.contains("No space left on device"), "{command} {format}: {said}");
        assert_eq!(read("left"), "", "{command} {format} left files behind");
        fs::remove_file(session.path("told")).expect("a file");
    }
    session.assert_clean();
}

#[test]
fn a_run_that_is_told_to_end_takes_its_machine_along() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    session.lock("node.yml");
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let name = format!("ended-{}-{signal}", std::process::id());
        let words = ["run", "--locked", "--offline", "--lock", "lock", "--name", &name, "node.yml"];
        let mut child = session.spawn(&session.kitbuild(&words), "console");
        let up =
            until(Duration::from_secs(120), || session.text("console").contains("kit: ready").then_some(()));
        assert!(up.is_some(), "{}", session.text("console"));
        assert_eq!(session::processes_with(&name).len(), 2, "kitbuild and QEMU");
        session::signal(&child, signal);
        let status = session::wait(&mut child, Duration::from_secs(20));
        assert_eq!(status.code(), code, "{status}");
        // Nobody waits for what SIGKILL orphans.
        let gone = until(Duration::from_secs(20), || session::processes_with(&name).is_empty().then_some(()));
        assert!(gone.is_some(), "left running: {:?}", session::processes_with(&name));
        session.assert_clean();
    }
}

#[test]
fn a_lock_that_is_ended_while_apt_works_takes_apt_along_or_is_waited_for() {
    let session = or_skip!(Session::new());
    or_skip!(tool("apt-get"));
    session.write("node.yml", NODE);
    for (name, signal) in ENDS {
        let words = ["lock", "--update", "--lock", "lock", "--cache", "cache", "node.yml"];
        let mut child = session.spawn(&session.kitbuild(&words), "said");
        let conf = session.path("cache/apt/amd64/apt.conf").display().to_string();
        let works = until(Duration::from_secs(60), || {
            session::processes_with(&conf).into_iter().next().or_else(|| {
                assert!(child.try_wait().expect("a child").is_none(), "{}", session.text("said"));
                None
            })
        });
        assert!(works.is_some(), "apt-get was not seen");
        session::signal(&child, name);
        let status = session::wait(&mut child, Duration::from_secs(20));
        assert_eq!(status.signal(), Some(signal), "{status}: {}", session.text("said"));
        if name != "KILL" {
            let gone =
                until(Duration::from_secs(10), || session::processes_with(&conf).is_empty().then_some(()));
            assert!(gone.is_some(), "apt-get goes on after SIG{name}");
        }
        // After SIGKILL apt goes on: the next one waits for it, and does not stumble over its locks.
        let again = session.kitbuild(&words).output().expect("kitbuild runs");
        assert!(again.status.success(), "after SIG{name}: {}", String::from_utf8_lossy(&again.stderr));
    }
}

/// How a build is ended from outside, and whether it may say good-bye.
const ENDS: [(&str, i32); 3] = [("INT", 2), ("TERM", 15), ("KILL", 9)];

#[test]
fn a_build_that_is_ended_leaves_nothing_and_the_next_one_works() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    session.lock_into_own_cache("node.yml");
    for (name, signal) in ENDS {
        session.forget_what_is_derived();
        let words = ["build", "--locked", "--offline", "--lock", "lock", "--cache", "cache", "--jobs", "1"];
        let mut command = session.kitbuild(&words);
        command.args(["--format", "kernel+initrd,iso,raw-efi,tar", "--out", "out", "node.yml"]);
        let mut child = session.spawn(&command, "said");
        // In the middle: some layers are unpacked, and others not.
        let begun = until(Duration::from_secs(60), || (!session.derived().is_empty()).then_some(()));
        assert!(begun.is_some(), "{}", session.text("said"));
        session::signal(&child, name);
        let status = session::wait(&mut child, Duration::from_secs(20));
        assert_eq!(status.signal(), Some(signal), "{status}: {}", session.text("said"));
        assert_eq!(session.names("out"), Vec::<String>::new(), "after SIG{name}");
        session.assert_only_whole_layers();
        session.assert_clean();
    }
    let words =
        ["build", "--locked", "--offline", "--lock", "lock", "--cache", "cache", "-o", "out", "node.yml"];
    let again = session.kitbuild(&words).output().expect("kitbuild runs");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn a_run_that_is_ended_while_it_builds_leaves_nothing() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    session.lock_into_own_cache("node.yml");
    for (name, signal) in &ENDS[..2] {
        session.forget_what_is_derived();
        let mut command =
            session.kitbuild(&["run", "--locked", "--offline", "--lock", "lock", "--cache", "cache"]);
        let machine = format!("unborn-{}", std::process::id());
        command.args(["--jobs", "1", "--name", &machine, "node.yml"]);
        let mut child = session.spawn(&command, "said");
        let begun = until(Duration::from_secs(60), || (!session.derived().is_empty()).then_some(()));
        assert!(begun.is_some(), "{}", session.text("said"));
        session::signal(&child, name);
        let status = session::wait(&mut child, Duration::from_secs(20));
        assert_eq!(status.signal(), Some(*signal), "{status}: {}", session.text("said"));
        assert_eq!(session::processes_with(&machine), Vec::<u32>::new(), "left running");
        session.assert_only_whole_layers();
        session.assert_clean();
    }
}

#[test]
fn two_builds_at_once_share_a_cache() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    session.lock_into_own_cache("node.yml");
    session.forget_what_is_derived();
    let children: Vec<_> = ["one", "other"]
        .into_iter()
        .map(|out| {
            let words =
                ["build", "--locked", "--offline", "--lock", "lock", "--cache", "cache", "-f", "tar", "-o"];
            (out, session.spawn(session.kitbuild(&words).args([out, "node.yml"]), &format!("{out}.said")))
        })
        .collect();
    for (out, mut child) in children {
        let status = session::wait(&mut child, Duration::from_secs(120));
        assert!(status.success(), "{out}: {status}: {}", session.text(&format!("{out}.said")));
    }
    let tar = |out: &str| fs::read(session.path(out).join("node.tar")).expect("a tar");
    assert!(tar("one") == tar("other"), "two builds at once differ");
    session.assert_only_whole_layers();
}

#[test]
fn a_full_cache_is_told_and_keeps_nothing_half_written() {
    let session = or_skip!(Session::new());
    or_skip!(tool("unshare"));
    session.write("node.yml", NODE);
    session.lock_into_own_cache("node.yml");
    session.forget_what_is_derived();
    // Room for what was fetched and a little more, but not for what is derived from it.
    let script = r#"
        set -e
        mkdir full
        mount -t tmpfs -o size=$(($(du -sk cache | cut -f1) + 4096))k none full || exit 77
        cp -a cache/. full/
        echo mounted >told
        set +e
        "$KIT" build --locked --offline --lock lock --cache full -o out node.yml
        echo "exit $?" >told
        find full/layers -type f >left
    "#;
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--map-root-user", "sh", "-c", script]).current_dir(session.dir());
    let output = shell.env("KIT", session.program()).env("TMPDIR", session.path("tmp")).output();
    let output = output.expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    if !session.path("told").exists() {
        println!("skipped: no tmpfs can be mounted here: {said}");
        return;
    }
    assert_eq!(session.text("told"), "exit 1\n", "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("full/layers/"), "the place is not named:\n{said}");
    let left = session.text("left");
    assert!(left.lines().all(session::is_whole_layer), "left behind:\n{left}");
    assert_eq!(session.names("out"), Vec::<String>::new());
    session.assert_clean();
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    session.write(".yml", NODE);
    for (words, code) in [
        (&["build", "--name", "../x", "-o", "out", "node.yml"][..], 2),
        (&["build", "--name", "", "-o", "out", "node.yml"], 2),
        (&["build", "-o", "out", ".yml"], 1),
    ] {
        let output = session.kitbuild(words).output().expect("kitbuild runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains("is not the name of an artifact"), "{words:?}: {said}");
        assert!(!session.path("out").exists(), "{words:?}: output was begun");
    }
}

#[test]
fn a_machine_that_is_detached_is_listed_and_stopped() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    let name = format!("detached-{}", std::process::id());
    let output =
        session.kitbuild(&["run", "--detach", "--name", &name, "--lock", "lock", "node.yml"]).output();
    let output = output.expect("kitbuild runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = || {
        let output = session.kitbuild(&["ps"]).output().expect("kitbuild runs");
        String::from_utf8_lossy(&output.stdout).lines().any(|line| line.starts_with(&name))
    };
    assert!(listed(), "{name} is not listed");
    let again =
        session.kitbuild(&["run", "--detach", "--name", &name, "--lock", "lock", "node.yml"]).output();
    let again = again.expect("kitbuild runs");
    assert!(String::from_utf8_lossy(&again.stderr).contains(&format!("a machine `{name}` runs already")));
    assert_console_gives_the_terminal_back(&session, &name);
    assert!(listed(), "{name} ended with its console");
    let stopped = session.kitbuild(&["stop", &name, "--grace", "2"]).output().expect("kitbuild runs");
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    assert!(!listed(), "{name} is still listed");
    assert_eq!(session::processes_with(&name), Vec::<u32>::new(), "left running");
    session.assert_clean();
}

/// A console that is told to end leaves the terminal as it found it, and the machine running.
fn assert_console_gives_the_terminal_back(session: &Session, machine: &str) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("a terminal");
    let name = ptsname(&controller, Vec::new()).expect("its name");
    let terminal = File::options().read(true).write(true).open(OsStr::from_bytes(name.to_bytes()));
    let terminal = terminal.expect("the terminal");
    let settings = || format!("{:?}", tcgetattr(&terminal).expect("its settings"));
    let before = settings();
    let end = || Stdio::from(terminal.try_clone().expect("a descriptor"));
    let mut command = session.kitbuild(&["console", machine]);
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("kitbuild runs");
    let raw = until(Duration::from_secs(30), || (settings() != before).then_some(()));
    assert!(raw.is_some(), "the terminal is not the console's");
    session::signal(&child, "TERM");
    let status = session::wait(&mut child, Duration::from_secs(30));
    assert_eq!(status.code(), Some(143));
    assert_eq!(settings(), before);
}

#[test]
fn a_run_whose_time_is_over_ends() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    let name = format!("timeout-{}", std::process::id());
    let mut command =
        session.kitbuild(&["run", "--lock", "lock", "--timeout", "2", "--name", &name, "node.yml"]);
    let output = command.output().expect("kitbuild runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{said}");
    assert!(said.contains("its time is over"), "{said}");
    assert_eq!(session::processes_with(&name), Vec::<u32>::new(), "left running");
    session.assert_clean();
}

#[test]
fn kitbuild_alone_says_what_it_can_do() {
    let kitbuild = or_skip!(Kitbuild::staged());
    let output = kitbuild.command(["--help"]).output().expect("kitbuild runs");
    let help = String::from_utf8_lossy(&output.stdout);
    for word in [
        "build", "run", "ps", "console", "stop", "check", "lock", "schema", "formats", "inspect", "cache",
        "image",
    ] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{word} "))),
            "no `{word}` in:\n{help}"
        );
    }
    assert!(help.contains("Examples:"), "{help}");
}
