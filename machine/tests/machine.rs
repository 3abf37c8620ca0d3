//! Machines that really run: QEMU's translator and a guest of one sector.

mod guest;

use kit_machine::qemu::{OnReboot, QemuOptions};
use kit_machine::{Exit, Home, LaunchError, Monitor, Running, WaitError};
use kit_spec::artifact::{Arch, Firmware};
use kit_spec::machine::{BootSource, Disk, DiskFormat, Machine, Medium, Net};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(50);

/// A directory for a guest's disk, with a home for machines.
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

    fn machine(&self, name: &str) -> Machine {
        guest::machine(name, self.dir.path())
    }

    fn launch(&self, machine: &Machine) -> Running {
        let running = self.home.launch(machine, &qemu()).unwrap();
        running.wait_for("guest: hello", MINUTE).unwrap();
        running
    }

    fn is_empty(&self) -> bool {
        self.dir.path().join("machines").read_dir().unwrap().next().is_none()
    }
}

fn qemu() -> Monitor {
    Monitor::Qemu(QemuOptions { on_reboot: OnReboot::End, ..Default::default() })
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_guest_is_heard_typed_to_and_seen_to_power_off() {
    let Some(host) = Host::new() else { return };
    let running = host.launch(&host.machine("n"));
    let pid = running.pid();
    let mut console = running.console();
    console.wait_for("guest: hello\r\n", MINUTE).unwrap();
    console.send(b"abba").unwrap();
    let found = console.wait_for("abba", MINUTE).unwrap();
    assert_eq!(found.line, "abba");
    running.send(b"q").unwrap();
    assert_eq!(running.wait(MINUTE).unwrap(), Exit::PowerOff);
    assert!(String::from_utf8_lossy(&running.transcript()).ends_with("guest: hello\r\nabba"));
    drop(running);
    assert!(host.is_empty());
    assert!(!is_alive(pid));
}

#[test]
fn the_power_button_is_pressed_before_the_plug_is_pulled() {
    let Some(host) = Host::new() else { return };
    let running = host.launch(&host.machine("n"));
    assert_eq!(running.stop(MINUTE).unwrap(), Exit::PowerOff);
    assert!(running.wait_for("guest: button", MOMENT).is_ok());
}

#[test]
fn a_guest_that_ignores_the_button_is_stopped_all_the_same() {
    let Some(host) = Host::new() else { return };
    let running = host.launch(&host.machine("n"));
    running.send(b"i").unwrap();
    running.wait_for("guest: ignoring", MINUTE).unwrap();
    assert_eq!(running.stop(MOMENT).unwrap(), Exit::Quit);
}

#[test]
fn a_reboot_ends_the_machine_where_that_is_asked_for() {
    let Some(host) = Host::new() else { return };
    let running = host.launch(&host.machine("n"));
    running.send(b"r").unwrap();
    assert_eq!(running.wait(MINUTE).unwrap(), Exit::Reboot);
}

#[test]
fn dropping_a_machine_leaves_nothing_of_it() {
    let Some(host) = Host::new() else { return };
    let running = host.launch(&host.machine("n"));
    let pid = running.pid();
    assert!(is_alive(pid));
    drop(running);
    assert!(!is_alive(pid));
    assert!(host.is_empty());
}

#[test]
fn a_machine_outlives_the_thread_that_launched_it() {
    let Some(host) = Host::new() else { return };
    let running = std::thread::scope(|scope| scope.spawn(|| host.launch(&host.machine("n"))).join()).unwrap();
    running.send(b"ab").unwrap();
    running.wait_for("ab", MINUTE).unwrap();
    assert_eq!(running.exit(), None);
}

#[test]
fn a_machine_may_be_stopped_from_another_thread() {
    let Some(host) = Host::new() else { return };
    let running = host.launch(&host.machine("n"));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| running.wait_for("never", MINUTE));
        assert_eq!(running.kill().unwrap(), Exit::Signal(9));
        assert!(matches!(waiting.join().unwrap(), Err(WaitError::Ended { exit: Exit::Signal(9), .. })));
    });
}

#[test]
fn a_monitor_killed_from_outside_is_reported() {
    let Some(host) = Host::new() else { return };
    let running = host.launch(&host.machine("n"));
    let pid = rustix::process::Pid::from_raw(running.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(running.wait(MINUTE).unwrap(), Exit::Signal(9));
    let error = running.wait_for("kit: ready", MINUTE).unwrap_err().to_string();
    let expected = "`kit: ready` did not appear on the console of machine `n`, and will not: \
                    the monitor was killed by signal 9; its last lines:\n    ";
    assert!(error.starts_with(expected), "{error}");
    assert!(error.ends_with("guest: hello"), "{error}");
    assert!(running.send(b"x").is_err());
    assert_eq!(running.stop(MINUTE).unwrap(), Exit::Signal(9));
}

#[test]
fn a_deadline_shows_what_the_console_printed_instead() {
    let Some(host) = Host::new() else { return };
    let running = host.launch(&host.machine("n"));
    let error = running.wait_for("kit: ready", MOMENT).unwrap_err().to_string();
    let start = "`kit: ready` did not appear on the console of machine `n` within 50ms; its last lines:\n    SeaBIOS ";
    assert!(error.starts_with(start), "{error}");
    assert!(error.ends_with("guest: hello"), "{error}");
    let error = running.wait(MOMENT).unwrap_err().to_string();
    assert!(
        error.starts_with("machine `n` did not end within 50ms; its last lines:\n    SeaBIOS "),
        "{error}"
    );
}

#[test]
fn a_name_belongs_to_one_machine_at_a_time() {
    let Some(host) = Host::new() else { return };
    let machine = host.machine("n");
    let running = host.launch(&machine);
    let error = host.home.launch(&machine, &qemu()).unwrap_err().to_string();
    assert_eq!(error, format!("a machine `n` runs already, as process {}", running.pid()));
    let other = host.launch(&host.machine("m"));
    drop(running);
    host.launch(&machine);
    assert_eq!(other.exit(), None);
}

#[test]
fn a_host_port_in_use_is_named() {
    let Some(host) = Host::new() else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let publish = format!("{port}:80");
    let machine = |publish: &[&str]| {
        let publish = publish.iter().map(|publish| publish.parse().unwrap()).collect();
        Machine { nets: vec![Net::User { publish }], ..host.machine("n") }
    };
    let error = host.home.launch(&machine(&[&publish]), &qemu()).unwrap_err().to_string();
    let expected =
        format!("host port 127.0.0.1:{port}:80/tcp is in use: publish the guest's port 80 at another");
    assert_eq!(error, expected);
    assert!(host.is_empty());

    drop(taken);
    let twice = host.home.launch(&machine(&[&publish, &format!("{port}:81")]), &qemu());
    assert!(matches!(twice, Err(LaunchError::PortInUse { .. })), "{twice:?}");
    let udp = format!("{port}:53/udp");
    let running = host.launch(&machine(&[&publish, &udp]));
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err(), "QEMU listens");
    assert!(std::net::UdpSocket::bind(("127.0.0.1", port)).is_err(), "QEMU listens");
    drop(running);
}

#[test]
fn a_port_taken_at_the_last_moment_is_read_from_qemus_last_words() {
    let Some(host) = Host::new() else { return };
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    // A program that says what QEMU 7.2 to 10 say.
    let program = host.dir.path().join("qemu");
    let words =
        format!("qemu: -netdev user: Could not set up host forwarding rule 'udp:127.0.0.1:{port}-:53'");
    std::fs::write(&program, format!("#!/bin/sh\necho \"{words}\" >&2\nexit 1\n")).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    drop(taken);
    let publish = vec![format!("{port}:53/udp").parse().unwrap()];
    let machine = Machine { nets: vec![Net::User { publish }], ..host.machine("n") };
    let options = QemuOptions { program: Some(program), ..Default::default() };
    let error = host.home.launch(&machine, &Monitor::Qemu(options)).unwrap_err();
    assert!(matches!(error, LaunchError::PortInUse { .. }), "{error}");
}

#[test]
fn a_missing_image_is_named_with_what_it_is() {
    let Some(host) = Host::new() else { return };
    let mut machine = host.machine("n");
    let image = host.dir.path().join("absent.img");
    machine.boot = BootSource::Image { image: image.clone(), medium: Medium::Cd, firmware: Firmware::Bios };
    let error = host.home.launch(&machine, &qemu()).unwrap_err();
    assert_eq!(error.to_string(), format!("open the boot image {}", image.display()));
    assert!(std::error::Error::source(&error).unwrap().to_string().starts_with("No such file"));

    let disks = vec![Disk { path: host.dir.path().into(), format: DiskFormat::Raw, readonly: true }];
    let error = host.home.launch(&Machine { disks, ..host.machine("n") }, &qemu()).unwrap_err();
    assert_eq!(error.to_string(), format!("open the disk {}", host.dir.path().display()));
    assert!(host.is_empty());
}

#[test]
fn what_qemu_refuses_is_said_in_its_words() {
    let Some(host) = Host::new() else { return };
    let options = QemuOptions { cpu: Some("nonsense".into()), ..Default::default() };
    let error = host.home.launch(&host.machine("n"), &Monitor::Qemu(options)).unwrap_err().to_string();
    let expected = "machine `n` did not start: the monitor gave up with status 1: qemu-system-x86_64: \
                    unable to find CPU model 'nonsense'";
    assert_eq!(error, expected);
    assert!(host.is_empty());
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let Some(host) = Host::new() else { return };
    let options = QemuOptions { program: Some("/nonexistent/qemu".into()), ..Default::default() };
    let error = host.home.launch(&host.machine("n"), &Monitor::Qemu(options)).unwrap_err();
    assert_eq!(error.to_string(), "run /nonexistent/qemu");
    let machine = Machine { arch: Arch::Arm64, ..host.machine("n") };
    let error = host.home.launch(&machine, &qemu()).unwrap_err();
    assert_eq!(error.to_string(), "machine `n` is of architecture Arm64: only amd64 machines can be started");
    assert!(host.is_empty());
}

#[test]
fn a_path_with_commas_boots_and_the_image_is_not_written_to() {
    let Some(host) = Host::new() else { return };
    let dir = host.dir.path().join("a,b,,c=d");
    std::fs::create_dir(&dir).unwrap();
    let image = guest::disk(&dir);
    std::fs::set_permissions(&image, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let data = dir.join("data, raw");
    std::fs::write(&data, [0; 4096]).unwrap();
    let home = Home::at(dir.join("machines,too")).unwrap();
    let boot = BootSource::Image { image, medium: Medium::Disk, firmware: Firmware::Bios };
    let disks = vec![Disk { path: data, format: DiskFormat::Raw, readonly: false }];
    let running = home.launch(&Machine { boot, disks, ..host.machine("n") }, &qemu()).unwrap();
    running.wait_for("guest: hello", MINUTE).unwrap();
}

#[test]
fn a_home_deeper_than_a_sockets_address_is_long_serves_as_well() {
    let Some(host) = Host::new() else { return };
    let home = Home::at(host.dir.path().join("x".repeat(120))).unwrap();
    let name = "n".repeat(63);
    let running = home.launch(&host.machine(&name), &qemu()).unwrap();
    running.wait_for("guest: hello", MINUTE).unwrap();
    let name = running.detach().unwrap().name;
    assert_eq!(home.stop(&name, MINUTE).unwrap(), Exit::PowerOff);
}

#[test]
fn uefi_comes_up_with_variables_of_its_own() {
    let Some(host) = Host::new() else { return };
    let image = guest::disk(host.dir.path());
    let boot = BootSource::Image { image, medium: Medium::Disk, firmware: Firmware::Uefi };
    let machine = Machine { boot, memory_mib: 128, ..host.machine("n") };
    let running = match host.home.launch(&machine, &qemu()) {
        Err(LaunchError::Firmware(missing)) => {
            println!("skipped: {missing}");
            return;
        }
        running => running.unwrap(),
    };
    // It finds no boot loader on the guest's disk, and says so.
    running.wait_for("BdsDxe: failed to load", MINUTE).unwrap();
}

#[test]
fn a_cd_is_booted() {
    let Some(host) = Host::new() else { return };
    let tree = host.dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let sector = std::fs::read(guest::disk(host.dir.path())).unwrap();
    std::fs::write(tree.join("boot.bin"), &sector[..2048]).unwrap();
    let image = host.dir.path().join("guest.iso");
    let mut xorriso = std::process::Command::new("xorriso");
    xorriso.args([
        "-as",
        "mkisofs",
        "-quiet",
        "-b",
        "boot.bin",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-o",
    ]);
    match xorriso.arg(&image).arg(&tree).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => return println!("skipped: xorriso: {error}"),
    }
    let boot = BootSource::Image { image, medium: Medium::Cd, firmware: Firmware::Bios };
    host.launch(&Machine { boot, ..host.machine("n") });
}
