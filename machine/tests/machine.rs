//! Machines that really run: QEMU's translator and a guest of one sector.

mod guest;

use kit_machine::qemu::{OnReboot, QemuOptions};
use kit_machine::{Exit, Home, Monitor, Running};
use kit_spec::artifact::{Arch, Firmware};
use kit_spec::machine::{BootSource, Machine, Medium};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(50);

/// A directory with a home for machines and a guest's disk.
struct Host {
    dir: TempDir,
    home: Home,
}

impl Host {
    /// None, with the reason printed, where there is no QEMU.
    fn new() -> Option<Host> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join("qemu-system-x86_64").exists()) {
            println!("skipped: qemu-system-x86_64 is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        guest::disk(dir.path());
        let home = Home::at(dir.path().join("machines")).unwrap();
        Some(Host { dir, home })
    }

    fn machine(&self, name: &str) -> Machine {
        let image = self.dir.path().join("guest.img");
        Machine {
            name: name.parse().unwrap(),
            arch: Arch::Amd64,
            cpus: 1,
            memory_mib: 32,
            boot: BootSource::Image { image, medium: Medium::Disk, firmware: Firmware::Bios },
            disks: vec![],
            nets: vec![],
        }
    }

    fn launch(&self, machine: &Machine) -> Running {
        let options = QemuOptions { on_reboot: OnReboot::End, ..Default::default() };
        let running = self.home.launch(machine, &Monitor::Qemu(options)).unwrap();
        running.wait_for("guest: hello", MINUTE).unwrap();
        running
    }

    fn is_empty(&self) -> bool {
        self.dir.path().join("machines").read_dir().unwrap().next().is_none()
    }
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
