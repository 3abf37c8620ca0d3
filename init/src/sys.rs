//! System calls that no crate of ours wraps. The only module of this crate with `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// finit_module(2): loads a kernel module without parameters.
///
/// # Errors
/// The kernel's.
pub fn finit_module(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the parameters are a C string that lives for ever.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// fnmatch(3) without flags, for tests of our own.
#[cfg(test)]
pub fn fnmatch(pattern: &std::ffi::CStr, text: &std::ffi::CStr) -> bool {
    // SAFETY: both are C strings for the time of the call.
    unsafe { fnmatch_raw(pattern.as_ptr(), text.as_ptr(), 0) == 0 }
}

#[cfg(test)]
unsafe extern "C" {
    #[link_name = "fnmatch"]
    fn fnmatch_raw(
        pattern: *const libc::c_char,
        text: *const libc::c_char,
        flags: libc::c_int,
    ) -> libc::c_int;
}

/// Puts a file behind a free loop device (loop(4), LOOP_CONFIGURE), read-only, gone with its last user; the device's
/// number.
///
/// # Errors
/// When there is no loop driver, or no free device.
pub fn loop_attach(file: &File) -> io::Result<(u32, File)> {
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    // Another may take the same free device first.
    for _ in 0..16 {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        let number = u32::try_from(number).map_err(|_| io::Error::last_os_error())?;
        let device = File::options().read(true).open(format!("/dev/loop{number}"))?;
        let mut config = LoopConfig { fd: file.as_raw_fd() as u32, ..LoopConfig::default() };
        config.info.flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
        // SAFETY: the argument is a loop_config (linux/loop.h) that lives for the call; the kernel only reads it.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) } == 0 {
            return Ok((number, device));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error);
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
#[derive(Default)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Default for LoopInfo64 {
    fn default() -> Self {
        // SAFETY: every field is a number or an array of numbers, for which zero is a value.
        unsafe { std::mem::zeroed() }
    }
}

/// Opens a socket that hears of devices as they come and go (netlink(7), NETLINK_KOBJECT_UEVENT).
///
/// # Errors
/// The kernel's.
pub fn uevent_socket() -> io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::KOBJECT_UEVENT))?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, 1))?;
    Ok(socket)
}

/// Puts a descriptor in the place of standard input, output and error.
///
/// # Errors
/// The kernel's.
pub fn become_stdio(fd: BorrowedFd<'_>) -> io::Result<()> {
    rustix::stdio::dup2_stdin(fd)?;
    rustix::stdio::dup2_stdout(fd)?;
    rustix::stdio::dup2_stderr(fd)?;
    Ok(())
}
