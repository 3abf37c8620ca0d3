//! System calls that no crate of ours wraps. The only module of this crate with `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// finit_module(2): loads a kernel module, with parameters as a module takes them. The kernel unpacks a compressed one,
/// if it was built to.
///
/// # Errors
/// The kernel's.
pub fn finit_module(file: &File, parameters: &str, compressed: bool) -> io::Result<()> {
    const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;
    let parameters = std::ffi::CString::new(parameters)?;
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the descriptor is open and the text a C string for the time of the call; the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags) };
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

/// Sets the flag IFF_UP of `lo` (netdevice(7)); the kernel gives it its addresses.
///
/// # Errors
/// The kernel's.
pub fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: zero is a value of every field of ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the ifreq, which lives for the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Open files and processes: as many as a node of containers needs.
///
/// # Errors
/// The kernel's.
pub fn raise_limits() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    const FILES: u64 = 1 << 20;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum: Some(FILES) })?;
    setrlimit(Resource::Nproc, Rlimit { current: None, maximum: None })?;
    Ok(())
}

/// Blocks the signals that PID 1 reads from a descriptor, and gives that descriptor (signalfd(2)).
///
/// # Errors
/// The kernel's.
pub fn signal_descriptor(signals: &[i32]) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: sigemptyset makes the set a value; the others read and change it; signalfd gives a new descriptor, or -1.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The next signal that arrived at a descriptor of [`signal_descriptor`].
pub fn next_signal(fd: &std::os::fd::OwnedFd) -> Option<i32> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        // The number is the first field.
        Ok(len) if len == info.len() => Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
        _ => None,
    }
}

/// Reaps a dead child, a given one or any: its pid, its exit code or the signal that ended it.
pub fn reap(only: Option<i32>) -> Option<(i32, Result<i32, i32>)> {
    let mut status = 0;
    // SAFETY: `status` is a local of the right type.
    let pid = unsafe { libc::waitpid(only.unwrap_or(-1), &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    Some((
        pid,
        if libc::WIFEXITED(status) { Ok(libc::WEXITSTATUS(status)) } else { Err(libc::WTERMSIG(status)) },
    ))
}

/// Enters the network namespace of a process; for a child that goes away.
///
/// # Errors
/// The kernel's.
pub fn enter_net(pid: i32) -> io::Result<()> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Sends a signal to a process, or with -1 to all but PID 1.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: kill takes numbers only; that the process is gone already is no error here.
    unsafe { libc::kill(pid, signal) };
}

/// True if there are children, alive or not reaped.
pub fn has_children() -> bool {
    // SAFETY: zero is a value of siginfo_t, which waitid fills; WNOWAIT leaves the child as it is.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_ALL, 0, &mut info, flags) == 0
    }
}

/// Waits until a child ends, with SIGCHLD blocked, or the time is over.
pub fn wait_for_child(within: std::time::Duration) {
    // SAFETY: the set and the time are locals; sigtimedwait takes a pending SIGCHLD, which reaping follows anyway.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        let time = libc::timespec {
            tv_sec: within.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(within.subsec_nanos()),
        };
        libc::sigtimedwait(&set, std::ptr::null_mut(), &time);
    }
}

/// Makes a child that does something and ends with its result, with no signal blocked; the parent gets the child's pid.
/// For single-threaded programs only.
///
/// # Errors
/// When no child can be made.
pub fn fork(work: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: PID 1 has one thread, so the child's copy of the heap is whole and may be used.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: zero is a value of sigset_t, which sigemptyset fills; sigprocmask reads it.
            unsafe {
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            }
            let code = work();
            // SAFETY: ends the child without running what the parent registered for its own exit.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}

/// The memory that a process gives back to the kernel when it has let go of much (malloc_trim(3)).
pub fn trim_heap() {
    // SAFETY: it only gives back pages of the heap that nothing is in.
    unsafe { libc::malloc_trim(0) };
}
