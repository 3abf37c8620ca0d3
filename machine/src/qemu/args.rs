//! A machine as QEMU's command line: a pure function, so that what is run can be printed and compared.
//!
//! Nothing is left to QEMU's defaults or to the user's configuration: a q35 board with a serial port, virtio disks and
//! networks in the order of the machine, an entropy source, and three sockets (console, monitor, control) on which
//! QEMU listens by descriptors it inherits, so that whoever connects never comes too early. The machine starts paused
//! (`-S`): its first byte is printed when somebody listens.

use crate::accelerator::Accelerator;
use crate::qemu::OnReboot;
use kit_spec::artifact::Firmware;
use kit_spec::machine::{BootSource, Disk, DiskFormat, Machine, Medium, Net, Protocol, Publish};
use std::ffi::OsString;
use std::fmt::Write;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a machine is plugged into on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// QEMU's `-cpu`, if not the accelerator's own.
    pub cpu: Option<String>,
    /// What a guest's reboot does.
    pub on_reboot: OnReboot,
    /// The UEFI firmware, its variables being the machine's own copy; needed where the firmware is UEFI.
    pub ovmf: Option<super::Ovmf>,
    /// Descriptor of the listening socket of the serial console.
    pub console: RawFd,
    /// Descriptor of the listening socket of the monitor of whoever is in charge.
    pub monitor: RawFd,
    /// Descriptor of the listening socket of a second monitor, for a word from anyone else.
    pub control: RawFd,
    /// The file to which QEMU writes what the console prints, whether or not anybody is connected.
    pub log: PathBuf,
}

/// The arguments of `qemu-system-x86_64` for a machine.
pub fn args(machine: &Machine, wiring: &Wiring) -> Vec<OsString> {
    let mut args = Args(Vec::new());
    args.flags(&["-nodefaults", "-no-user-config"]);
    args.pair("-name", machine.name.as_str());
    // Without graphics the BIOS and boot loaders speak on the serial port.
    args.pair("-machine", "q35,graphics=off");
    args.pair("-accel", &wiring.accelerator.to_string());
    let cpu = match (&wiring.cpu, wiring.accelerator) {
        (Some(cpu), _) => cpu,
        (None, Accelerator::Kvm) => "host",
        (None, Accelerator::Tcg) => "max",
    };
    args.pair("-cpu", cpu);
    args.pair("-smp", &machine.cpus.to_string());
    args.pair("-m", &format!("{}M", machine.memory_mib));
    args.pair("-display", "none");
    args.wires(wiring);
    args.pair("-device", "virtio-rng-pci");
    args.boot(&machine.boot, wiring);
    for (at, disk) in machine.disks.iter().enumerate() {
        args.disk(at, disk);
    }
    for (at, net) in machine.nets.iter().enumerate() {
        args.net(at, net);
    }
    if wiring.on_reboot == OnReboot::End {
        args.flags(&["-no-reboot"]);
    }
    args.flags(&["-S"]);
    args.0
}

/// The rule by which QEMU's user network leads a host port in, as its option and its error messages have it.
pub(crate) fn forward(publish: &Publish) -> String {
    let protocol = match publish.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{protocol}:{}:{}-:{}", publish.address, publish.host, publish.guest)
}

struct Args(Vec<OsString>);

impl Args {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(OsString::from));
    }

    fn pair(&mut self, option: &str, value: &str) {
        self.flags(&[option, value]);
    }

    /// An option whose value is properties around a path: `before,file=PATH,after`.
    fn pair_with_path(&mut self, option: &str, before: &str, path: &Path, after: &str) {
        let mut value = OsString::from(before);
        value.push(escape(path));
        value.push(after);
        self.0.push(option.into());
        self.0.push(value);
    }

    fn wires(&mut self, wiring: &Wiring) {
        let socket = |id: &str, fd: RawFd| format!("socket,id={id},fd={fd},server=on,wait=off");
        // Appending, so that who holds the log too may rewrite it.
        let console = format!("{},logappend=on,logfile=", socket("console", wiring.console));
        self.pair_with_path("-chardev", &console, &wiring.log, "");
        self.pair("-serial", "chardev:console");
        for (id, fd) in [("monitor", wiring.monitor), ("control", wiring.control)] {
            self.pair("-chardev", &socket(id, fd));
            self.pair("-mon", &format!("chardev={id},mode=control"));
        }
    }

    fn boot(&mut self, boot: &BootSource, wiring: &Wiring) {
        match boot {
            BootSource::Kernel { kernel, initrd, cmdline, root } => {
                for (option, path) in [("-kernel", kernel), ("-initrd", initrd)] {
                    self.0.extend([option.into(), path.into()]);
                }
                self.pair("-append", cmdline);
                if let Some(root) = root {
                    self.drive("root", root, ",format=raw,readonly=on");
                    self.pair("-device", "virtio-blk-pci,drive=root");
                }
            }
            BootSource::Image { image, medium, firmware } => {
                if let (Firmware::Uefi, Some(ovmf)) = (firmware, &wiring.ovmf) {
                    let code = "if=pflash,unit=0,format=raw,readonly=on,file=";
                    self.pair_with_path("-drive", code, &ovmf.code, "");
                    self.pair_with_path("-drive", "if=pflash,unit=1,format=raw,file=", &ovmf.vars, "");
                }
                // What is not asked for is not booted: no floppy, no network.
                self.pair("-boot", "strict=on");
                match medium {
                    Medium::Cd => {
                        // Not on q35's AHCI: kernels made for clouds have no driver for it.
                        self.drive("boot", image, ",format=raw,media=cdrom,readonly=on");
                        self.pair("-device", "virtio-scsi-pci,id=scsi");
                        self.pair("-device", "scsi-cd,bus=scsi.0,drive=boot,bootindex=0");
                    }
                    Medium::Disk => {
                        self.drive("boot", image, ",format=raw,snapshot=on");
                        self.pair("-device", "virtio-blk-pci,drive=boot,bootindex=0");
                    }
                }
            }
        }
    }

    fn disk(&mut self, at: usize, disk: &Disk) {
        let format = match disk.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        };
        let id = format!("disk{at}");
        let readonly = if disk.readonly { ",readonly=on" } else { "" };
        self.drive(&id, &disk.path, &format!(",format={format}{readonly}"));
        self.pair("-device", &format!("virtio-blk-pci,drive={id}"));
    }

    fn drive(&mut self, id: &str, path: &Path, after: &str) {
        self.pair_with_path("-drive", &format!("if=none,id={id},file="), path, after);
    }

    fn net(&mut self, at: usize, net: &Net) {
        let Net::User { publish } = net;
        let mut netdev = format!("user,id=net{at}");
        for publish in publish {
            // Writing to a string does not fail.
            let _ = write!(netdev, ",hostfwd={}", forward(publish));
        }
        self.pair("-netdev", &netdev);
        // No option ROM: machines do not boot from the network, and the ROM is a package of its own.
        self.pair("-device", &format!("virtio-net-pci,netdev=net{at},romfile="));
    }
}

/// A path as a property's value: commas doubled, and nothing that reads as a protocol (`nbd:..`).
fn escape(path: &Path) -> OsString {
    let mut bytes = Vec::with_capacity(path.as_os_str().len());
    if path.is_relative() {
        bytes.extend_from_slice(b"./");
    }
    for byte in path.as_os_str().as_bytes() {
        bytes.extend(std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests;
