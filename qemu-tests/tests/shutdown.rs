//! What is left on a disk when a node has been turned off: a file system that was unmounted, with all that was written.

use kit_spec::artifact::Format;
use kit_spec::machine::{Disk, DiskFormat};
use qemu_tests::kitbuild::{run, tool};
use qemu_tests::{Boot, Guest, Kitbuild, or_skip};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A service writes to a file system on a disk, and goes on doing so when it is told to end.
const NODE: &str = r#"
kernel:
  image: kit/kernel
  cmdline: console=ttyS0 quiet panic=1
init:
  - kit/init
services:
  - name: writer
    image: deb:busybox-static
    binds: ["/var/data:/data"]
    runtime:
      mkdir: [/var/data]
      mounts:
        - {type: ext4, source: /dev/vda, destination: /var/data, options: [rw]}
    command:
      - /bin/busybox
      - sh
      - -c
      - |
        trap 'echo last words >/data/words; exit 0' TERM
        echo first words >/data/words
        echo it writes
        while :; do sleep 1 & wait $!; done
onshutdown:
  - name: reader
    image: deb:busybox-static
    binds: ["/var/data:/data"]
    command: [/bin/busybox, sh, -c, "echo reads $(cat /data/words)"]
"#;

fn output(mut command: Command) -> String {
    let output =
        run(std::mem::replace(&mut command, Command::new("true"))).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_disk_is_unmounted_before_the_power_goes() {
    let kitbuild = or_skip!(Kitbuild::staged());
    let (mkfs, tune2fs) = (or_skip!(tool("mkfs.ext4")), or_skip!(tool("tune2fs")));
    let debugfs = or_skip!(tool("debugfs"));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk");
    File::create(&path).and_then(|file| file.set_len(64 << 20)).expect("a disk");
    let on_disk = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).arg(&path);
        output(command)
    };
    on_disk(&mkfs, &["-q"]);
    let built =
        kitbuild.build_text("disk", NODE, Format::KernelInitrd).unwrap_or_else(|error| panic!("{error}"));
    let disks = vec![Disk { path: path.clone(), format: DiskFormat::Raw, readonly: false }];
    let mut guest =
        Guest::boot(&built, &Boot { disks, ..Boot::default() }).unwrap_or_else(|error| panic!("{error}"));
    guest.line("writer: it writes", Duration::from_secs(120)).unwrap_or_else(|error| panic!("{error}"));
    guest.press_power().unwrap_or_else(|error| panic!("{error}"));
    guest.line("reader: reads last words", Duration::ZERO).unwrap_or_else(|error| panic!("{error}"));
    drop(guest);

    let superblock = on_disk(&tune2fs, &["-l"]);
    let state = superblock.lines().find(|line| line.starts_with("Filesystem state:")).unwrap_or_default();
    assert!(state.ends_with(" clean"), "{superblock}");
    assert!(!superblock.contains("needs_recovery"), "the journal was left to be replayed:\n{superblock}");
    assert_eq!(on_disk(&debugfs, &["-R", "cat /words"]), "last words\n");
}
