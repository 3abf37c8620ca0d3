//! The smallest guest there is: a boot sector that speaks on the serial port.
//!
//! It prints `guest: hello`, then echoes what is typed, but for four keys: `q` turns the machine off, `r` reboots it,
//! `i` has it ignore the power button, and `c` has it count, four hexadecimal digits a line, without end, until `c` is
//! typed again. The power button makes it print `guest: button` and turn off. It sleeps when it has nothing to do.

use kit_spec::artifact::{Arch, Firmware};
use kit_spec::machine::{BootSource, Machine, Medium};
use std::path::{Path, PathBuf};

/// False, and the reason printed, where no machine can be started.
pub fn has_qemu() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = std::env::split_paths(&path).any(|dir| dir.join("qemu-system-x86_64").exists());
    if !has {
        println!("skipped: qemu-system-x86_64 is not installed");
    }
    has
}

/// A machine that boots the guest, with its disk in `dir`.
pub fn machine(name: &str, dir: &Path) -> Machine {
    Machine {
        name: name.parse().unwrap(),
        arch: Arch::Amd64,
        cpus: 1,
        memory_mib: 32,
        boot: BootSource::Image { image: disk(dir), medium: Medium::Disk, firmware: Firmware::Bios },
        disks: vec![],
        nets: vec![],
    }
}

/// A disk that boots the guest, made unless it is there: a machine may be using it.
pub fn disk(dir: &Path) -> PathBuf {
    let path = dir.join("guest.img");
    if path.exists() {
        return path;
    }
    // SeaBIOS boots no disk of less than a cylinder.
    let mut disk = CODE.concat();
    disk.resize(510, 0);
    disk.extend_from_slice(b"\x55\xaa");
    disk.resize(1 << 20, 0);
    std::fs::write(&path, disk).unwrap();
    path
}

/// The code, as assembled (16 bits, at 0x7c00).
#[rustfmt::skip]
const CODE: &[&[u8]] = &[
    b"\xea\x05\x7c\x00\x00",     // _start: ljmp $0, $start
    b"\x31\xc0",                 // start: xorw %ax, %ax
    b"\x8e\xd8",                 // movw %ax, %ds
    b"\x8e\xd0",                 // movw %ax, %ss
    b"\xbc\x00\x7c",             // movw $0x7c00, %sp
    b"\x31\xed",                 // xorw %bp, %bp ; not counting
    b"\x31\xff",                 // xorw %di, %di ; the counter
    b"\xfa",                     // cli ; the BIOS's timer would read the serial port itself
    b"\xc7\x06\x20\x00\xa2\x7c", // movw $tick, 0x20
    b"\xa3\x22\x00",             // movw %ax, 0x22
    b"\xba\x02\x06",             // movw $0x602, %dx ; PM1_EN: the power button
    b"\xb8\x00\x01",             // movw $0x100, %ax
    b"\xef",                     // outw %ax, %dx
    b"\xbe\xc1\x7c",             // movw $hello, %si
    b"\xe8\x80\x00",             // call print
    b"\xba\x00\x06",             // loop: movw $0x600, %dx ; PM1_STS: was it pressed?
    b"\xed",                     // inw %dx, %ax
    b"\xf6\xc4\x01",             // testb $1, %ah
    b"\x75\x5a",                 // jnz button
    b"\xba\xfd\x03",             // movw $0x3fd, %dx
    b"\xec",                     // inb %dx, %al
    b"\xa8\x01",                 // testb $1, %al
    b"\x74\x18",                 // jz idle
    b"\xb2\xf8",                 // movb $0xf8, %dl
    b"\xec",                     // inb %dx, %al
    b"\x3c\x71",                 // cmpb $'q', %al
    b"\x74\x51",                 // je off
    b"\x3c\x72",                 // cmpb $'r', %al
    b"\x74\x57",                 // je reboot
    b"\x3c\x69",                 // cmpb $'i', %al
    b"\x74\x11",                 // je ignore
    b"\x3c\x63",                 // cmpb $'c', %al
    b"\x74\x1b",                 // je count
    b"\xe8\x63\x00",             // call putc
    b"\xeb\xd7",                 // jmp loop
    b"\x85\xed",                 // idle: testw %bp, %bp
    b"\x75\x16",                 // jnz number
    b"\xfb",                     // sti
    b"\xf4",                     // hlt ; until the timer
    b"\xeb\xcf",                 // jmp loop
    b"\xba\x02\x06",             // ignore: movw $0x602, %dx
    b"\x31\xc0",                 // xorw %ax, %ax
    b"\xef",                     // outw %ax, %dx
    b"\xbe\xe0\x7c",             // movw $ignoring, %si
    b"\xe8\x43\x00",             // call print
    b"\xeb\xc1",                 // jmp loop
    b"\xf7\xd5",                 // count: notw %bp
    b"\xeb\xbd",                 // jmp loop
    b"\x89\xfb",                 // number: movw %di, %bx
    b"\x47",                     // incw %di
    b"\xb1\x04",                 // movb $4, %cl
    b"\xc1\xc3\x04",             // digit: rolw $4, %bx
    b"\x88\xd8",                 // movb %bl, %al
    b"\x24\x0f",                 // andb $15, %al
    b"\x3c\x0a",                 // cmpb $10, %al
    b"\x1c\x69",                 // sbbb $0x69, %al
    b"\x2f",                     // das
    b"\xe8\x33\x00",             // call putc
    b"\xfe\xc9",                 // decb %cl
    b"\x75\xed",                 // jnz digit
    b"\xbe\xf0\x7c",             // movw $newline, %si
    b"\xe8\x1f\x00",             // call print
    b"\xeb\x9d",                 // jmp loop
    b"\xbe\xd0\x7c",             // button: movw $pressed, %si
    b"\xe8\x17\x00",             // call print
    b"\xba\x04\x06",             // off: movw $0x604, %dx ; PM1_CNT: S5
    b"\xb8\x00\x20",             // movw $0x2000, %ax
    b"\xef",                     // outw %ax, %dx
    b"\xf4",                     // stop: hlt
    b"\xeb\xfd",                 // jmp stop
    b"\xb0\xfe",                 // reboot: movb $0xfe, %al
    b"\xe6\x64",                 // outb %al, $0x64
    b"\xeb\xf7",                 // jmp stop
    b"\x50",                     // tick: pushw %ax
    b"\xb0\x20",                 // movb $0x20, %al
    b"\xe6\x20",                 // outb %al, $0x20
    b"\x58",                     // popw %ax
    b"\xcf",                     // iret
    b"\xac",                     // print: lodsb
    b"\x84\xc0",                 // testb %al, %al
    b"\x74\x12",                 // jz done
    b"\xe8\x02\x00",             // call putc
    b"\xeb\xf6",                 // jmp print
    b"\x50",                     // putc: pushw %ax
    b"\xba\xfd\x03",             // movw $0x3fd, %dx
    b"\xec",                     // wait: inb %dx, %al
    b"\xa8\x20",                 // testb $0x20, %al
    b"\x74\xfb",                 // jz wait
    b"\x58",                     // popw %ax
    b"\xb2\xf8",                 // movb $0xf8, %dl
    b"\xee",                     // outb %al, %dx
    b"\xc3",                     // done: ret
    b"guest: hello\r\n\0",       // hello:
    b"guest: button\r\n\0",      // pressed:
    b"guest: ignoring\0",        // ignoring:
    b"\r\n\0",                   // newline:
];
