//! What goes wrong in a user's hands: a clear error, the right exit code, nothing left behind.

mod session;

use qemu_tests::guest::until;
use qemu_tests::kitbuild::tool;
use qemu_tests::{Kitbuild, or_skip};
use session::Session;
use std::fs;
use std::process::Command;
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
fn ctrl_c_ends_a_run_and_its_machine() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    session.lock("node.yml");
    let name = format!("interrupted-{}", std::process::id());
    let mut command =
        session.kitbuild(&["run", "--locked", "--offline", "--lock", "lock", "--name", &name, "node.yml"]);
    let mut child = session.spawn(&mut command, "console");
    let up = until(Duration::from_secs(120), || session.text("console").contains("kit: ready").then_some(()));
    assert!(up.is_some(), "{}", session.text("console"));
    assert_eq!(session::processes_with(&name).len(), 2, "kitbuild and QEMU");
    session::interrupt(&child);
    let status = session::wait(&mut child, Duration::from_secs(20));
    assert_eq!(status.code(), Some(130), "{status}");
    assert_eq!(session::processes_with(&name), Vec::<u32>::new(), "left running");
    session.assert_clean();
}

#[test]
fn ctrl_c_ends_a_build_without_leavings() {
    let session = or_skip!(Session::new());
    session.write("node.yml", NODE);
    session.lock("node.yml");
    let mut command = session.kitbuild(&["build", "--locked", "--offline", "--lock", "lock", "--jobs", "1"]);
    // A cache without anything derived, so that there is something to do when the signal comes.
    command.args(["--format", "kernel+initrd,iso,raw-efi,tar", "--out", "out", "node.yml"]);
    let mut child = session.spawn(&mut command, "said");
    let begun = until(Duration::from_secs(60), || session.text("said").contains("resolve").then_some(()));
    assert!(begun.is_some(), "{}", session.text("said"));
    session::interrupt(&child);
    let status = session::wait(&mut child, Duration::from_secs(20));
    let done = status.success();
    let names = session.names("out");
    // What has its name is complete; what is not has none.
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
    assert!(done || names.len() < 12, "{status}: {names:?}");
    session.assert_clean();
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
    let stopped = session.kitbuild(&["stop", &name, "--grace", "60"]).output().expect("kitbuild runs");
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    assert!(!listed(), "{name} is still listed");
    assert_eq!(session::processes_with(&name), Vec::<u32>::new(), "left running");
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
