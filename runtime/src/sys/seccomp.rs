//! Installing a seccomp filter.

use super::checked;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `struct sock_filter`: one instruction of classic BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip when the comparison holds.
    pub jt: u8,
    /// How many instructions to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

#[repr(C)]
struct SockFprog {
    len: u16,
    filter: *const SockFilter,
}

/// Installs `program` for the calling process with the `SECCOMP_FILTER_FLAG_*` of `flags`.
///
/// Returns the notification descriptor when `flags` asks for one (`NEW_LISTENER`). The caller has
/// either `no_new_privs` set or CAP_SYS_ADMIN in its user namespace.
pub fn install(program: &[SockFilter], flags: u64) -> io::Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    const NEW_LISTENER: u64 = 1 << 3;
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog = SockFprog { len, filter: program.as_ptr() };
    // SAFETY: `fprog` names `len` valid instructions, and both outlive the call.
    let value = checked(unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const fprog)
    })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER the call returns a descriptor that it opened for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(value as RawFd) }))
}
