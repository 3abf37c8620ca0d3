//! The format `tar`: nothing boots it as it is, but whoever unpacks it has a root that boots, with its kernel.

use kit_spec::artifact::{Artifact, ArtifactFile, Boot as Booted, Format};
use qemu_tests::kitbuild::{run, tool};
use qemu_tests::{Boot, Built, Guest, Kitbuild, or_skip};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Moves what was unpacked to a file system that can be left, as LinuxKit's own `/init` does, and starts its init; by the
/// busybox of the node's own container.
const INIT: &str = r#"#!/containers/services/hello/rootfs/bin/busybox sh
b=/containers/services/hello/rootfs/bin/busybox
$b mkdir /.root
$b mount -t tmpfs -o mode=0755 root /.root
for path in /*; do $b cp -a $path /.root/; done
exec $b switch_root /.root /sbin/init
"#;

/// A cpio of what is in a tar, and of this test's own `/init`, as one initrd.
fn initrd(tar: &Path, dir: &Path) -> io::Result<()> {
    let own = dir.join("own");
    fs::create_dir_all(&own)?;
    fs::write(own.join("init"), INIT)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(own.join("init"), mode)?;
    let mut whole = File::create(dir.join("initrd"))?;
    let mut from_tar = Command::new("bsdtar");
    from_tar.args(["-cf", "-", "--format=newc"]).arg(format!("@{}", tar.display()));
    let mut from_dir = Command::new("bsdtar");
    from_dir.args(["-cf", "-", "--format=newc", "-C"]).arg(&own).arg("init");
    for mut command in [from_tar, from_dir] {
        let output = command.stderr(Stdio::inherit()).output()?;
        assert!(output.status.success(), "{command:?}: {}", output.status);
        whole.write_all(&output.stdout)?;
        // Another archive begins at a multiple of four.
        whole.write_all(&vec![0; output.stdout.len().next_multiple_of(512) - output.stdout.len()])?;
    }
    fs::remove_dir_all(own)
}

#[test]
fn a_tar_that_is_unpacked_boots() {
    let kitbuild = or_skip!(Kitbuild::staged());
    or_skip!(tool("bsdtar"));
    let node = qemu_tests::workspace().join("qemu-tests/cases/000_formats/node.yml");
    let built = kitbuild.build(&node, Format::Tar).unwrap_or_else(|error| panic!("{error}"));
    let dir = built.dir.path();
    let tar = dir.join(&built.artifact.files[0].path);
    let mut unpack = Command::new("bsdtar");
    unpack.arg("-xf").arg(&tar).arg("-C").arg(dir).args(["boot/kernel", "boot/cmdline"]);
    run(unpack).unwrap_or_else(|error| panic!("{error}"));
    fs::rename(dir.join("boot/kernel"), dir.join("kernel")).expect("a kernel");
    initrd(&tar, dir).expect("an initrd");
    let cmdline = fs::read_to_string(dir.join("boot/cmdline")).expect("a command line");
    let file = |path: &str| ArtifactFile { path: path.into(), size: 0, sha256: String::new() };
    let artifact = Artifact {
        boot: Booted::Kernel { kernel: "kernel".into(), initrd: "initrd".into(), cmdline, root: None },
        files: vec![file("kernel"), file("initrd")],
        ..built.artifact
    };
    let booted = Built { dir: built.dir, artifact };
    let boot = Boot { memory_mib: 1024, ..Boot::default() };
    let mut guest = Guest::boot(&booted, &boot).unwrap_or_else(|error| panic!("{error}"));
    guest.forbid("failed:");
    for line in ["hello: the root is a tmpfs", "kit: ready"] {
        guest.line(line, Duration::from_secs(120)).unwrap_or_else(|error| panic!("{error}"));
    }
    guest.press_power().unwrap_or_else(|error| panic!("{error}"));
    guest.nothing_forbidden().unwrap_or_else(|error| panic!("{error}"));
}
