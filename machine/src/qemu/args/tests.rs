use super::*;
use crate::qemu::Ovmf;
use kit_spec::artifact::Arch;
use std::ffi::OsStr;

fn machine(boot: BootSource) -> Machine {
    Machine {
        name: "node-1".parse().unwrap(),
        arch: Arch::Amd64,
        cpus: 2,
        memory_mib: 512,
        boot,
        disks: vec![],
        nets: vec![],
    }
}

fn wiring() -> Wiring {
    Wiring {
        accelerator: Accelerator::Tcg,
        cpu: None,
        on_reboot: OnReboot::Restart,
        ovmf: None,
        console: 10,
        monitor: 11,
        control: 12,
        log: "/run/m/console.log".into(),
    }
}

/// The arguments up to what is booted, one option a line, as in all machines of these tests.
const BOARD: &str = "\
-nodefaults
-no-user-config
-name node-1
-machine q35,graphics=off
-accel tcg
-cpu max
-smp 2
-m 512M
-display none
-chardev socket,id=console,fd=10,server=on,wait=off,logappend=on,logfile=/run/m/console.log
-serial chardev:console
-chardev socket,id=monitor,fd=11,server=on,wait=off
-mon chardev=monitor,mode=control
-chardev socket,id=control,fd=12,server=on,wait=off
-mon chardev=control,mode=control
-device virtio-rng-pci
";

/// Arguments as lines: an option and its value share one.
fn lines(args: &[OsString]) -> String {
    let mut lines = String::new();
    let mut args = args.iter().map(|arg| arg.to_str().unwrap()).peekable();
    while let Some(option) = args.next() {
        assert!(option.starts_with('-'), "{option} is not an option");
        match args.next_if(|arg| !arg.starts_with('-')) {
            Some(value) => lines += &format!("{option} {value}\n"),
            None => lines += &format!("{option}\n"),
        }
    }
    lines
}

fn kernel(root: Option<PathBuf>) -> BootSource {
    BootSource::Kernel {
        kernel: "/o/n-kernel".into(),
        initrd: "/o/n-initrd.img".into(),
        cmdline: "console=ttyS0 a=b,c".into(),
        root,
    }
}

fn image(medium: Medium, firmware: Firmware) -> BootSource {
    BootSource::Image { image: "/o/n.iso".into(), medium, firmware }
}

#[test]
fn a_kernel_and_its_initrd() {
    let boot = "-kernel /o/n-kernel\n-initrd /o/n-initrd.img\n-append console=ttyS0 a=b,c\n-S\n";
    assert_eq!(lines(&args(&machine(kernel(None)), &wiring())), format!("{BOARD}{boot}"));
}

#[test]
fn a_root_comes_before_the_other_disks_and_cannot_be_written() {
    let disks = vec![
        Disk { path: "/d/a.raw".into(), format: DiskFormat::Raw, readonly: false },
        Disk { path: "/d/b.qcow2".into(), format: DiskFormat::Qcow2, readonly: true },
    ];
    let machine = Machine { disks, ..machine(kernel(Some("/o/n-squashfs.img".into()))) };
    let expected = "\
-kernel /o/n-kernel
-initrd /o/n-initrd.img
-append console=ttyS0 a=b,c
-drive if=none,id=root,file=/o/n-squashfs.img,format=raw,readonly=on
-device virtio-blk-pci,drive=root
-drive if=none,id=disk0,file=/d/a.raw,format=raw
-device virtio-blk-pci,drive=disk0
-drive if=none,id=disk1,file=/d/b.qcow2,format=qcow2,readonly=on
-device virtio-blk-pci,drive=disk1
-S
";
    assert_eq!(lines(&args(&machine, &wiring())), format!("{BOARD}{expected}"));
}

#[test]
fn a_cd_booted_by_the_bios() {
    let expected = "\
-boot strict=on
-drive if=none,id=boot,file=/o/n.iso,format=raw,media=cdrom,readonly=on
-device virtio-scsi-pci,id=scsi
-device scsi-cd,bus=scsi.0,drive=boot,bootindex=0
-S
";
    let args = args(&machine(image(Medium::Cd, Firmware::Bios)), &wiring());
    assert_eq!(lines(&args), format!("{BOARD}{expected}"));
}

#[test]
fn a_disk_booted_by_uefi_that_is_not_written_to() {
    let ovmf = Some(Ovmf { code: "/f/CODE.fd".into(), vars: "/run/m/vars.fd".into() });
    let expected = "\
-drive if=pflash,unit=0,format=raw,readonly=on,file=/f/CODE.fd
-drive if=pflash,unit=1,format=raw,file=/run/m/vars.fd
-boot strict=on
-drive if=none,id=boot,file=/o/n.iso,format=raw,snapshot=on
-device virtio-blk-pci,drive=boot,bootindex=0
-S
";
    let args = args(&machine(image(Medium::Disk, Firmware::Uefi)), &Wiring { ovmf, ..wiring() });
    assert_eq!(lines(&args), format!("{BOARD}{expected}"));
}

#[test]
fn networks_lead_host_ports_in() {
    let publish = vec!["8080:80".parse().unwrap(), "0.0.0.0:53:5353/udp".parse().unwrap()];
    let nets = vec![Net::User { publish }, Net::User { publish: vec![] }];
    let machine = Machine { nets, ..machine(kernel(None)) };
    let expected = "\
-netdev user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp:0.0.0.0:53-:5353
-device virtio-net-pci,netdev=net0,romfile=
-netdev user,id=net1
-device virtio-net-pci,netdev=net1,romfile=
-no-reboot
-S
";
    let lines = lines(&args(&machine, &Wiring { on_reboot: OnReboot::End, ..wiring() }));
    assert!(lines.ends_with(expected), "{lines}");
}

#[test]
fn the_processor_is_the_hosts_under_kvm_unless_another_is_given() {
    let machine = machine(kernel(None));
    let kvm = Wiring { accelerator: Accelerator::Kvm, ..wiring() };
    assert!(lines(&args(&machine, &kvm)).contains("\n-accel kvm\n-cpu host\n"));
    let nested = Wiring { cpu: Some("EPYC,+svm,+npt".into()), ..wiring() };
    assert!(lines(&args(&machine, &nested)).contains("\n-accel tcg\n-cpu EPYC,+svm,+npt\n"));
}

#[test]
fn commas_in_paths_are_doubled_and_no_path_reads_as_a_protocol() {
    assert_eq!(escape(Path::new("/a,b/c,,d")), "/a,,b/c,,,,d");
    assert_eq!(escape(Path::new("nbd:x")), "./nbd:x");
    assert_eq!(escape(Path::new(OsStr::from_bytes(b"/\xff,"))), OsStr::from_bytes(b"/\xff,,"));
}
