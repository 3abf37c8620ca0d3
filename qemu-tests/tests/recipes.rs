//! The recipes that a node is made of besides its workload, each doing what it is there for.

use kit_spec::artifact::Format;
use qemu_tests::guest::until;
use qemu_tests::kitbuild::{run, tool};
use qemu_tests::{Boot, Guest, Kitbuild, or_skip};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(120);

/// A node that a person logs in to, by the network and on the console.
fn node(key: &str) -> String {
    format!(
        r#"
kernel:
  image: kit/kernel
  cmdline: console=ttyS0 quiet panic=1
init:
  - kit/init
onboot:
  - name: net
    image: kit/net
    timeout: 30s
services:
  - name: rngd
    image: kit/rngd
  - name: chrony
    image: kit/chrony
  - name: sshd
    image: kit/sshd
    ready: {{tcp: 22, deadline: 60s}}
  - name: getty
    image: kit/getty
    env: [INSECURE=true]
files:
  - path: root/.ssh/authorized_keys
    mode: "0600"
    contents: "{key}\n"
  - path: etc/hostname
    mode: "0644"
    contents: "lodge\n"
"#
    )
}

#[track_caller]
fn ok<T>(result: Result<T, impl std::fmt::Display>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

fn ssh(ssh: &Path, key: &Path, port: u16, words: &str) -> Output {
    let mut command = Command::new(ssh);
    command.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "ConnectTimeout=30",
    ]);
    command.args([
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
        "-p",
        &port.to_string(),
        "-i",
    ]);
    command.arg(key).arg("root@127.0.0.1").arg(words);
    command.output().expect("ssh runs")
}

#[test]
fn a_person_logs_in_by_ssh_and_on_the_console() {
    let kitbuild = or_skip!(Kitbuild::staged());
    let (client, keygen) = (or_skip!(tool("ssh")), or_skip!(tool("ssh-keygen")));
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("key");
    let mut command = Command::new(keygen);
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&key);
    ok(run(command));
    let public = fs::read_to_string(key.with_extension("pub")).expect("a public key");

    let built = ok(kitbuild.build_text("lodge", &node(public.trim()), Format::KernelInitrd));
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let port = port.expect("a port of loopback").port();
    let publish = vec![format!("{port}:22").parse().expect("a port mapping")];
    let mut guest = ok(Guest::boot(&built, &Boot { memory_mib: 768, publish, ..Boot::default() }));
    for unit in ["net", "rngd", "chrony", "sshd", "getty"] {
        guest.forbid(format!("kit: {unit} failed"));
    }
    ok(guest.line("kit: ready", WITHIN));

    let said = ssh(&client, &key, port, "id -un && hostname");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(
        text,
        "root\nlodge\n",
        "{}\nthe console:\n{}",
        String::from_utf8_lossy(&said.stderr),
        guest.text()
    );
    // Who has no key stays out.
    let stranger = dir.path().join("stranger");
    fs::copy(&key, &stranger).and_then(|_| fs::write(&stranger, "no key\n")).expect("a file");
    assert_eq!(ssh(&client, &stranger, port, "true").status.code(), Some(255));

    // A clock that has no peers is kept all the same; the pool of entropy is fed.
    for service in ["chronyd", "rngd"] {
        let running = until(WITHIN, || {
            let said = ssh(&client, &key, port, "cat /proc/[0-9]*/comm");
            String::from_utf8_lossy(&said.stdout).lines().any(|name| name.starts_with(service)).then_some(())
        });
        assert!(running.is_some(), "{service} does not run; the console:\n{}", guest.text());
    }
    ok(guest.type_line("echo on the $(basename $(tty))"));
    ok(guest.line("on the ttyS0", WITHIN));
    ok(guest.press_power());
    ok(guest.nothing_forbidden());
}
